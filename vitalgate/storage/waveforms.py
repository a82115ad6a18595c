"""Waveforms out of the database: any stretch of samples, bit for bit, with the gaps told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import blocks
from vitalgate.storage.connect import Connection, connect
from vitalgate.storage.errors import transient
from vitalgate.storage.packing import Samples, unpack

_COLUMNS = """
    SELECT time, recording, first_sample, count, rate_num, rate_den, gain, baseline, unit, codec, samples, missing,
    items
    FROM waveforms
"""
_BY_TIME = f"""{_COLUMNS}
    WHERE device_id = %s AND channel = %s AND recording = %s AND current AND time >= %s AND time < %s
    ORDER BY recording, first_sample
"""
_BY_SAMPLE = f"""{_COLUMNS}
    WHERE device_id = %s AND channel = %s AND recording = %s AND current AND first_sample < %s
      AND first_sample + count > %s AND first_sample > %s - %s AND time BETWEEN %s AND %s
    ORDER BY recording, first_sample
"""
#: Recordings that touch a stretch of time, with how long their longest row may last.
_TOUCHED = """
    SELECT recording, longest FROM (
        SELECT recording, first_time, last_time,
               make_interval(secs => (longest + 1) * rate_den / rate_num::double precision) AS longest
        FROM recordings WHERE device_id = %s AND channel = %s) AS r
    WHERE first_time < %s AND last_time > %s ORDER BY first_time, recording
"""
_EXTENT = """
    SELECT first_sample, stop_sample, longest, first_time, last_time FROM recordings
    WHERE device_id = %s AND channel = %s AND recording = %s
"""


_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Scale:
    """How raw samples become physical values: physical = (raw - offset) / gain, in `unit`."""

    gain: float
    offset: float
    unit: str


@dataclass(frozen=True)
class Stretch:
    """Samples [first, first + len(samples)) of one recording.

    A stretch of read_between holds samples of one recording at one rate and scale. Where nothing was measured or
    received `samples` is 0 and `present` False; the same is told by `gaps`.
    """

    device: str
    channel: str
    recording: str
    first: int
    samples: Samples
    """int32, as the device sent them."""
    present: npt.NDArray[np.bool_]
    rate: Fraction
    """Nominal sampling rate, Hz."""
    scale: Scale
    anchors: tuple[tuple[int, datetime], ...]
    """(sample, time) of the first sample of every item: the time between them follows from the rate."""

    @property
    def stop(self) -> int:
        """The sample after the last."""
        return self.first + len(self.samples)

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """[start, stop) ranges of sample numbers that are not there."""
        edges = np.flatnonzero(np.diff(np.concatenate(([True], self.present, [True])).astype(np.int8)))
        return [(self.first + int(a), self.first + int(b)) for a, b in edges.reshape(-1, 2)]

    @property
    def start(self) -> datetime:
        """Time of the first sample."""
        return self.time_of(self.first)

    def time_of(self, sample: int) -> datetime:
        """Time of a sample, from the nearest item that begins at or before it (else the first after it)."""
        number, moment = next(
            ((number, moment) for number, moment in reversed(self.anchors) if number <= sample), self.anchors[0]
        )
        return moment + timedelta(microseconds=round((sample - number) * 1_000_000 / self.rate))

    def between(self, first: int, stop: int) -> Stretch:
        """Samples [first, stop) of it, absent where it does not reach."""
        return _slice(self, first, stop)

    def physical(self) -> npt.NDArray[np.float64]:
        """Values in `scale.unit`; NaN where nothing is present."""
        values: npt.NDArray[np.float64] = (self.samples.astype(np.float64) - self.scale.offset) / self.scale.gain
        values[~self.present] = np.nan
        return values


class Waveforms:
    """Reads waveforms over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, device: str, channel: str, start: datetime, stop: datetime) -> list[Stretch]:
        """The samples from `start` up to `stop`, one stretch a recording (and scale), in order of time."""
        found = []
        for recording, longest in self._connection.execute(_TOUCHED, (device, channel, stop, start)).fetchall():
            asked = (device, channel, recording, start - longest, stop)
            rows = self._connection.execute(_BY_TIME, asked, binary=True).fetchall()
            found += stretches(device, channel, rows, start, stop)
        return sorted(found, key=lambda stretch: stretch.start)

    def read_samples(self, device: str, channel: str, recording: str, first: int, stop: int) -> Stretch | None:
        """Samples [first, stop) of a recording by number; None when none of them is there."""
        extent = self._connection.execute(_EXTENT, (device, channel, recording)).fetchone()
        if extent is None:
            return None
        _, _, longest, begin, end = extent
        rows = self._connection.execute(
            _BY_SAMPLE, (device, channel, recording, stop, first, first, longest, begin, end), binary=True
        ).fetchall()
        if not rows:
            return None
        # A change of scale in the middle of a recording is rare; the scale that covers most samples is told.
        group = max(_groups(rows), key=lambda rows: sum(row[3] for row in rows))
        return _slice(_assemble(device, channel, group), first, stop)


def read(database: DatabaseSettings, device: str, channel: str, start: datetime, stop: datetime) -> list[Stretch]:
    """`Waveforms.read` over a connection of its own. Raises TransientDatabaseError when the database is away."""
    with transient(), connect(database, "waveforms", autocommit=True) as connection:
        return Waveforms(connection).read(device, channel, start, stop)


def read_samples(
    database: DatabaseSettings, device: str, channel: str, recording: str, first: int, stop: int
) -> Stretch | None:
    """`Waveforms.read_samples` over its own connection. Raises TransientDatabaseError when the database is away."""
    with transient(), connect(database, "waveforms", autocommit=True) as connection:
        return Waveforms(connection).read_samples(device, channel, recording, first, stop)


def stretches(
    device: str, channel: str, rows: Sequence[tuple[Any, ...]], start: datetime, stop: datetime
) -> list[Stretch]:
    """The samples in [start, stop) of rows that were read: one stretch for each recording and scale.

    Parameters
    ----------
    rows
        time, recording, first_sample, count, rate_num, rate_den, gain, baseline, unit, codec, samples, missing, items.
    """
    found = []
    for group in _groups(rows):
        whole = _assemble(device, channel, group)
        first, last = _samples_between(whole, start, stop)
        if first < last:
            found.append(_slice(whole, first, last))
    return found


def _groups(rows: Sequence[tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
    """Rows of the same recording, rate and scale."""
    found: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault((row[1], *row[4:9]), []).append(row)
    return list(found.values())


def _assemble(device: str, channel: str, rows: Sequence[tuple[Any, ...]]) -> Stretch:
    first = min(row[2] for row in rows)
    stop = max(row[2] + row[3] for row in rows)
    samples = np.zeros(stop - first, dtype=np.int32)
    present = np.zeros(stop - first, dtype=bool)
    anchors: list[tuple[int, datetime]] = []
    for time, _, begin, count, *_, codec, packed, missing, items in rows:
        low = begin - first
        samples[low : low + count] = unpack(codec, packed, count)
        present[low : low + count] = True
        for start, length in zip((missing or [])[::2], (missing or [])[1::2], strict=True):
            present[low + start : low + start + length] = False
            samples[low + start : low + start + length] = 0
        if items is None:
            anchors.append((begin, time))
        else:
            parts = blocks.decode(items)
            anchors.extend(
                (part.first_sample, time + timedelta(microseconds=part.start_us - parts[0].start_us)) for part in parts
            )
    recording, num, den, gain, baseline, unit = rows[0][1], *rows[0][4:9]
    return Stretch(
        device, channel, recording, first, samples, present, Fraction(num, den), Scale(gain, baseline, unit),
        tuple(sorted(anchors)),
    )  # fmt: skip


def _samples_between(whole: Stretch, start: datetime, stop: datetime) -> tuple[int, int]:
    """The sample numbers whose times lie in [start, stop), by the anchor of each item."""
    first: int | None = None
    last = whole.first
    for (number, moment), following in zip(
        whole.anchors, [*(number for number, _ in whole.anchors[1:]), whole.stop], strict=True
    ):
        low = number + max(0, _samples_in(start - moment, whole.rate))
        high = min(following, number + max(0, _samples_in(stop - moment, whole.rate)))
        if low < high:
            first = low if first is None else min(first, low)
            last = max(last, high)
    return (0, 0) if first is None else (first, last)


def _samples_in(time: timedelta, rate: Fraction) -> int:
    """Samples whose times lie before the end of a stretch of time that begins with one, in whole numbers alone."""
    # Times are whole microseconds, so that a sample time may be rounded by half of one: a millionth of a sample less.
    parts = (time // _MICROSECOND) * rate.numerator - rate.denominator
    return -(-parts // (rate.denominator * 1_000_000))


def _slice(whole: Stretch, first: int, stop: int) -> Stretch:
    """[first, stop) of a stretch, padded with absence where it does not reach."""
    samples = np.zeros(stop - first, dtype=np.int32)
    present = np.zeros(stop - first, dtype=bool)
    low, high = max(first, whole.first), min(stop, whole.stop)
    if low < high:
        samples[low - first : high - first] = whole.samples[low - whole.first : high - whole.first]
        present[low - first : high - first] = whole.present[low - whole.first : high - whole.first]
    inside = [anchor for anchor in whole.anchors if first < anchor[0] < stop]
    before = [anchor for anchor in whole.anchors if anchor[0] <= first][-1:]
    anchors = tuple(before + inside) or whole.anchors[:1]
    return Stretch(
        whole.device, whole.channel, whole.recording, first, samples, present, whole.rate, whole.scale, anchors
    )
