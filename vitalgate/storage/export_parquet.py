"""Views as Parquet files, streamed: memory stays the same however much there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.connect import Connection, connect
from vitalgate.storage.errors import StorageError, transient
from vitalgate.storage.packing import unpack

ROWS = 20_000
WAVEFORM_ROWS = 200
"""Rows in one batch; a waveform row may hold a hundred thousand samples."""


@dataclass(frozen=True)
class View:
    """A view that can be exported."""

    name: str
    time: str = ""
    """Column that a stretch of time selects by; none for what has no time."""
    patient: bool = True
    """Whether rows belong to a patient."""


VIEWS = {
    view.name: view
    for view in (
        View("readings", "time"),
        View("readings_current", "time"),
        View("waveforms", "time"),
        View("beats", "time"),
        View("beat_blocks", "time"),
        View("features", "time"),
        View("alerts", "onset"),
        View("alert_events", "onset"),
        View("device_status", "time"),
        View("readings_by_minute", "time"),
        View("readings_by_hour", "time"),
        View("readings_by_day", "day"),
        View("devices"),
        View("assignments"),
        View("patients"),
        View("recordings", "last_time", patient=False),
        View("dead_letters", "received_at", patient=False),
        View("audit_events", "time", patient=False),
    )
}
DEFAULT = ("readings", "waveforms", "beats", "features", "alerts", "devices", "assignments", "patients")

_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "double precision": pa.float64(),
    "integer": pa.int32(),
    "smallint": pa.int32(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "jsonb": pa.string(),
    "uuid": pa.string(),
    "bytea": pa.binary(),
    "text[]": pa.list_(pa.string()),
    "integer[]": pa.list_(pa.int32()),
    "bigint[]": pa.list_(pa.int64()),
}
_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a
    WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


@dataclass(frozen=True)
class Written:
    """One file."""

    path: Path
    rows: int


def export(
    database: DatabaseSettings,
    folder: Path,
    *,
    start: datetime | None = None,
    stop: datetime | None = None,
    patient: str | None = None,
    views: Sequence[str] = DEFAULT,
) -> Iterator[Written]:
    """Write `folder/VIEW.parquet` for each view, all from one snapshot; yields each file when it is done.

    Parameters
    ----------
    start, stop
        Only rows of [start, stop), by event time (alerts by onset, dead letters by arrival).
    patient
        Only this patient's rows; views that know no patient are refused then.

    Raises
    ------
    StorageError
        For an unknown view, or one that does not go with `patient`.
    TransientDatabaseError
        When the database is away.
    """
    chosen = [_chosen(name, patient) for name in views]
    folder.mkdir(parents=True, exist_ok=True)
    with transient(), connect(database, "export", views=True) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for view in chosen:
            yield _write(connection, view, folder / f"{view.name}.parquet", start, stop, patient)


def _chosen(name: str, patient: str | None) -> View:
    if name not in VIEWS:
        raise StorageError(f"there is no view {name!r} to export; there are {', '.join(VIEWS)}")
    if patient is not None and not VIEWS[name].patient:
        raise StorageError(f"view {name!r} knows no patient; leave it out, or leave out the patient")
    return VIEWS[name]


def _write(
    connection: Connection, view: View, path: Path, start: datetime | None, stop: datetime | None, patient: str | None
) -> Written:
    columns = connection.execute(_COLUMNS, (view.name,)).fetchall()
    decode = view.name == "waveforms"
    schema = pa.schema([pa.field(name, _TYPES[kind]) for name, kind in columns if not (decode and name == "codec")])
    if decode:
        schema = schema.set(schema.get_field_index("samples"), pa.field("samples", pa.list_(pa.int32())))
    conditions: list[sql.Composable] = []
    for bound, sign in ((start, ">="), (stop, "<")):
        if bound is not None and view.time:
            conditions.append(sql.SQL("{} " + sign + " {}").format(sql.Identifier(view.time), sql.Literal(bound)))
    if patient is not None:
        conditions.append(sql.SQL("patient_id = {}").format(sql.Literal(patient)))
    where = sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")
    order = sql.SQL(" ORDER BY {}").format(sql.Identifier(view.time)) if view.time else sql.SQL("")
    names = [name for name, _ in columns]
    written = 0
    with (
        connection.cursor(f"export_{view.name}", binary=True) as cursor,
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
    ):
        cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(view.name)) + where + order)
        while rows := cursor.fetchmany(WAVEFORM_ROWS if decode else ROWS):
            table = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
            if decode:
                _decode(table)
            arrays = [pa.array([_plain(v) for v in table[field.name]], type=field.type) for field in schema]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            written += len(rows)
    return Written(path, written)


def _decode(table: dict[str, list[Any]]) -> None:
    """Packed samples to lists of integers."""
    codecs = table.pop("codec")
    table["samples"] = [
        unpack(codec, packed, count)
        for codec, packed, count in zip(codecs, table["samples"], table["count"], strict=True)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    if value is None or isinstance(value, (str, int, float, bytes, list, datetime)):
        return value
    return str(value) if type(value).__name__ == "UUID" else value
