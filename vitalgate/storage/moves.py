"""Stored items of a device as internal messages again, for claims, corrected assignments and reprocessing.

What comes out is what `patient.inputs` carried, or would have carried, for these items: all versions of readings with
their place in the device's order and their message's content hash, so that its id, which alerts give as evidence, is
the same as before; and the waveform blocks that stand. A retraction comes out as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vitalgate.config.settings import DatabaseSettings
from vitalgate.devices.records import NO_SEQ, Corrects, Message, Reading, Waveform
from vitalgate.storage import blocks
from vitalgate.storage.connect import connect
from vitalgate.storage.errors import transient
from vitalgate.storage.packing import unpack
from vitalgate.storage.rows import content_bytes
from vitalgate.storage.times import micros

BATCH_ITEMS = 1000
BATCH_SAMPLES = 250_000
"""A batch ends with whichever is reached first: readings, or waveform samples (about a megabyte)."""

_READINGS = """
    SELECT r.raw_partition, r.raw_offset, r.received_at, coalesce(replace(r.trace::text, '-', ''), ''),
           coalesce(r.epoch, ''), coalesce(r.seq, -1), r.epoch_no, r.ord, r.skew_s, r.item, r.metric, r.site, r.time,
           r.idx,
           r.value_num, r.value_code, coalesce(r.comparator, ''), coalesce(r.absent, ''), r.unit,
           CASE WHEN r.unit_sent IS NULL THEN r.value_num ELSE r.value_sent END, coalesce(r.unit_sent, r.unit),
           coalesce(r.time_sent, r.time), r.offset_min, coalesce(r.group_id, ''), r.context, r.flags, r.unusual,
           r.retracted, r.content
    FROM readings r
    WHERE r.device_id = %s AND r.time >= %s AND r.time < %s
    ORDER BY r.time, r.epoch_no, r.ord, r.item
"""
_WAVEFORMS = """
    SELECT w.raw_partition, w.raw_offset, w.received_at, coalesce(replace(w.trace::text, '-', ''), ''),
           coalesce(w.epoch, ''), coalesce(w.seq, -1), w.epoch_no, w.ord, w.skew_s, w.item, w.channel, w.recording,
           w.time,
           w.first_sample, w.count, w.rate_num, w.rate_den, w.gain, w.baseline, w.unit, w.codec, w.samples, w.items,
           coalesce(w.time_sent, w.time), w.offset_min, w.missing, w.flags, w.sightings
    FROM waveforms w
    JOIN recordings r ON r.device_id = w.device_id AND r.channel = w.channel AND r.recording = w.recording
    WHERE w.device_id = %s AND w.current
      AND w.time >= %s::timestamptz - make_interval(secs => r.longest * r.rate_den / r.rate_num::double precision)
      AND w.time < %s
    ORDER BY w.time, w.epoch_no, w.ord, w.item
"""


@dataclass(frozen=True, slots=True)
class _Head:
    partition: int
    offset: int
    received_us: int
    trace: str
    epoch: str
    seq: int
    epoch_no: int
    order: int
    skew_s: int


def items(
    database: DatabaseSettings,
    device: str,
    start: datetime,
    stop: datetime,
    *,
    readings: bool = True,
    waveforms: bool = True,
) -> Iterator[list[Message]]:
    """The items of a device with event times in [start, stop), readings first, each kind in order of time.

    Yields batches of bounded size, read from one snapshot. Items of one message come as one message as far as they
    are in one batch; a message may come again with other items.

    Raises
    ------
    TransientDatabaseError
        When the database goes away in the middle: begin again.
    """
    with transient(), connect(database, "moves") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = connection.execute("SELECT kind FROM devices WHERE device_id = %s", (device,)).fetchone()
        kind = str(row[0]) if row else ""
        if readings:
            with connection.cursor("readings") as cursor:
                cursor.itersize = BATCH_ITEMS
                cursor.execute(_READINGS, (device, start, stop))
                batch = _Batch(device, kind, "readings")
                for row in cursor:
                    batch.add_reading(row)
                    if batch.items >= BATCH_ITEMS:
                        yield batch.take()
                if batch.items:
                    yield batch.take()
        if waveforms:
            with connection.cursor("waveforms", binary=True) as cursor:
                cursor.itersize = 20
                cursor.execute(_WAVEFORMS, (device, start, stop))
                batch = _Batch(device, kind, "waveforms")
                for row in cursor:
                    for head, block in _blocks(row, micros(start), micros(stop)):
                        batch.add_waveform(head, block)
                        if batch.samples >= BATCH_SAMPLES:
                            yield batch.take()
                if batch.items:
                    yield batch.take()


class _Batch:
    """Items gathered by message."""

    def __init__(self, device: str, kind: str, leaf: str) -> None:
        self._device, self._kind, self._leaf = device, kind, leaf
        self._messages: dict[tuple[int, int, int, int], Message] = {}
        self.items = 0
        self.samples = 0

    def take(self) -> list[Message]:
        """The messages so far, and begin anew."""
        found = list(self._messages.values())
        self._messages = {}
        self.items = self.samples = 0
        return found

    def _message(self, head: _Head, content: bytes = b"") -> Message:
        key = (head.partition, head.offset, head.epoch_no, head.order)
        message = self._messages.get(key)
        if message is None:
            message = self._messages[key] = Message(
                self._device, self._leaf, head.offset, head.received_us, head.trace, head.epoch,
                head.seq if head.seq >= 0 else NO_SEQ, head.epoch_no, head.order, False, head.skew_s, b"", content,
                readings=[], waveforms=[], dead=[], device_kind=self._kind,
            )  # fmt: skip
        return message

    def add_reading(self, row: Sequence[Any]) -> None:
        """A version of a measurement, from a row of _READINGS."""
        (item, metric, site, time, idx, num, code, comparator, absent, unit, value_sent, unit_sent, time_sent,
        offset_min,
         group, context, flags, unusual, retracted, content) = row[9:]  # fmt: skip
        us = micros(time)
        corrects = Corrects(time_us=us, retract=True) if retracted else None
        self._message(_head(row), content_bytes(content)).readings.append(
            Reading(
                item, metric, site, us, idx, num, code, comparator, absent, unit, value_sent, unit_sent,
                micros(time_sent), offset_min, group, context, flags, unusual, corrects,
            )
        )  # fmt: skip
        self.items += 1

    def add_waveform(self, head: _Head, block: Waveform) -> None:
        """A block of samples."""
        self._message(head).waveforms.append(block)
        self.items += 1
        self.samples += block.count


def _head(row: Sequence[Any]) -> _Head:
    partition, offset, received, trace, epoch, seq, epoch_no, order, skew = row[:9]
    return _Head(partition, offset, micros(received), trace, epoch, seq, epoch_no, order, skew)


def _blocks(row: Sequence[Any], start_us: int, stop_us: int) -> Iterator[tuple[_Head, Waveform]]:
    """The items of a row of _WAVEFORMS that begin in [start, stop): one, or those of a joined row."""
    (item, channel, recording, time, first, count, num, den, gain, baseline, unit, codec, packed, index, time_sent,
     offset_min, missing, flags, _) = row[9:]  # fmt: skip
    samples = unpack(codec, packed, count).astype("<i4")
    head = _head(row)
    if index is None:
        if start_us <= micros(time) < stop_us:
            pairs = [(missing[k], missing[k + 1]) for k in range(0, len(missing or []), 2)] or None
            yield head, Waveform(
                item, channel, recording, first, count, micros(time), num, den, gain, baseline, unit, samples.tobytes(),
                micros(time_sent), offset_min, flags, pairs,
            )  # fmt: skip
        return
    for part in blocks.decode(index):
        if start_us <= part.start_us < stop_us:
            low = part.first_sample - first
            own = _Head(
                part.raw_partition, part.raw_offset, part.received_us, "", head.epoch, part.seq, part.epoch_no,
                part.ord,
                head.skew_s,
            )  # fmt: skip
            yield own, Waveform(
                part.item, channel, recording, part.first_sample, part.count, part.start_us, num, den, gain, baseline,
                unit, samples[low : low + part.count].tobytes(), part.start_us, None, flags,
            )  # fmt: skip
