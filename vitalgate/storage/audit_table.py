"""The audit trail in its table: rows made from records, and records read back for verification."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson

from vitalgate.audit.anchors import AnchorError, anchor_of, dump, parse
from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.connect import connect
from vitalgate.storage.deadletters import clean
from vitalgate.storage.errors import transient
from vitalgate.storage.times import EPOCH, parse_time

INSERT = """
    INSERT INTO audit_events (time, n, event_id, who, action, entity_type, entity_id, place, outcome, checkpoint,
        inbox_offset, previous_hash, hash, record)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""
INSERT_ANCHOR = """
    INSERT INTO audit_anchors (n, hash, key_id, record) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_TRAIL = """
    SELECT time, n, event_id, who, action, entity_type, entity_id, place, outcome, checkpoint, inbox_offset,
    previous_hash,
           hash, record
    FROM audit_events ORDER BY n, checkpoint, time
"""
_NAMES = (
    "when", "n", "event_id", "who", "action", "entity_type", "entity_id", "where", "outcome", "checkpoint",
    "inbox_offset",
    "previous_hash", "hash",
)  # fmt: skip


def row(record: bytes) -> tuple[Any, ...]:
    """The columns of a record of audit.events. What an event may hold is not ours to refuse: odd values become text.

    Raises
    ------
    KeyError, ValueError
        When it is no link of a chain at all: not a JSON object, or without number or hash.
    """
    event = orjson.loads(record)
    if not isinstance(event, dict):
        raise ValueError(f"a record of the trail is {type(event).__name__}, not an object")
    return (
        _time(event.get("when")), _whole(event["n"]), _text(event.get("event_id")), _text(event.get("who")),
        _text(event.get("action")), _text(event.get("entity_type")), _text(event.get("entity_id")),
        _text(event.get("where")), _text(event.get("outcome")), bool(event.get("checkpoint", False)),
        None if (offset := event.get("inbox_offset")) is None else _whole(offset),
        None if (previous := event.get("previous_hash")) is None else _text(previous), _text(event["hash"]), record,
    )  # fmt: skip


def anchor_row(record: bytes) -> tuple[Any, ...] | None:
    """The columns of the anchor that a checkpoint makes; None when the record is no signed checkpoint."""
    event = orjson.loads(record)
    if not event.get("checkpoint") or not _is_anchor(event):
        return None
    return (event["n"], _text(event["hash"]), _text(event.get("key_id")), dump([anchor_of(event)]).encode())


def _is_anchor(event: dict[str, Any]) -> bool:
    try:
        return len(parse(dump([anchor_of(event)]))) == 1
    except AnchorError:
        return False


def _whole(value: object) -> int:
    """A whole number that a bigint can hold."""
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise ValueError(f"{str(value)[:40]!r} is not a whole number of 64 bits")
    return value


def _text(value: object) -> str:
    if value is None:
        return ""
    return clean(value if isinstance(value, str) else json.dumps(value))


def _time(value: object) -> datetime:
    """The event's time; 1970 when it has none that can be read."""
    try:
        return (parse_time(value) if isinstance(value, str) else None) or EPOCH
    except ValueError:
        return EPOCH


def read_trail(database: DatabaseSettings) -> Iterator[bytes]:
    """The records of the trail in their order, as JSON, from one snapshot.

    A row whose columns say something else than its record comes out with a field that says so, and whoever verifies the
    chain finds its hash broken: the columns are what people read.

    Raises
    ------
    TransientDatabaseError
        When the database is away.
    """
    with transient(), connect(database, "audit") as connection, connection.cursor("trail", binary=True) as cursor:
        cursor.itersize = 1000
        cursor.execute(_TRAIL)
        for *columns, record in cursor:
            yield _as_read(record, columns)


def read_anchors(database: DatabaseSettings) -> list[dict[str, Any]]:
    """The anchors in the database, by number. Raises TransientDatabaseError when the database is away."""
    with transient(), connect(database, "audit") as connection:
        rows = connection.execute("SELECT record FROM audit_anchors ORDER BY n, stored_at", binary=True).fetchall()
    return parse("".join(bytes(record).decode() for (record,) in rows), "the table audit_anchors")


def _as_read(record: bytes, columns: list[Any]) -> bytes:
    try:
        expected = row(record)
    except (KeyError, ValueError):
        return b"{}"  # no link of a chain
    other = [name for name, told, said in zip(_NAMES, columns, expected, strict=False) if told != said]
    # A further field is enough: the hash is over all of the event.
    return orjson.dumps({**orjson.loads(record), "columns_differ": other}) if other else record
