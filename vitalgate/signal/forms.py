"""The form of each beat on a common grid, lined up by its energy, and what can be measured of it by itself.

Forms are cut from means over bins of the absolute grid (100-220 Hz), put on 120 points a second by straight lines,
lined up at the centre of the QRS complex's slope energy (the R peak itself jumps between the deflections of a wide
complex), freed of their level before the QRS, and kept as whole microvolts: two bytes a point, and sums of whole
numbers are exact in any order, so that what is made of them is the same in a stream as in one pass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.grid import Float, average
from vitalgate.signal.qrs import plan_for

Floats = NDArray[np.float64]
Forms = NDArray[np.int16]

#: Points a second of a form, its beginning and end relative to the centre of the QRS complex.
RATE = 120.0
FROM_S, TO_S = -0.36, 0.50
#: Points of the form itself; one column more holds by how much the centre is later than the R peak, in SHIFT_S.
SHAPE = round((TO_S - FROM_S) * RATE)
POINTS = SHAPE + 1
SHIFT_S = 1e-5
#: A form depends on samples within these of the R peak.
CUT_BEFORE_S, CUT_AFTER_S = 0.50, 0.64

_OFFSETS_S = FROM_S + np.arange(SHAPE) / RATE
_NEAR_S = np.arange(-16, 17) / RATE
_FARTHEST_S = 0.1
#: 20 mV: 512 such forms still add up exactly in single precision.
_MOST_UV = 20_000.0
_SMALL = 1e-6


def span(begin_s: float, end_s: float) -> slice:
    """Columns of a form from one time to another, both included, seconds from the centre of the QRS complex."""
    return slice(round((begin_s - FROM_S) * RATE), round((end_s - FROM_S) * RATE) + 1)


QRS, T_WAVE, P_WAVE, EARLY, WHOLE = (
    span(-0.10, 0.12), span(0.16, 0.42), span(-0.26, -0.07), span(-0.05, 0.05), span(-0.10, 0.40),
)  # fmt: skip


_WIDER = span(-0.14, 0.20)


def cut_forms(signal: ArrayLike, fs: float, beats: ArrayLike, first: int = 0) -> Forms:
    """Cut the form of each beat out of one signal.

    Parameters
    ----------
    signal
        (n_samples,), mV; NaN where missing.
    fs
        Sampling rate, 100 to 1000 Hz.
    beats
        Absolute samples of the R peaks.
    first
        Absolute index of the first sample.

    Returns
    -------
    (n_beats, POINTS): SHAPE points in microvolts relative to the median of the 80 ms that begin 120 ms before the
    centre, 0 where nothing is; then the centre's delay behind the R peak. A row depends on samples within CUT_BEFORE_S
    and CUT_AFTER_S of its beat.
    """
    x, at = np.asarray(signal).ravel(), np.asarray(beats, np.int64).ravel()
    plan = plan_for(float(fs))
    bins, origin = average(x[np.newaxis], first, first, first + len(x), plan.factor)
    row = bins[0]
    if not len(row) or not len(at):
        return np.zeros((len(at), POINTS), np.int16)
    # Position in bins: the middle of bin k is sample k*factor + (factor-1)/2.
    middle = (at - (plan.factor - 1) / 2) / plan.factor - origin
    delay = np.zeros(len(at))
    for _ in range(2):
        near = _read(row, middle + delay * plan.rate, _NEAR_S * plan.rate)
        near[np.isnan(near)] = 0
        energy = np.square(near[:, 2:] - near[:, :-2])
        total = (energy * _NEAR_S[1:-1]).sum(axis=1) / (energy.sum(axis=1) + _SMALL)
        delay = np.round(np.clip(delay + total, -_FARTHEST_S, _FARTHEST_S) / SHIFT_S) * SHIFT_S
    shape = _read(row, middle + delay * plan.rate, _OFFSETS_S * plan.rate)
    before = np.sort(shape[:, span(-0.12, -0.04)], axis=1)
    shape -= before[:, before.shape[1] // 2, np.newaxis]
    out = np.empty((len(at), POINTS), np.int16)
    out[:, :SHAPE] = np.clip(np.round(np.where(np.isnan(shape), 0, shape) * 1000), -_MOST_UV, _MOST_UV)
    out[:, SHAPE] = np.round(delay / SHIFT_S)
    return out


def _read(row: Float, middle: Floats, offsets: Floats) -> Floats:
    """Values at fractional positions, NaN outside."""
    place = middle[:, np.newaxis] + offsets
    whole = np.floor(place)
    share = place - whole
    left = whole.astype(np.int64)
    inside = (left >= 0) & (left + 1 < len(row))
    left = np.clip(left, 0, max(len(row) - 2, 0))
    right = np.minimum(left + 1, len(row) - 1)
    return np.asarray(np.where(inside, row[left] * (1 - share) + row[right] * share, np.nan))


def measure(shapes: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """What each form is like by itself.

    Parameters
    ----------
    shapes
        (n, SHAPE), microvolts.

    Returns
    -------
    By name, each (n,). Microvolts: ``size`` of the QRS complex, its ``height`` and ``depth``, ``area`` (mean size of
    deflection), ``slope`` (steepest step), ``t_size``, ``t_mean``, ``p_height`` over a line through the ends of the P
    window. Shares of the window: ``wide`` (over a third of the largest deflection), ``broad`` (over half), ``steep``
    (steps over a quarter of the steepest). Seconds: ``duration`` (of the slope energy), ``length`` (of the energy).
    ``noise``: mean second difference before the QRS, of its size.
    """
    body = shapes[:, QRS]
    height, depth = body.max(axis=1), body.min(axis=1)
    size = height - depth
    step = np.diff(body, axis=1)
    slope = np.abs(step).max(axis=1)
    wider = shapes[:, _WIDER]
    deflection = np.abs(wider)
    largest = deflection.max(axis=1, keepdims=True)
    t_wave = shapes[:, T_WAVE]
    fidget = np.abs(np.diff(shapes[:, span(-0.36, -0.08)], 2, axis=1)).mean(axis=1)
    return {
        "size": size, "height": height, "depth": depth, "area": np.abs(body).mean(axis=1), "slope": slope,
        "wide": (deflection > largest / 3).mean(axis=1, dtype=np.float32),
        "broad": (deflection > largest / 2).mean(axis=1, dtype=np.float32),
        "steep": (np.abs(np.diff(wider, axis=1)) > slope[:, np.newaxis] / 4).mean(axis=1, dtype=np.float32),
        "duration": _extent(step), "length": _extent(body),
        "t_size": np.ptp(t_wave, axis=1), "t_mean": t_wave.mean(axis=1),
        "p_height": _p_height(shapes[:, P_WAVE]), "noise": fidget / np.maximum(size, 1),
    }  # fmt: skip


def outline(
    shapes: NDArray[np.float32],
) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
    """Of what ``measure`` tells only ``length``, and ``wide``, ``size`` and ``p_height``."""
    body = shapes[:, QRS]
    deflection = np.abs(shapes[:, _WIDER])
    wide = (deflection > deflection.max(axis=1, keepdims=True) / 3).mean(axis=1, dtype=np.float32)
    return _extent(body), (wide, np.ptp(body, axis=1), _p_height(shapes[:, P_WAVE]))


def _p_height(p_wave: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(p_wave[:, 6:18].max(axis=1) - np.float32(0.5) * (p_wave[:, 0] + p_wave[:, -1]))


def _extent(part: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviation in time of the energy, seconds."""
    energy = part * part
    total = energy.sum(axis=1) + np.float32(1)
    at = (np.arange(part.shape[1]) / RATE).astype(np.float32)
    centre = (energy * at).sum(axis=1) / total
    spread = (energy * np.square(at - centre[:, np.newaxis])).sum(axis=1) / total
    return np.asarray(np.sqrt(spread), np.float32)


def alike(a: NDArray[np.float32], b: NDArray[np.float32], part: slice) -> NDArray[np.float32]:
    """Correlation of a part of each form with that of its counterpart, -1 to 1."""
    x, y = a[:, part], b[:, part]
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    power = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.asarray((x * y).sum(axis=1) / (power + np.float32(1)))
