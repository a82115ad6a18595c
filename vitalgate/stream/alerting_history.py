"""History for the simulation of rules: from the database, from exported Parquet files, or from lines of JSON."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg

from vitalgate.alerts.compiling import Zones
from vitalgate.alerts.machine import NEVER
from vitalgate.alerts.rule import Rule
from vitalgate.alerts.rules import Book
from vitalgate.alerts.simulation import Sample
from vitalgate.config.settings import DatabaseSettings
from vitalgate.devices import times
from vitalgate.devices.reasons import Refused
from vitalgate.storage.connect import connect
from vitalgate.storage.errors import StorageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READINGS = """
    SELECT r.patient_id, r.time, r.metric, r.value, r.code, r.comparator, r.device_id, d.kind, r.site, r.index, r.flags
    FROM {schema}.readings_current r LEFT JOIN {schema}.devices d USING (device_id)
    WHERE r.patient_id IS NOT NULL AND r.time >= %(start)s AND r.time < %(stop)s
      AND (%(patient)s::text IS NULL OR r.patient_id = %(patient)s)
      AND (r.metric = ANY(%(metrics)s) OR (%(flagged)s AND cardinality(r.flags) > 0) OR d.kind = ANY(%(kinds)s))
    ORDER BY r.time, r.device_id, r.metric, r.index
"""
_FEATURES = """
    SELECT patient_id, time, name, value, end_time, device_id, recording, channel, first_sample
    FROM {schema}.features
    WHERE patient_id IS NOT NULL AND time >= %(start)s AND time < %(stop)s
      AND (%(patient)s::text IS NULL OR patient_id = %(patient)s) AND name = ANY(%(features)s)
    ORDER BY time, device_id, name
"""

_PATIENTS = """
    SELECT p.patient_id, p.overrides, array_agg(nullif(z.since, '-infinity') ORDER BY z.since),
           array_agg(z.zone ORDER BY z.since)
    FROM {schema}_data.patients p JOIN {schema}_data.patient_zones z USING (patient_id)
    GROUP BY p.patient_id, p.overrides
"""


class HistoryError(Exception):
    """The history cannot be read; the text says what, and the remedy."""


def wanted(rule: Rule) -> tuple[list[str], list[str], bool, list[str]]:
    """Metrics, features, whether flags, and kinds of device that a rule looks at."""
    book = Book([rule])
    return sorted(book.readings), sorted(book.features), bool(book.flags), sorted(book.devices)


def from_database(
    database: DatabaseSettings, rule: Rule, start: datetime, stop: datetime, patient: str | None
) -> Iterator[Sample]:
    """Samples of a stretch in order of time.

    Raises
    ------
    HistoryError
        When the database does not answer.
    """
    metrics, features, flagged, kinds = wanted(rule)
    given = {
        "start": start, "stop": stop, "patient": patient, "metrics": metrics, "features": features, "flagged": flagged,
        "kinds": kinds,
    }  # fmt: skip
    try:
        with connect(database, "rules") as connection:
            readings = connection.cursor("rule_readings")
            readings.itersize = 5000
            readings.execute(_READINGS.format(schema=database.db_schema), given)
            other = connection.cursor("rule_features")
            other.itersize = 5000
            other.execute(_FEATURES.format(schema=database.db_schema), given)
            yield from _merged(map(_reading, readings), map(_feature, other))
    except (psycopg.Error, StorageError) as error:
        raise HistoryError(f"the database cannot be read: {str(error).strip()}") from error


def profiles(database: DatabaseSettings) -> dict[str, tuple[Mapping[str, Any], Zones]]:
    """What is each patient's own, and their time zones."""
    found: dict[str, tuple[Mapping[str, Any], Zones]] = {}
    try:
        with connect(database, "rules") as connection:
            for name, overrides, since, zones in connection.execute(_PATIENTS.format(schema=database.db_schema)):
                begins = [_time_us(at) if at is not None else NEVER for at in since]
                found[name] = (overrides, tuple(zip(begins, zones, strict=True)))
    except (psycopg.Error, StorageError) as error:
        raise HistoryError(f"patients cannot be read: {str(error).strip()}") from error
    return found


def from_file(path: Path) -> Iterator[Sample]:
    """Samples of a folder of Parquet files (``vitalgate export parquet``), one such file, or lines of JSON.

    A line is ``{"patient", "metric" or "feature", "time", "value" or "code", "end", "device", "flags"}``.

    Raises
    ------
    HistoryError
        When it cannot be read.
    """
    try:
        if path.is_dir() or path.suffix == ".parquet":
            return iter(sorted(_parquet(path), key=lambda sample: sample.time_us))
        lines = path.read_bytes().splitlines()
        samples = [_line(line, number) for number, line in enumerate(lines, 1) if line.strip()]
    except OSError as error:
        raise HistoryError(f"{path} cannot be read: {error.strerror or error}") from error
    return iter(sorted(samples, key=lambda sample: sample.time_us))


def _parquet(path: Path) -> Iterator[Sample]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise HistoryError(f"Parquet needs pyarrow ({error}); install vitalgate[export]") from error
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    read = [file for file in files if file.stem in ("readings", "readings_current", "features")]
    if not read:
        raise HistoryError(f"{path} holds no readings.parquet or features.parquet; make one with `vitalgate export`")
    for file in read:
        for batch in pq.ParquetFile(file).iter_batches(20_000):
            for row in batch.to_pylist():
                if row["patient_id"] is None:
                    continue
                if file.stem == "features":
                    yield _feature([row[k] for k in (
                        "patient_id", "time", "name", "value", "end_time", "device_id", "recording", "channel",
                        "first_sample",
                    )])  # fmt: skip
                elif row.get("current", True) and not row.get("retracted"):
                    yield _reading([row[k] for k in (
                        "patient_id", "time", "metric", "value", "code", "comparator", "device_id", "metric", "site",
                        "index", "flags",
                    )], kind="")  # fmt: skip


def _line(line: bytes, number: int) -> Sample:
    try:
        row = orjson.loads(line)
        at = times.parse(row["time"]).us
        name = row.get("metric") or row["feature"]
        return Sample(
            row["patient"], at, name, None if row.get("value") is None else float(row["value"]),
            feature="feature" in row, end_us=times.parse(row["end"]).us if row.get("end") else at,
            code=row.get("code"), device=row.get("device", "history"), device_kind=row.get("kind", ""),
            flags=tuple(row.get("flags") or ()), first_sample=number,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, Refused) as error:
        raise HistoryError(f"line {number} is no sample ({error}); it needs patient, metric, time and value") from error


def _reading(row: Any, kind: str | None = None) -> Sample:
    patient, at, metric, value, code, comparator, device, of_kind, site, index, flags = row
    return Sample(
        patient, _time_us(at), metric, value, code=code, comparator=comparator or "", device=device,
        device_kind=of_kind or "" if kind is None else kind, site=site or "", index=index or 0,
        flags=tuple(flags or ()),
    )  # fmt: skip


def _feature(row: Any) -> Sample:
    patient, at, name, value, end, device, recording, channel, first = row
    return Sample(
        patient, _time_us(at), name, value, True, _time_us(end), device=device, recording=recording, channel=channel,
        first_sample=first,
    )  # fmt: skip


def _merged(first: Iterator[Sample], second: Iterator[Sample]) -> Iterator[Sample]:
    return heapq.merge(first, second, key=lambda sample: sample.time_us)


def _time_us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
