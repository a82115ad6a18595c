"""Threads of messages: the latest of each, what is unread, what is kept."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from vitalgate.records.catalogue import RECORDS
from vitalgate.storage.records_audit import read
from vitalgate.storage.records_database import RecordsDatabase, Transaction
from vitalgate.storage.records_read import Record, _rows

#: Read and not withdrawn by the acting user's own doing: to whom a message counts as new.
_NEW = (
    "read_at IS NULL AND withdrawn_at IS NULL AND from_user <> setting('user')"
    " AND (to_user = setting('user') OR (to_user IS NULL AND on_side(to_side)))"
)


@dataclass(frozen=True)
class Thread:
    """One conversation."""

    conversation_id: str
    patient: str
    last: Record
    unread: int


def threads(tx: Transaction, patient: str | None = None, limit: int = 100) -> list[Thread]:
    """Conversations that may be seen, the one with the newest message first."""
    kind = RECORDS["message"]
    inner = sql.SQL(
        "(SELECT DISTINCT ON (conversation_id) * FROM messages"
        " WHERE (%(patient)s::text IS NULL OR patient_id = %(patient)s)"
        " ORDER BY conversation_id, sent_at DESC, id) AS t"
    )
    values = {"patient": patient, "most": limit}
    rest = sql.SQL(" ORDER BY sent_at DESC, id LIMIT %(most)s")
    rows = _rows(tx, kind, rest, values, source=inner)
    read(tx, kind, rows)
    fresh = unread_by_thread(tx, patient)
    return [
        Thread(str(row.values["conversation_id"]), str(row.values["patient"]), row,
               fresh.get(str(row.values["conversation_id"]), 0))
        for row in rows
    ]  # fmt: skip


def unread_by_thread(tx: Transaction, patient: str | None = None) -> dict[str, int]:
    """How many messages to the acting user are unread, by conversation; those without any are left out."""
    rows = tx.execute(
        f"SELECT conversation_id, count(*) FROM messages WHERE {_NEW}"  # noqa: S608  a constant
        " AND (%(patient)s::text IS NULL OR patient_id = %(patient)s) GROUP BY conversation_id",
        {"patient": patient},
    ).fetchall()
    return dict(rows)


def unread(tx: Transaction) -> dict[str, int]:
    """How many messages to the acting user are unread, by patient."""
    rows = tx.execute(
        f"SELECT patient_id, count(*) FROM messages WHERE {_NEW} GROUP BY patient_id"  # noqa: S608  a constant
    ).fetchall()
    return dict(rows)


def hold(tx: Transaction, conversation_id: str, on: bool) -> int:
    """Keep a thread beyond the retention policy (legal hold), or no longer; how many messages changed.

    Raises NotAllowed for anybody but an administrator, who need not see what it says.
    """
    row = tx.execute("SELECT hold_thread(%s, %s)", (conversation_id, on)).fetchone()
    assert row is not None
    return int(row[0])


def purge(database: RecordsDatabase, days: int) -> int:
    """Remove the words of messages that are older than the retention policy and under no legal hold; how many.

    The message itself stays, empty and withdrawn, in every version: that it was sent is kept, what it said is not.
    Housekeeping does it by itself (setting `database.message_days`); an audit event says how many.
    """
    with database.service("service:retention") as tx:
        row = tx.execute(
            "SELECT expire_messages(array_agg(id)) FROM messages WHERE sent_at < now() - make_interval(days => %s)"
            " AND NOT legal_hold AND body <> ''",
            (days,),
        ).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])
