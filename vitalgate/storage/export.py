"""Data out of the database as files that other tools read: Parquet of the views, WFDB of the waveforms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import wfdb
from psycopg import sql

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.connect import Connection, connect, names
from vitalgate.storage.errors import StorageError, transient
from vitalgate.storage.waveforms import Stretch, Waveforms

#: Views that are exported, and the column that a time range is about.
VIEWS = {
    "readings": "time", "readings_current": "time", "beats": "time", "features": "time", "alerts": "onset",
    "alert_events": "onset", "waveforms": "time", "device_status": "time", "dead_letters": "received_at",
    "audit_events": "time", "readings_by_minute": "time", "readings_by_hour": "time", "readings_by_day": None,
    "recordings": "first_time", "devices": None, "assignments": None, "patients": None,
}  # fmt: skip
ROWS = 20_000
#: A gap in a WFDB signal of format 32.
_WFDB_GAP = -(2**31)

_TYPES: dict[str, pa.DataType] = {
    "timestamptz": pa.timestamp("us", tz="UTC"), "float8": pa.float64(), "int2": pa.int16(), "int4": pa.int32(),
    "int8": pa.int64(), "bool": pa.bool_(), "bytea": pa.binary(), "date": pa.date32(), "_text": pa.list_(pa.string()),
    "_int4": pa.list_(pa.int32()),
}  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    path: Path
    rows: int


def to_parquet(
    database: DatabaseSettings,
    view: str,
    path: Path,
    *,
    start: datetime | None = None,
    stop: datetime | None = None,
    patient: str | None = None,
) -> Exported:
    """Write the rows of a view, in batches, so that memory stays small however many there are.

    Parameters
    ----------
    view
        A key of VIEWS.
    start, stop
        Event time [start, stop); None is open.
    patient
        Only this patient's rows.

    Raises
    ------
    StorageError
        When the view has no patient or no time to choose by, or the database is away.
    """
    with transient(), connect(database, "export", views=True) as connection, connection.cursor(name="export") as cursor:
        cursor.itersize = ROWS
        columns = _columns(connection, names(database).schema, view)
        cursor.execute(_query(database, view, [name for name, _ in columns], start, stop, patient))
        schema = pa.schema([(name, _TYPES.get(kind, pa.string())) for name, kind in columns])
        rows = 0
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            while batch := cursor.fetchmany(ROWS):
                rows += len(batch)
                writer.write_batch(_batch(batch, schema))
    return Exported(path, rows)


def _columns(connection: Connection, schema: str, view: str) -> list[tuple[str, str]]:
    query = "SELECT column_name, udt_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
    return [(name, kind) for name, kind in connection.execute(query + " ORDER BY ordinal_position", (schema, view))]


def _query(
    database: DatabaseSettings,
    view: str,
    columns: Sequence[str],
    start: datetime | None,
    stop: datetime | None,
    patient: str | None,
) -> sql.Composed:
    time = VIEWS[view]
    wanted: list[sql.Composable] = []
    if patient is not None:
        if "patient_id" not in columns:
            raise StorageError(f"{view} has no patient_id; export it without --patient")
        wanted.append(sql.SQL("patient_id = {}").format(sql.Literal(patient)))
    if (start or stop) and time is None:
        raise StorageError(f"{view} has no time to choose by; export it without --from and --to")
    for bound, sign in ((start, ">="), (stop, "<")):
        if bound is not None and time is not None:
            wanted.append(sql.SQL(f"{{}} {sign} {{}}").format(sql.Identifier(time), sql.Literal(bound)))
    where = sql.SQL(" WHERE ") + sql.SQL(" AND ").join(wanted) if wanted else sql.SQL("")
    order = sql.SQL(" ORDER BY {}").format(sql.Identifier(time)) if time else sql.SQL("")
    place = sql.Identifier(names(database).schema, view)
    return sql.SQL("SELECT * FROM {}").format(place) + where + order


def _batch(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = []
    for field, values in zip(schema, zip(*rows, strict=True), strict=True):
        if field.type == pa.string():
            values = tuple(_text(value) for value in values)
        arrays.append(pa.array(values, type=field.type))
    return pa.record_batch(arrays, schema=schema)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


_CHANNELS = """
    SELECT DISTINCT device_id, channel FROM waveforms
    WHERE patient_id = %s AND time < %s AND end_time > %s ORDER BY device_id, channel
"""
_BEATS = """
    SELECT sample, kind FROM beats
    WHERE patient_id = %s AND device_id = %s AND recording = %s AND channel = %s AND sample >= %s AND sample < %s
    ORDER BY sample
"""


def to_wfdb(
    database: DatabaseSettings, patient: str, folder: Path, *, start: datetime, stop: datetime
) -> list[Exported]:
    """Write a patient's waveforms as WFDB records (format 32, gaps as invalid samples), with beats as `.atr`.

    One record for each device, recording and rate; its signals are the channels. Samples are those the device sent,
    with gain and baseline in the header.

    Raises
    ------
    StorageError
        When the database is away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with transient(), connect(database, "export", views=True, autocommit=True) as connection:
        channels = connection.execute(_CHANNELS, (patient, stop, start)).fetchall()
    groups: dict[tuple[Any, ...], list[Stretch]] = {}
    with transient(), connect(database, "export", autocommit=True) as connection:
        reader = Waveforms(connection)
        for device, channel in channels:
            for stretch in reader.read(device, channel, start, stop):
                groups.setdefault((device, stretch.recording, stretch.rate), []).append(stretch)
    with transient(), connect(database, "export", views=True, autocommit=True) as connection:
        for number, ((device, recording, _), stretches) in enumerate(sorted(groups.items(), key=_by_start), 1):
            name = f"{_plain(device)}_{_plain(recording)}_{number}"
            written.append(_write_record(folder, name, stretches))
            first = min(stretch.first for stretch in stretches)
            last = max(stretch.stop for stretch in stretches)
            for stretch in stretches:
                beats = connection.execute(
                    _BEATS, (patient, device, recording, stretch.channel, first, last)
                ).fetchall()
                if beats:
                    _write_beats(folder, name, beats, first)
                    break
    return written


def _by_start(item: tuple[tuple[Any, ...], list[Stretch]]) -> datetime:
    return min(stretch.start for stretch in item[1])


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in name)


def _write_record(folder: Path, name: str, stretches: Sequence[Stretch]) -> Exported:
    first = min(stretch.first for stretch in stretches)
    stop = max(stretch.stop for stretch in stretches)
    samples = np.full((stop - first, len(stretches)), _WFDB_GAP, np.int64)
    for column, stretch in enumerate(stretches):
        low = stretch.first - first
        samples[low : low + len(stretch.samples), column] = np.where(stretch.present, stretch.samples, _WFDB_GAP)
    anchor = min(stretches, key=lambda stretch: stretch.first)
    begin = anchor.start.astimezone(UTC).replace(tzinfo=None)
    wfdb.wrsamp(
        name, fs=float(anchor.rate), units=[stretch.scale.unit for stretch in stretches],
        sig_name=[stretch.channel for stretch in stretches], d_signal=samples, fmt=["32"] * len(stretches),
        adc_gain=[stretch.scale.gain for stretch in stretches],
        baseline=[round(stretch.scale.offset) for stretch in stretches],
        base_date=begin.date(), base_time=begin.time(), write_dir=str(folder),
        comments=[f"first sample {first} of recording {anchor.recording} of device {anchor.device}; times are UTC"],
    )  # fmt: skip
    return Exported(folder / f"{name}.hea", stop - first)


def _write_beats(folder: Path, name: str, beats: Sequence[tuple[int, str]], first: int) -> None:
    symbols = {"N": "N", "S": "S", "V": "V", "F": "F", "Q": "Q"}
    wfdb.wrann(
        name, "atr", np.array([sample - first for sample, _ in beats]),
        symbol=[symbols.get(kind, "N") for _, kind in beats], write_dir=str(folder),
    )  # fmt: skip


def all_views(
    database: DatabaseSettings, folder: Path, *, start: datetime | None, stop: datetime | None, patient: str | None
) -> Iterator[Exported]:
    """Every view that can be chosen by what is given, one Parquet file each."""
    folder.mkdir(parents=True, exist_ok=True)
    with transient(), connect(database, "export", views=True) as connection:
        schema = names(database).schema
        have = {view: [name for name, _ in _columns(connection, schema, view)] for view in VIEWS}
    for view, time in VIEWS.items():
        if not have[view] or (patient is not None and "patient_id" not in have[view]):
            continue
        timed = time is not None
        yield to_parquet(
            database, view, folder / f"{view}.parquet", start=start if timed else None, stop=stop if timed else None,
            patient=patient,
        )  # fmt: skip
