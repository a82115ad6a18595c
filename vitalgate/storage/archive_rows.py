"""Rows of beats, beat blocks and features in binary COPY form, made from the records of their topics."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from vitalgate.storage import binary as b
from vitalgate.storage.errors import StorageError
from vitalgate.storage.times import micros, parse_time

Record = Mapping[str, Any]
Key = tuple[Any, ...]
"""What a result is about; of two records with the same key the one with the higher revision stays."""

BLOCK_KEY = ("device_id", "recording", "channel", "algorithm", "block", "patient")
FEATURE_KEY = ("device_id", "recording", "channel", "name", "algorithm", "first_sample", "patient")
BLOCK_COLUMNS = (
    "time, device_id, recording, channel, algorithm, block, revision, algorithm_version, first_sample, stop_sample,"
    " rate, inputs, quality, beats, first_beat, last_beat, patient_id"
)
BEAT_COLUMNS = "time, device_id, channel, recording, algorithm, block, sample, kind, rr_ms, patient_id"
FEATURE_COLUMNS = (
    "time, device_id, recording, channel, name, algorithm, first_sample, stop_sample, end_time, value, unit,"
    " algorithm_version, revision, withdrawn, detail, patient_id"
)
_BLOCK = struct.Struct(">h").pack(BLOCK_COLUMNS.count(",") + 1)
_BEAT = struct.Struct(">h").pack(BEAT_COLUMNS.count(",") + 1)
_FEATURE = struct.Struct(">h").pack(FEATURE_COLUMNS.count(",") + 1)
_FEATURE_FIELDS = frozenset(
    ["patient", "device_id", "channel", "recording", "name", "window", "start", "end", "value", "unit", "algorithm",
     "algorithm_version", "revision", "withdrawn", "message_id"]
)  # fmt: skip


def newest(topic: str, records: Iterable[Record], identity: Sequence[str]) -> dict[Key, Record]:
    """The highest revision of each key in a batch.

    Raises
    ------
    StorageError
        When a record lacks a field of its key or its revision.
    """
    found: dict[Key, Record] = {}
    for record in records:
        try:
            key = tuple(record["window"][name] if name == "first_sample" else record[name] for name in identity)
            if key not in found or found[key]["revision"] < record["revision"]:
                found[key] = record
        except (KeyError, TypeError) as error:
            raise StorageError(f"a record of {topic} lacks {error}; its producer and the archive disagree") from error
    return found


def time_us(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time."""
    moment = parse_time(text)
    if moment is None:
        raise ValueError("a time is missing")
    return micros(moment)


def _json(value: Any) -> bytes:
    return b.NULL if value is None else b.jsonb(orjson.dumps(value))


def _number(value: Any) -> bytes:
    return b.NULL if value is None else b.float8(float(value))


def block(r: Record) -> tuple[bytes, list[bytes]]:
    """The row of a block and the rows of its beats, each sample once."""
    device, channel, recording = b.text(r["device_id"]), b.word(r["channel"]), b.text(r["recording"])
    algorithm, number, patient = b.word(r["algorithm"]), b.int8(r["block"]), b.text(r["patient"])
    named = device + channel + recording + algorithm + number
    beats = {beat["sample"]: beat for beat in r["beats"]}
    times = {sample: time_us(beat["time"]) for sample, beat in beats.items()}
    rows = [
        b"".join((
            _BEAT, b.time(times[sample]), named, b.int8(sample), b.word(beat["kind"]), _number(beat.get("rr_ms")),
            patient,
        ))
        for sample, beat in beats.items()
    ]  # fmt: skip
    whole = b"".join((
        _BLOCK, b.time(time_us(r["start"])), device, recording, channel, algorithm, number, b.int8(r["revision"]),
        b.word(str(r["algorithm_version"])), b.int8(r["first_sample"]), b.int8(r["stop_sample"]),
        b.word(str(r["rate"])), _json(r.get("inputs")), _json(r.get("quality")), b.int4(len(beats)),
        b.time(min(times.values(), default=None)), b.time(max(times.values(), default=None)), patient,
    ))  # fmt: skip
    return whole, rows


def feature(r: Record) -> bytes:
    """The row of a feature; what its record holds beyond the columns is kept in `detail`."""
    extra = {key: value for key, value in r.items() if key not in _FEATURE_FIELDS}
    window = r["window"]
    return b"".join((
        _FEATURE, b.time(time_us(r["start"])), b.text(r["device_id"]), b.text(r["recording"]), b.word(r["channel"]),
        b.word(r["name"]), b.word(r["algorithm"]), b.int8(window["first_sample"]), b.int8(window["stop_sample"]),
        b.time(time_us(r["end"])), _number(r["value"]), b.word(r["unit"]), b.word(str(r["algorithm_version"])),
        b.int8(r["revision"]), b.boolean(bool(r.get("withdrawn", False))), _json(extra or None),
        b.text(r["patient"]),
    ))  # fmt: skip
