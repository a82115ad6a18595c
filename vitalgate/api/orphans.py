"""Uploaded files that no record names: found and removed, once no record can be expected to name them any more.

A file is uploaded before the record that names it is written; when that never comes, or the upload's own transaction
was lost, its bytes would lie there for ever. So would those of a message whose words the retention policy took away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from vitalgate.api.file_store import FileStore
from vitalgate.storage.records_audit import audit
from vitalgate.storage.records_database import RecordsDatabase

GRACE: Final = timedelta(days=7)
"""Longer than an application keeps a draft; an upload itself ends within minutes."""
LEAST: Final = timedelta(hours=1)
"""A shorter grace could take a file away from under an upload."""
EVERY_S: Final = 6 * 3600.0
"""How often a process of the API looks."""
_LOCK: Final = 3
_BATCH: Final = 200

#: Named by no record as it is, nor by any earlier version of one: every version is kept, and its files with it.
_UNNAMED = """
    SELECT f.id, f.patient_id, f.size FROM files f
    WHERE f.created_at < %(before)s AND f.id > %(after)s
      AND NOT EXISTS (SELECT FROM messages m WHERE m.patient_id = f.patient_id
                      AND m.attachments @> jsonb_build_array(jsonb_build_object('file', f.id)))
      AND NOT EXISTS (SELECT FROM ecg_reports r WHERE r.patient_id = f.patient_id
                      AND r.report_data @> jsonb_build_array(jsonb_build_object('file', f.id)))
      AND NOT EXISTS (SELECT FROM lab_results l WHERE l.patient_id = f.patient_id
                      AND l.attachments @> jsonb_build_array(jsonb_build_object('file', f.id)))
      AND NOT EXISTS (SELECT FROM record_versions v WHERE v.patient_id = f.patient_id
                      AND position(f.id IN v.doc::text) > 0)
    ORDER BY f.id LIMIT %(most)s FOR UPDATE OF f
"""


@dataclass(frozen=True)
class Removed:
    """What a round found (and, unless it only looked, removed).

    Attributes
    ----------
    unnamed
        Files that no record names.
    strays
        Objects in the store that the database knows nothing of.
    size
        Bytes of both.
    """

    unnamed: int
    strays: int
    size: int


async def tidy(
    database: RecordsDatabase, store: FileStore, *, grace: timedelta = GRACE, look: bool = False,
    now: datetime | None = None,
) -> Removed:  # fmt: skip
    """Remove what nothing names and is older than `grace`; each removal is an audit event.

    Parameters
    ----------
    look
        Only count.

    Raises
    ------
    ValueError
        For a grace below an hour.
    StoreAway
        When the store does not answer; what is left is found the next time.
    """
    if grace < LEAST:
        raise ValueError(f"a grace of {grace} is below {LEAST}: an upload may still be under way; give more")
    before = (now or datetime.now(UTC)) - grace
    count = size = 0
    after = ""
    while True:
        batch = await asyncio.to_thread(_unnamed, database, before, after, look)
        count += len(batch)
        size += sum(one[2] for one in batch)
        if not look:
            # The row is gone and committed first: an object that is left over by a fault is a stray, and found as one.
            for identity, _, _ in batch:
                await store.delete(identity)
        if len(batch) < _BATCH:
            break
        after = batch[-1][0]
    strays = 0
    async for found in store.older_than(before):
        for identity, length in await asyncio.to_thread(_unknown, database, found, look):
            strays += 1
            size += length
            if not look:
                await store.delete(identity)
    return Removed(count, strays, size)


def _unnamed(database: RecordsDatabase, before: datetime, after: str, look: bool) -> list[tuple[str, str, int]]:
    """Rows of files that nothing names; they are deleted, unless it only looks."""
    with database.service("service:files") as tx:
        # One process at a time; records that name a file wait for nothing.
        tx.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))", (tx.names.records, _LOCK))
        rows = tx.execute(_UNNAMED, {"before": before, "after": after, "most": _BATCH}).fetchall()
        if not look:
            for identity, patient, length in rows:
                detail = {"because": "no record names it", "size": length}
                audit(tx, "file.remove", "file", identity, patient=patient, detail=detail)
            tx.execute("DELETE FROM files WHERE id = ANY(%s)", ([row[0] for row in rows],))
    return [(str(identity), str(patient), int(length)) for identity, patient, length in rows]


def _unknown(database: RecordsDatabase, found: Sequence[tuple[str, int]], look: bool) -> list[tuple[str, int]]:
    """Of objects in the store, those without a row; their removal is audited before it is done."""
    with database.service("service:files") as tx:
        rows = tx.execute("SELECT id FROM files WHERE id = ANY(%s)", ([identity for identity, _ in found],)).fetchall()
        known = {row[0] for row in rows}
        strays = [one for one in found if one[0] not in known]
        if not look:
            for identity, length in strays:
                detail = {"because": "the database does not know it", "size": length}
                audit(tx, "file.remove", "file", identity, detail=detail)
    return strays
