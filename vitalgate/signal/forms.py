"""The form of each beat on a common grid, and how it compares with the beats round it.

Forms are cut from means over bins of the absolute grid (100-220 Hz), put on 120 points a second by straight lines, and
freed of their level before the QRS. Everything about a beat depends on beats within CONTEXT_S before it and AHEAD_S
after it (and the interval before those), so the features of a beat are the same in a stream as in one pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.grid import Index, average
from vitalgate.signal.qrs import plan_for

Floats = NDArray[np.float64]

#: Points a second of a form, its beginning and end relative to the R peak.
RATE = 120.0
FROM_S, TO_S = -0.30, 0.42
#: A beat is compared with up to BEFORE beats before it, none earlier than CONTEXT_S, and AFTER after it within AHEAD_S.
BEFORE, AFTER = 16, 4
CONTEXT_S, AHEAD_S = 24.0, 6.0

_POINTS = round((TO_S - FROM_S) * RATE)
_OFFSETS_S = FROM_S + np.arange(_POINTS) / RATE

NAMES = (
    "rr", "rr_next", "rr_before", "rr_over_typical", "next_over_typical", "rr_over_next", "rr_over_before", "typical",
    "spread", "qrs_like", "qrs_like_best", "qrs_like_share", "t_like", "p_like", "p_like_best", "height", "depth",
    "size", "area", "width", "width_ratio", "slope", "t_size", "t_sign", "p_size", "p_height", "early_like",
    "sum_over_typical", "before_over_typical", "like_last", "like_next", "skew", "noise",
)  # fmt: skip


def cut_forms(signal: ArrayLike, fs: float, beats: ArrayLike, first: int = 0) -> Floats:
    """Cut the form of each beat out of one signal.

    Parameters
    ----------
    signal
        (n_samples,), mV; NaN where missing.
    beats
        Absolute samples of the R peaks.
    first
        Absolute index of the first sample.

    Returns
    -------
    (n_beats, 86), mV relative to the median of the 80 ms that begin 120 ms before the peak; 0 where nothing is.
    """
    x, at = np.asarray(signal).ravel(), np.asarray(beats, np.int64).ravel()
    plan = plan_for(float(fs))
    bins, origin = average(x[np.newaxis], first, first, first + len(x), plan.factor)
    row = bins[0]
    if not len(row) or not len(at):
        return np.zeros((len(at), _POINTS))
    # Position in bins: the middle of bin k is sample k*factor + (factor-1)/2.
    place = (at[:, np.newaxis] + _OFFSETS_S * fs - (plan.factor - 1) / 2) / plan.factor
    whole = np.floor(place)
    share = place - whole
    left = whole.astype(np.int64) - origin
    inside = (left >= 0) & (left + 1 < len(row))
    left = np.clip(left, 0, max(len(row) - 2, 0))
    right = np.minimum(left + 1, len(row) - 1)
    forms = np.where(inside, row[left] * (1 - share) + row[right] * share, np.nan)
    before = np.sort(forms[:, _span(-0.12, -0.04)], axis=1)
    forms -= before[:, before.shape[1] // 2, np.newaxis]
    return np.nan_to_num(forms)


def _span(begin_s: float, end_s: float) -> slice:
    return slice(round((begin_s - FROM_S) * RATE), round((end_s - FROM_S) * RATE) + 1)


def describe(forms: Floats, beats: ArrayLike, fs: float) -> Floats:
    """What each beat is like, by itself and beside the beats round it.

    Parameters
    ----------
    forms
        Of ``cut_forms``.
    beats
        The same beats, absolute samples, increasing.

    Returns
    -------
    (n_beats, 33) in the order of NAMES; NaN where a neighbour is missing.
    """
    at = np.asarray(beats, np.int64).ravel()
    n = len(at)
    if not n:
        return np.empty((0, len(NAMES)))
    near = [k for k in range(-BEFORE, AFTER + 1) if k]
    index = np.arange(n)[:, np.newaxis] + np.array(near)
    there = (index >= 0) & (index < n)
    index = np.clip(index, 0, n - 1)
    away = (at[index] - at[:, np.newaxis]) / fs
    there &= (away >= -CONTEXT_S) & (away <= AHEAD_S)
    qrs, t, p = _span(-0.08, 0.10), _span(0.14, 0.40), _span(-0.26, -0.08)
    early = _span(-0.05, 0.05)
    like_qrs = _likeness(forms, qrs, near, index, there)
    like_t, like_p = _likeness(forms, t, near, index, there), _likeness(forms, p, near, index, there)
    intervals = np.full(n + 1, np.nan)
    intervals[1:-1] = np.diff(at) / fs
    # intervals[k] ends at beat k, intervals[k + 1] begins there; unknown when too long to be one.
    intervals[intervals > AHEAD_S] = np.nan
    rr, after = intervals[:-1], intervals[1:]
    before = np.concatenate([[np.nan], rr[:-1]])
    around = np.where(there, rr[index], np.nan)
    typical, spread = _middle(around), _quartiles(around)
    typical = np.where(np.isnan(typical), rr, typical)
    body = forms[:, qrs]
    height, depth = body.max(axis=1), body.min(axis=1)
    size = height - depth
    area = np.abs(body).mean(axis=1)
    wide = _width(body)
    slope = np.abs(np.diff(body, axis=1)).max(axis=1)

    def beside(values: Floats) -> Floats:
        return np.asarray(_middle(np.where(there, values[index], np.nan)))

    normal_size, normal_slope, normal_area = beside(size), beside(slope), beside(area)
    t_body, p_body = forms[:, t], forms[:, p]
    t_size = np.ptp(t_body, axis=1)
    quiet = np.abs(np.diff(forms[:, _span(-0.30, -0.08)], 2, axis=1)).mean(axis=1)
    previous, following = near.index(-1), near.index(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = [
            rr, after, before, rr / typical, after / typical, rr / after, rr / before, typical, spread / typical,
            _middle(like_qrs), _best(like_qrs), _share(like_qrs > 0.9, there), _middle(like_t), _middle(like_p),
            _best(like_p), height / normal_size, depth / normal_size, size / normal_size, area / normal_area, wide,
            wide / beside(wide), slope / normal_slope, t_size / size,
            (t_body.max(axis=1) + t_body.min(axis=1)) / np.maximum(t_size, 1e-3), np.ptp(p_body, axis=1) / size,
            (p_body.max(axis=1) - np.abs(p_body[:, 0])) / normal_size,
            _middle(_likeness(forms, early, near, index, there)), (rr + after) / typical, before / typical,
            np.where(there[:, previous], like_qrs[:, previous], np.nan),
            np.where(there[:, following], like_qrs[:, following], np.nan),
            (height + depth) / np.maximum(size, 1e-3), quiet / np.maximum(size, 1e-3),
        ]  # fmt: skip
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def _likeness(forms: Floats, span: slice, near: list[int], index: Index, there: NDArray[np.bool_]) -> Floats:
    """Correlation of each beat's part with that of each neighbour, (n, len(near)), NaN where there is none."""
    part = forms[:, span]
    mean = part.mean(axis=1, keepdims=True)
    part = part - mean
    part /= np.sqrt((part * part).sum(axis=1, keepdims=True)) + 1e-6
    out = np.full(there.shape, np.nan)
    n = len(part)
    for column, shift in enumerate(near):
        if abs(shift) < n:
            # Each product of a pair is needed twice, once for each of the two.
            low = max(0, -shift)
            high = n - max(0, shift)
            out[low:high, column] = (part[low:high] * part[low + shift : high + shift]).sum(axis=1)
    out[~there] = np.nan
    return out


def _middle(values: NDArray[Any]) -> Floats:
    ordered = np.sort(values, axis=1)
    size = np.count_nonzero(~np.isnan(ordered), axis=1)
    row = np.arange(len(values))
    return np.asarray(ordered[row, np.maximum(size - 1, 0) // 2])


def _quartiles(values: NDArray[Any]) -> Floats:
    ordered = np.sort(values, axis=1)
    size = np.count_nonzero(~np.isnan(ordered), axis=1)
    row = np.arange(len(values))
    return np.asarray(
        ordered[row, np.maximum(3 * size // 4, 1) - 1] - ordered[row, np.minimum(size // 4, ordered.shape[1] - 1)]
    )


def _best(values: Floats) -> Floats:
    """The third largest: one lucky neighbour is not enough."""
    ordered = np.sort(np.nan_to_num(values, nan=-1.0), axis=1)
    return np.asarray(ordered[:, -3])


def _share(what: NDArray[np.bool_], there: NDArray[np.bool_]) -> Floats:
    return np.asarray((what & there).sum(axis=1) / np.maximum(there.sum(axis=1), 1))


def _width(body: Floats) -> Floats:
    """Share of the QRS window in which the deflection is over a third of the largest."""
    size = np.abs(body)
    return np.asarray((size > size.max(axis=1, keepdims=True) / 3).mean(axis=1))
