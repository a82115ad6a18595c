"""Changes for live queries: numbered once they are committed, read by position, delivered to who may see them now.

A transaction writes what it changed; whoever reads first numbers what is committed, under a lock. So a position that
was read is never followed by an earlier one, however late a transaction commits, and a reader goes on from the last
position it has. NOTIFY only wakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vitalgate.storage.records_database import Actor, RecordsDatabase

CHANNEL = "records"
"""NOTIFY channel; the payload is the schema, since one database may hold several deployments."""


@dataclass(frozen=True)
class Change:
    """Something that happened to a record.

    Attributes
    ----------
    position
        Rises; the cursor of a live query.
    record, id, verb, version, status
        Which record, what was done, and its version and state afterwards. `device_data` has no id: one change tells
        of all readings of a patient that came in one batch, and `detail` of which (metrics, from, to, offsets).
    """

    position: int
    record: str
    id: str
    patient: str | None
    verb: str
    version: int
    status: str | None
    at: datetime
    detail: dict[str, Any]


_DELIVER = """
    WITH watching AS (
        SELECT w.n, w.user_id, w.role FROM unnest(%(n)s::integer[], %(users)s::text[], %(roles)s::text[])
            AS w (n, user_id, role)
        JOIN users u ON u.id = w.user_id AND u.status = 'active'
        JOIN user_roles r ON r.user_id = w.user_id AND r.role = w.role),
    told AS (SELECT * FROM changes WHERE position = ANY(%(positions)s)),
    known AS (SELECT * FROM relations WHERE patient_id IN (SELECT patient_id FROM told)),
    seen AS (
        SELECT t.position, w.n, w.user_id, w.role, t.facts, p.condition
        FROM told t
        JOIN permissions p ON p.record = t.record AND p.verb = 'read'
        JOIN watching w ON w.role = p.role
        LEFT JOIN known k ON k.user_id = w.user_id AND k.role = w.role AND k.patient_id = t.patient_id
        WHERE p.relation = coalesce(k.relation, 'stranger'))
    SELECT position, array_agg(n ORDER BY n) FROM seen
    WHERE CASE condition
        WHEN '' THEN true
        WHEN 'published' THEN (facts->>'published')::boolean
        WHEN 'party' THEN coalesce(facts->>'from_user' = user_id, false) OR coalesce(facts->>'to_user' = user_id, false)
            OR (facts->>'to_user' IS NULL AND facts->>'to_side' = CASE role WHEN 'clinician' THEN 'care' ELSE role END)
        ELSE false END
    GROUP BY position
"""


def number(db: RecordsDatabase) -> int:
    """Give committed changes their positions; how many there were. Any process may do it, at any time."""
    with db.service("service:live") as tx:
        row = tx.execute("SELECT number_changes()").fetchone()
    return 0 if row is None else int(row[0])


def read(db: RecordsDatabase, after: int, limit: int = 1000) -> list[Change]:
    """Changes after a position, in order. They are not filtered: `deliver` says who may know of each."""
    with db.service("service:live") as tx:
        rows = tx.execute(
            "SELECT position, record, id, patient_id, verb, version, status, at, detail FROM changes"
            " WHERE position > %s ORDER BY position LIMIT %s",
            (after, limit),
        ).fetchall()
    return [Change(*row) for row in rows]


def newest(db: RecordsDatabase) -> int:
    """The last position there is; 0 before the first."""
    with db.service("service:live") as tx:
        row = tx.execute("SELECT coalesce(max(position), 0) FROM changes").fetchone()
    return 0 if row is None else int(row[0])


def oldest(db: RecordsDatabase) -> int:
    """The first position that is still kept; a cursor more than one below it has missed changes and starts anew."""
    with db.service("service:live") as tx:
        row = tx.execute("SELECT coalesce(min(position), 1) FROM changes").fetchone()
    return 1 if row is None else int(row[0])


def deliver(db: RecordsDatabase, changes: Sequence[Change], watchers: Sequence[Actor]) -> dict[int, list[int]]:
    """Who may know of each change, by the permissions as they are now: positions in `watchers`, by change position.

    One statement, whatever their number; changes that nobody may know of are left out.
    """
    if not changes or not watchers:
        return {}
    with db.service("service:live") as tx:
        rows = tx.execute(
            _DELIVER,
            {
                "n": list(range(len(watchers))), "users": [one.user_id for one in watchers],
                "roles": [str(one.role) for one in watchers], "positions": [one.position for one in changes],
            },
        ).fetchall()  # fmt: skip
    return dict(rows)


def forget(db: RecordsDatabase, days: float) -> int:
    """Remove changes older than this (housekeeping); how many. Cursors older than that start anew."""
    with db.service("service:housekeeping") as tx:
        return tx.execute("DELETE FROM changes WHERE at < now() - make_interval(secs => %s)", (days * 86400,)).rowcount
