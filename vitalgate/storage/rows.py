"""Rows of the fact tables in binary COPY form, made from internal records."""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass

import orjson

from vitalgate.devices.records import NO_SEQ, Message, Reading, Status, Waveform
from vitalgate.storage import binary as b
from vitalgate.storage import packing

READING_COLUMNS = (
    "device_id, epoch, seq, epoch_no, ord, received_at, skew_s, trace, message_id, content, raw_partition, raw_offset,"
    " time, metric, site, idx, version, current, derived, retracted, unusual, value_num, value_code, comparator,"
    " absent, unit, value_sent, unit_sent, time_sent, offset_min, group_id, context, flags, item, sightings"
)
WAVEFORM_COLUMNS = (
    "device_id, epoch, seq, epoch_no, ord, received_at, skew_s, trace, message_id, raw_partition, raw_offset,"
    " time, channel, recording, first_sample, count, item, version, current, n_items, sightings,"
    " rate_num, rate_den, gain, baseline, unit,"
    " codec, samples, missing, flags, time_sent, offset_min"
)
STATUS_COLUMNS = (
    "device_id, epoch, seq, received_at, trace, raw_partition, raw_offset,"
    " time, digest, state, battery, firmware, serial, detail"
)
_READING = struct.Struct(">h").pack(READING_COLUMNS.count(",") + 1)
_WAVEFORM = struct.Struct(">h").pack(WAVEFORM_COLUMNS.count(",") + 1)
_STATUS = struct.Struct(">h").pack(STATUS_COLUMNS.count(",") + 1)


@dataclass(frozen=True, slots=True)
class Origin:
    """The columns that all rows of one message share, encoded once."""

    reading: bytes
    waveform: bytes
    status: bytes


def origin(message: Message, partition: int, message_id: str) -> Origin:
    """Encode what is common to the rows of a message."""
    numbered = message.seq != NO_SEQ
    device = b.word(message.device)
    epoch = b.optional_word(message.epoch)
    seq = b.int8(message.seq if numbered else None)
    received = b.time(message.received_us)
    trace = b.uuid_hex(message.trace)
    raw = b.int4(partition) + b.int8(message.offset)
    shared = (
        device + epoch + seq + b.int4(message.epoch_no) + b.int8(message.order) + received
        + b.int4(message.skew_s) + trace
    )  # fmt: skip
    named = b.uuid_hex(message_id) + b.int8(content_number(message.content_hash))
    return Origin(
        _READING + shared + named + raw, _WAVEFORM + shared + b.text(message_id) + raw,
        _STATUS + device + epoch + seq + received + trace + raw,
    )  # fmt: skip


def content_number(content: bytes) -> int | None:
    """A message's content hash (8 bytes) as the number in its column; None when it has none."""
    return int.from_bytes(content, "big", signed=True) if content else None


def content_bytes(number: int | None) -> bytes:
    """The content hash of a number in its column."""
    return b"" if number is None else number.to_bytes(8, "big", signed=True)


@functools.lru_cache(maxsize=8192)
def _measured(metric: str, site: str, index: int, unusual: bool) -> bytes:
    """Columns metric to unusual of a first and only version."""
    name = b.word(metric) + b.word(site) + b.int4(index)
    return name + b.int4(1) + b.TRUE + b.FALSE + b.FALSE + b.boolean(unusual)


@functools.lru_cache(maxsize=1024)
def _as_sent(unit: str) -> bytes:
    """Columns value_code to time_sent of a number that was sent in its canonical unit, at its corrected time."""
    return b.NULL + b.NULL + b.NULL + b.word(unit) + b.NULL + b.NULL + b.NULL


_NOTHING_MORE = b.NULL + b.NULL + b.NULL
_SMALL = [b.int4(item) + b.NULL for item in range(64)]
_OFFSETS = {minutes: b.int2(minutes) for minutes in (*range(-14 * 60, 14 * 60 + 1, 15), None)}


def reading(
    shared: Origin,
    r: Reading,
    *,
    version: int = 1,
    current: bool = True,
    derived: bool = False,
    sightings: list[int] | None = None,
) -> bytes:
    """One row of `readings`. What was sent is left NULL where it is the same as the canonical value."""
    same = r.value_sent == r.value_num and r.unit_sent == r.unit
    in_time = r.time_sent_us == r.time_us
    if version == 1 and current and not derived and r.corrects is None:
        measured = _measured(r.metric, r.site, r.index, r.unusual)
    else:
        measured = b"".join((
            b.word(r.metric), b.word(r.site), b.int4(r.index), b.int4(version), b.boolean(current), b.boolean(derived),
            b.boolean(retracts(r)), b.boolean(r.unusual),
        ))  # fmt: skip
    if same and in_time and r.value_code is None and not r.comparator and not r.absent:
        sent = _as_sent(r.unit)
    else:
        sent = b"".join((
            b.NULL if r.value_code is None else b.word(r.value_code),
            b.optional_word(r.comparator),
            b.optional_word(r.absent),
            b.word(r.unit),
            b.NULL if same else b.float8(r.value_sent),
            b.NULL if same else b.word(r.unit_sent),
            b.NULL if in_time else b.time(r.time_sent_us),
        ))  # fmt: skip
    if not r.group and not r.context and not r.flags:
        more = _NOTHING_MORE
    else:
        context = orjson.dumps(r.context) if r.context else None
        more = b.optional_word(r.group) + b.jsonb(context) + b.texts(r.flags)
    end = _SMALL[r.item] if sightings is None and 0 <= r.item < 64 else b.int4(r.item) + b.int8s(sightings)
    offset = _OFFSETS.get(r.offset_min) or b.int2(r.offset_min)
    return b"".join((shared.reading, b.time(r.time_us), measured, b.float8(r.value_num), sent, offset, more, end))


def retracts(r: Reading) -> bool:
    """Whether the item takes a measurement back instead of giving one."""
    return r.corrects is not None and r.corrects.retract


def waveform(
    shared: Origin,
    w: Waveform,
    *,
    version: int = 1,
    current: bool = True,
    n_items: int = 1,
    sightings: list[int] | None = None,
) -> bytes:
    """One row of `waveforms`, its samples packed."""
    codec, packed = packing.pack(w.samples)
    missing = [bound for stretch in w.missing for bound in stretch] if w.missing else None
    sent = w.time_sent_us or w.start_us
    return b"".join((
        shared.waveform,
        b.time(w.start_us),
        b.word(w.channel),
        b.text(w.recording),
        b.int8(w.first_sample),
        b.int4(w.count),
        b.int4(w.item),
        b.int4(version),
        b.TRUE if current else b.FALSE,
        b.int4(n_items),
        b.int8s(sightings),
        b.int4(w.rate_num),
        b.int4(w.rate_den),
        b.float8(w.gain),
        b.float8(w.offset),
        b.word(w.unit),
        b.int2(codec),
        b.data(packed),
        b.int4s(missing),
        b.texts(w.flags),
        b.NULL if sent == w.start_us else b.time(sent),
        b.int2(w.offset_min),
    ))  # fmt: skip


def status(shared: Origin, s: Status, digest: bytes) -> bytes:
    """One row of `device_status`."""
    detail = None if not s.detail else orjson.dumps(s.detail)
    return b"".join((
        shared.status,
        b.time(s.time_us),
        b.data(digest),
        b.text(s.state),
        b.float8(s.battery),
        b.optional_word(s.firmware),
        b.optional_word(s.serial),
        b.jsonb(detail),
    ))  # fmt: skip
