"""Features of windows of blocks: heart-rate variability of 1 and 5 minutes, ectopic beats a minute. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal import beats as detector
from vitalgate.signal.hrv import normal_intervals, time_domain
from vitalgate.signal.rhythm import known_intervals
from vitalgate.stream.analysis_block import Block
from vitalgate.stream.analysis_clock import BlockClock
from vitalgate.stream.analysis_features import FeatureResult, timeline_of
from vitalgate.stream.analysis_grid import start_of
from vitalgate.stream.analysis_line import Key

#: Length of the HRV windows in blocks. Five minutes is the Task Force's short-term standard (1996, Eur Heart J 17:354);
#: values of windows of different length must not be compared, so each has its own name.
HRV_BLOCKS = {"hrv": 30, "hrv_60s": 6}
#: Fewest normal intervals for which a window has a value.
HRV_LEAST = {"hrv": 100, "hrv_60s": 20}
#: Ectopic beats are counted by this window, and told per minute of signal that is believed if there is half of it.
COUNT_BLOCKS = 6
BURDEN_BLOCKS = 30
#: Every window begins at a multiple of its length, and this is a multiple of them all.
LONGEST = 30

_COUNTS = {"pvc.count": "V", "pac.count": "S"}
COUNTS = tuple(_COUNTS)


def hrv_features(
    key: Key, prefix: str, members: range, near: Mapping[int, Block], clock: BlockClock, revision: int
) -> list[FeatureResult]:
    """Time-domain HRV of a window of blocks; nothing when there are too few normal intervals.

    ``prefix`` is a key of HRV_BLOCKS; names are ``hrv.sdnn``, ``hrv_60s.rmssd`` and so on. Intervals that a ventricular
    or fusion beat begins or ends are left out: NN means between normal beats.
    """
    rr_ms = _intervals(members, near, key.fs)
    values = time_domain(rr_ms)
    if values.n < HRV_LEAST[prefix]:
        return []
    mean = float(rr_ms[normal_intervals(rr_ms)].mean())
    start, stop = start_of(members.start, key.fs), start_of(members.stop, key.fs)
    times = clock(start), clock.end(stop)
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


def count_features(
    key: Key, members: range, near: Mapping[int, Block], clock: BlockClock, revision: int
) -> list[FeatureResult]:
    """pvc.count and pac.count: ventricular and supraventricular ectopic beats per minute."""
    blocks = [near[number] for number in members if number in near and near[number].believed]
    seconds = sum(block.present for block in blocks) / key.fs
    if seconds < 0.5 * len(members) * detector.BLOCK_S:
        return []
    start, stop = start_of(members.start, key.fs), start_of(members.stop, key.fs)
    times = clock(start), clock.end(stop)
    found = []
    for name, kind in _COUNTS.items():
        count = sum(int((block.kinds == kind).sum()) for block in blocks)
        value = round(60 * count / seconds, 2)
        found.append(FeatureResult(key, name, start, stop, *times, value, "/min", revision=revision))
    return found


def _intervals(members: range, near: Mapping[int, Block], fs: float) -> NDArray[np.float64]:
    """RR in ms of the beats of these blocks, NaN where signal is missing, not believed, or a beat not normal."""
    timeline = timeline_of(near, members, fs)
    if not len(timeline.beats):
        return np.empty(0)
    odd = np.isin(timeline.kinds, ("V", "F"))
    known = known_intervals(timeline.beats, fs, timeline.present) & ~(odd[1:] | odd[:-1])
    return np.asarray(np.where(known, np.diff(timeline.beats) * 1000 / fs, np.nan), dtype=np.float64)
