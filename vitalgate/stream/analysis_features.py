"""Features of finished blocks: heart rate and rate events of 10 s, heart-rate variability of 1 and 5 minutes. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal import beats as detector
from vitalgate.signal import rhythm
from vitalgate.signal.hrv import normal_intervals, time_domain
from vitalgate.stream.analysis_line import Key

if TYPE_CHECKING:
    from vitalgate.stream.analysis_core import Block

#: Length of the HRV windows in blocks. Five minutes is the Task Force's short-term standard (1996, Eur Heart J 17:354);
#: values of windows of different length must not be compared, so each has its own name.
HRV_BLOCKS = {"hrv": 30, "hrv_60s": 6}
#: Fewest normal intervals for which a window has a value.
HRV_LEAST = {"hrv": 100, "hrv_60s": 20}
ALGORITHM = "vg-rhythm"
ALGORITHM_VERSION = "1"


@dataclass(frozen=True)
class FeatureResult:
    """One feature to be published; replaces what was published under the same identity."""

    key: Key
    name: str
    first_sample: int
    stop_sample: int
    start_us: int
    end_us: int
    value: float | None
    unit: str
    withdrawn: bool = False
    revision: int = field(default=0, compare=False)

    @property
    def identity(self) -> tuple[str, int]:
        """Name and first sample: within its line there is one such feature."""
        return self.name, self.first_sample

    def withdraw(self, revision: int) -> FeatureResult:
        """The same feature, taken back."""
        return replace(self, withdrawn=True, value=None, revision=revision)


Clock = Callable[[int], int]
"""Event time in microseconds of an absolute sample."""


def block_features(key: Key, block: int, near: Mapping[int, Block], clock: Clock, revision: int) -> list[FeatureResult]:
    """Heart rate of a block, and the pieces of rate events in it.

    Parameters
    ----------
    near
        The block itself and what is known of two blocks on either side: rate events look 16 s round them.

    Returns
    -------
    Nothing when the signal of the block is not believed: rate and rhythm are withheld.
    """
    own = near[block]
    fs = key.fs
    start, stop = _start(block, fs), _start(block + 1, fs)
    if not own.believed:
        return []
    found = []
    rate = rhythm.heart_rate(own.beats, fs)
    if not math.isnan(rate):
        found.append(
            FeatureResult(key, "heart_rate", start, stop, clock(start), clock(stop), round(rate, 2), "/min",
                          revision=revision)
        )  # fmt: skip
    blocks = range(block - 2, block + 3)
    first = _start(blocks.start, fs)
    present = np.zeros(_start(blocks.stop, fs) - first, np.bool_)
    beats = []
    for number in blocks:
        other = near.get(number)
        if other is not None and other.believed:
            at = _start(number, fs) - first
            present[at : at + len(other.present)] = other.present
            beats.append(other.beats)
    events = rhythm.rate_events(np.concatenate(beats), fs, start, stop, present=present, first=first)
    found += [
        FeatureResult(
            key, f"event.{event.kind}", event.onset, event.offset, clock(event.onset), clock(event.offset),
            round(event.value, 3), event.unit, revision=revision,
        )
        for event in events
    ]  # fmt: skip
    return found


def window_features(
    key: Key, prefix: str, members: range, near: Mapping[int, Block], clock: Clock, revision: int
) -> list[FeatureResult]:
    """Time-domain HRV of a window of blocks; nothing when there are too few normal intervals.

    ``prefix`` is a key of HRV_BLOCKS; names are ``hrv.sdnn``, ``hrv_60s.rmssd`` and so on.
    """
    fs = key.fs
    rr_ms = _intervals(members, near, fs)
    values = time_domain(rr_ms)
    if values.n < HRV_LEAST[prefix]:
        return []
    mean = float(rr_ms[normal_intervals(rr_ms)].mean())
    start, stop = _start(members.start, fs), _start(members.stop, fs)
    times = clock(start), clock(stop)
    named = (
        ("sdnn", values.sdnn, "ms"),
        ("rmssd", values.rmssd, "ms"),
        ("pnn50", values.pnn50, "%"),
        ("rr_mean", mean, "ms"),
    )
    return [
        FeatureResult(key, f"{prefix}.{name}", start, stop, *times, round(value, 3), unit, revision=revision)
        for name, value, unit in named
        if not math.isnan(value)
    ]


def _intervals(members: range, near: Mapping[int, Block], fs: float) -> NDArray[np.float64]:
    """RR in ms of the beats of these blocks, NaN where signal is missing or not believed in between."""
    first = _start(members.start, fs)
    present = np.zeros(_start(members.stop, fs) - first, np.int64)
    beats = []
    for number in members:
        block = near.get(number)
        if block is not None and block.believed:
            low = _start(number, fs) - first
            present[low : low + len(block.present)] = block.present
            beats.append(block.beats)
    if not beats:
        return np.empty(0)
    at = np.concatenate(beats)
    so_far = np.concatenate([[0], np.cumsum(present)])
    there = so_far[at[1:] - first] - so_far[at[:-1] - first]
    rr = np.diff(at)
    return np.asarray(np.where(rr - there <= rhythm.MISSING_S * fs, rr * 1000 / fs, np.nan), dtype=np.float64)


def _start(block: int, fs: float) -> int:
    return round(block * detector.BLOCK_S * fs)
