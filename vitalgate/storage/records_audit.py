"""Audit events of records: written in the transaction of what they tell, and taken to audit.inbox by the registrar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from vitalgate.records.record_type import RecordType
from vitalgate.storage.records_database import Transaction

if TYPE_CHECKING:
    from vitalgate.storage.connect import Connection
    from vitalgate.storage.records_read import Record

#: Reading one's own sessions or account is not reading a patient's record.
_UNSAID = frozenset({"session", "user", "audit_log"})
_AUDIT = "SELECT audit(%s, %s, %s, %s, %s, %s)"


def audit(
    tx: Transaction, action: str, entity_type: str, entity_id: str, *, patient: str | None = None,
    outcome: str = "success", detail: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Write one event in the name of whoever acts; its id.

    Parameters
    ----------
    action
        RECORD.VERB, such as file.read.
    patient
        Whose record it is about: that patient sees the event.
    detail
        Counts and identities; never a value.
    """
    row = tx.execute(_AUDIT, _values(action, entity_type, entity_id, patient, outcome, detail)).fetchone()
    assert row is not None
    return str(row[0])


def tell(
    tx: Transaction, action: str, entity_type: str, entity_id: str, *, patient: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """The same, when nobody asks for the id: in a transaction that only reads it goes with the end."""
    tx.execute(_AUDIT, _values(action, entity_type, entity_id, patient, "success", detail))


def _values(
    action: str, kind: str, entity: str, patient: str | None, outcome: str, detail: Mapping[str, Any] | None
) -> tuple[Any, ...]:
    return (action, kind, entity, patient, outcome, orjson.dumps(dict(detail or {})).decode())


def read(tx: Transaction, kind: RecordType, rows: Sequence[Record], *, versions: int = 0) -> None:
    """Say that these records were read: one event a patient, naming the record when it is one."""
    if not rows or tx.actor is None or kind.name in _UNSAID:
        return
    counts = Counter(row.values.get("patient") for row in rows)
    one = rows[0].id if len(rows) == 1 else ""
    for patient, count in counts.items():
        detail: dict[str, Any] = {"count": count, "via": tx.actor.via}
        if versions:
            detail["versions"] = versions
        tell(tx, f"{kind.name}.read", kind.name, one, patient=patient, detail=detail)


# --- to the chain ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Waiting:
    """One event that is not on audit.inbox yet."""

    n: int
    event_id: str
    who: str
    action: str
    entity_type: str
    entity_id: str
    at: datetime
    place: str
    outcome: str
    detail: dict[str, Any]


def waiting(connection: Connection, limit: int = 500) -> list[Waiting]:
    """Events that have not been sent, oldest first. The connection is the owner's."""
    rows = connection.execute(
        "SELECT n, event_id, who, action, entity_type, entity_id, at, place, outcome, detail FROM audit_outbox"
        " WHERE sent_at IS NULL ORDER BY n LIMIT %s",
        (limit,),
    ).fetchall()
    return [Waiting(*row) for row in rows]


def mark_sent(connection: Connection, numbers: Sequence[int]) -> None:
    """Kafka has these."""
    connection.execute("UPDATE audit_outbox SET sent_at = now() WHERE n = ANY(%s)", (list(numbers),))
