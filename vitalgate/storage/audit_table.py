"""The audit trail as the table holds it, for verification."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from psycopg import sql

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.connect import connect, names

#: Columns beside the record, and the field each repeats.
_COLUMNS = {
    "n": "n", "event_id": "event_id", "who": "who", "action": "action", "entity_type": "entity_type",
    "entity_id": "entity_id", "place": "where", "outcome": "outcome", "inbox_offset": "inbox_offset",
    "previous_hash": "previous_hash", "hash": "hash",
}  # fmt: skip


def read_trail(settings: DatabaseSettings) -> Iterator[bytes]:
    """Records in the order of the chain, as JSON.

    What the columns say takes the place of what the record says, so that a change in either gives another hash.

    Raises
    ------
    StorageError
        When the database cannot be reached or the table is not there.
    """
    query = sql.SQL("SELECT record, time, {} FROM {} ORDER BY n, checkpoint").format(
        sql.SQL(", ").join(map(sql.Identifier, _COLUMNS)), sql.Identifier(names(settings).data, "audit_events")
    )
    with connect(settings, "audit-verify") as connection, connection.cursor(name="trail") as cursor:
        cursor.itersize = 5000
        for raw, time, *values in cursor.execute(query):
            try:
                record = json.loads(raw)
            except ValueError:
                record = {}
            for field, value in zip(_COLUMNS.values(), values, strict=True):
                if record.get(field, _absent(value)) != value:
                    record[field] = value
            when = record.get("when")
            if when is not None and datetime.fromisoformat(when) != time:
                record["when"] = time.isoformat()
            yield json.dumps(record).encode()


def _absent(value: object) -> object:
    """What a column holds for a field that the record does not have."""
    return value if value in ("", None, "audit.checkpoint") else object()
