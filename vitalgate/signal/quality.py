"""How far a stretch of ECG can be believed: good, usable or bad, and why, for each 10 s of the absolute grid.

A stretch is judged by itself alone (its support is the stretch), in this order; the first reason for the worst grade
counts:

==========  ========================================================  ======================================
reason      bad                                                       usable
==========  ========================================================  ======================================
no_contact  more than half missing                                    more than 5 % missing
flat        still (under 0.01 mV in 0.2 s) for more than half         still for more than a quarter
silent      no QRS energy at all, though it is not still
saturated   more than 10 % of samples stuck at the extremes           more than 1 %
baseline    wander of more than 12 times the QRS level, or 8 mV       more than 3 times, or 2 mV
powerline   mains (50 or 60 Hz) amplitude above the QRS level         above a quarter of it
noise       QRS energy between beats above 0.27 of its level, or the  above 0.12, or a quarter of the level
            largest of its 1.5-s maxima five times the smallest       (1.5 times)
==========  ========================================================  ======================================

*Good* is fit for rhythm and intervals, *usable* for beats and rate, *bad* for nothing: what is computed on it says so.
The limits were set on the MIT-BIH Arrhythmia Database (clean) and the noisy recordings of the PhysioNet/CinC Challenge
2017; they are engineering judgement, not a standard.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.grid import LIMIT, Float, as_signals, average
from vitalgate.signal.peaks import median
from vitalgate.signal.qrs import Plan, plan_for, qrs_energy

NAME = "vg-quality"
VERSION = "3"

#: Stretches are this long, on the absolute grid (sample 0 starts stretch 0).
STRETCH_S = 10

#: A stretch depends on nothing but itself; these are for a caller who cuts elsewhere than at its edges.
BEFORE_S = 10.0
AFTER_S = 10.0

_MAINS_HZ = (50.0, 60.0)
_STILL_MV, _STILL_S = 0.01, 0.2
_STUCK_S = 0.04
_QRS_LEAST_MV = 0.02
#: About this many stretches are worked on at once.
_PASS_ROWS = 32


class Grade(StrEnum):
    """What a stretch is fit for."""

    GOOD = "good"
    USABLE = "usable"
    BAD = "bad"


class Reason(StrEnum):
    """Why a stretch is not good."""

    NO_CONTACT = "no_contact"
    FLAT = "flat"
    SILENT = "silent"
    SATURATED = "saturated"
    BASELINE = "baseline"
    POWERLINE = "powerline"
    NOISE = "noise"


#: In order of judgement: (reason, measure is bad above, usable above).
_LIMITS: tuple[tuple[Reason, float, float], ...] = (
    (Reason.NO_CONTACT, 0.5, 0.05),
    (Reason.FLAT, 0.5, 0.25),
    (Reason.SILENT, 0.5, 0.5),
    (Reason.SATURATED, 0.1, 0.01),
    (Reason.BASELINE, 1.0, 0.25),
    (Reason.POWERLINE, 1.0, 0.25),
    (Reason.NOISE, 1.0, 0.45),
)


@dataclass(frozen=True)
class Stretch:
    """The grade of samples [onset, offset); ``reason`` is None when good."""

    onset: int
    offset: int
    grade: Grade
    reason: Reason | None


def signal_quality(
    signals: ArrayLike, fs: float, first: int = 0, start: int | None = None, stop: int | None = None
) -> list[list[Stretch]]:
    """Grade each 10-s stretch.

    Parameters
    ----------
    signals
        ECG in mV, (n_signals, n_samples) or (n_samples,) for one; NaN where missing.
    fs
        Sampling rate, 100 to 1000 Hz. Stretch k is samples round(k*10*fs) up to round((k+1)*10*fs).
    first
        Absolute index of the first column.
    start, stop
        Absolute samples; by default the whole array. Every stretch that overlaps [start, stop) is graded, whole; what
        the array does not hold of it counts as missing, except that a stretch beyond either end of the array is graded
        on the part that there is if that is at least 2 s: then it is provisional, and its onset and offset say how far.

    Returns
    -------
    For each signal its stretches, in order.

    Raises
    ------
    ValueError
        If the rate is outside 100..1000 Hz, or signals have more than two dimensions.
    """
    array = as_signals(signals)
    plan = plan_for(float(fs))
    end = first + array.shape[1]
    start, stop = max(first, first if start is None else start), min(end, end if stop is None else stop)
    graded: list[list[Stretch]] = [[] for _ in range(array.shape[0])]
    if not graded:
        return graded
    spans = []
    k = int(start // (STRETCH_S * fs))
    while start < stop and (onset := round(k * STRETCH_S * fs)) < stop:
        offset = round((k + 1) * STRETCH_S * fs)
        k += 1
        onset, offset = max(onset, first), min(offset, end)
        if offset <= start or offset - onset < 2 * fs:
            continue
        spans.append((onset, offset))
    for group in _alike(spans, plan.factor, array.shape[0]):
        # Stretches that lie alike on the grid of bins are rows of one array.
        onset, offset = group[0]
        rows = np.concatenate([array[:, low - first : high - first] for low, high in group])
        measures = _measures(rows, onset, offset, plan).reshape(len(_LIMITS), len(group), -1)
        for place, (low, high) in enumerate(group):
            for row, into in enumerate(graded):
                into.append(Stretch(low, high, *_grade(measures[:, place, row])))
    for into in graded:
        into.sort(key=lambda stretch: stretch.onset)
    return graded


def _alike(spans: list[tuple[int, int]], factor: int, signals: int) -> list[list[tuple[int, int]]]:
    """Stretches of one length and place on the grid of bins, in groups that stay in the processor's cache."""
    most = max(1, _PASS_ROWS // max(1, signals))
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for onset, offset in spans:
        groups.setdefault((onset % factor, offset - onset), []).append((onset, offset))
    return [group[k : k + most] for group in groups.values() for k in range(0, len(group), most)]


def _grade(measures: NDArray[np.float64]) -> tuple[Grade, Reason | None]:
    for (reason, bad, _), value in zip(_LIMITS, measures, strict=True):
        if value > bad:
            return Grade.BAD, reason
    for (reason, _, usable), value in zip(_LIMITS, measures, strict=True):
        if value > usable:
            return Grade.USABLE, reason
    return Grade.GOOD, None


def _measures(samples: NDArray[Any], onset: int, offset: int, plan: Plan) -> NDArray[np.float64]:
    """One row a reason in the order of _LIMITS, one column a signal."""
    x = samples.astype(np.float32)
    there = np.abs(x) < LIMIT
    missing = 1 - there.mean(axis=1)
    x[~there] = np.nan
    bins, _ = average(x, onset, onset, offset, plan.factor)
    wander = _wander(bins, plan)
    still = _still(bins, plan)
    energy, present = qrs_energy(bins, plan)
    level, between, spread = _energy(energy, present, plan)
    silent = level < _QRS_LEAST_MV
    size = np.maximum(level, _QRS_LEAST_MV)
    baseline = np.maximum(wander / (12 * size), wander / 8)
    mains = _mains(x, there, plan.fs) / size
    noise = np.maximum(between / 0.27, (spread - 1) / 4)
    rows = [missing, still, silent, _stuck(x, plan.fs), baseline, mains, noise]
    return np.nan_to_num(np.stack([np.asarray(row, np.float64) for row in rows]))


def _energy(energy: Float, present: NDArray[np.bool_], plan: Plan) -> tuple[Float, Float, Any]:
    """QRS level (median of the 1.5-s maxima), energy between beats relative to it, largest maximum over smallest."""
    size = plan.bins(1.5)
    blocks = energy.shape[1] // size
    largest = energy[:, : blocks * size].reshape(energy.shape[0], blocks, size).max(axis=2)
    # A block with a hole in it may have lost its beats.
    whole = present[:, : blocks * size].reshape(energy.shape[0], blocks, size).all(axis=2)
    level = np.nan_to_num(np.asarray(median(np.where(whole, largest, np.float32(np.nan))), np.float32))
    safe = np.maximum(level, np.float32(1e-6))
    between = np.asarray(median(np.where(present, energy, np.float32(np.nan))), np.float32)
    top = np.where(whole, largest, 0).max(axis=1)
    bottom = np.where(whole, largest, np.inf).min(axis=1)
    return level, np.asarray(between / safe), top / np.maximum(bottom, np.float32(0.01) * safe)


def _still(bins: Float, plan: Plan) -> NDArray[np.float64]:
    """Share of 0.2-s pieces in which nothing moves."""
    size = max(2, plan.bins(_STILL_S))
    pieces = bins[:, : bins.shape[1] // size * size].reshape(bins.shape[0], -1, size)
    return np.asarray((np.ptp(pieces, axis=2) < _STILL_MV).mean(axis=1), np.float64)


def _wander(bins: Float, plan: Plan) -> Float:
    """Range of the medians of 0.5-s pieces, mV."""
    size = plan.bins(0.5)
    pieces = bins[:, : bins.shape[1] // size * size].reshape(bins.shape[0], -1, size)
    middle = np.asarray(median(pieces), np.float32)
    present = ~np.isnan(middle)
    top = np.where(present, middle, -np.inf).max(axis=1)
    bottom = np.where(present, middle, np.inf).min(axis=1)
    return np.where(present.any(axis=1), top - bottom, 0).astype(np.float32)


def _stuck(x: Float, fs: float) -> NDArray[np.float64]:
    """Share of samples in runs of 40 ms or more at exactly the largest or the smallest value."""
    size = max(3, round(_STUCK_S * fs))
    if x.shape[1] < size:
        return np.zeros(x.shape[0])
    top = np.where(np.isnan(x), -np.inf, x).max(axis=1, keepdims=True)
    bottom = np.where(np.isnan(x), np.inf, x).min(axis=1, keepdims=True)
    total = np.zeros(x.shape[0])
    for rail in (top, bottom):
        rows = np.flatnonzero((x == rail).sum(axis=1) > 0.01 * x.shape[1])
        if not len(rows):
            continue
        at = np.zeros((len(rows), x.shape[1] + 1), np.int64)
        np.cumsum(x[rows] == rail[rows], axis=1, out=at[:, 1:])
        begins = at[:, size:] - at[:, :-size] == size
        # A run of r begins is r + size - 1 samples long.
        runs = (begins[:, 1:] & ~begins[:, :-1]).sum(axis=1) + begins[:, 0]
        total[rows] += begins.sum(axis=1) + runs * (size - 1)
    return np.asarray(total / x.shape[1], np.float64)


def _mains(x: Float, there: NDArray[np.bool_], fs: float) -> NDArray[np.float64]:
    """Amplitude at 50 or 60 Hz, the larger, mV, less what +-4 Hz has: median over every other 1-s piece."""
    size = round(fs)
    pieces = np.where(there, x, 0)[:, : x.shape[1] // size * size].reshape(x.shape[0], -1, size)[:, ::2]
    pieces = pieces - pieces.mean(axis=2, keepdims=True)
    window = np.hanning(size).astype(np.float32)
    largest = np.zeros(x.shape[0])
    for mains in _MAINS_HZ:
        if mains + 4 >= fs / 2:
            continue
        below, at, above = (_tone(pieces, window, hertz / fs) for hertz in (mains - 4, mains, mains + 4))
        excess = np.maximum(at - np.maximum(below, above), 0)
        largest = np.maximum(largest, median(excess))
    return largest


def _tone(pieces: Float, window: Float, frequency: float) -> Float:
    """Amplitude of each piece at one frequency (cycles a sample)."""
    phase = 2 * np.pi * frequency * np.arange(len(window))
    real = (pieces * (window * np.cos(phase).astype(np.float32))).sum(axis=2)
    imaginary = (pieces * (window * np.sin(phase).astype(np.float32))).sum(axis=2)
    amplitude: Float = np.hypot(real, imaginary) * np.float32(2 / window.sum())
    return amplitude
