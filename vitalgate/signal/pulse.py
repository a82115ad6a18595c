"""Pulse peaks from one or many photoplethysmograms (PPG), exactly the same in a stream as in one pass.

The steepest rise of each pulse is found and the peak after it taken, as in the slope-sum method (Zong et al. 2003,
Comput Cardiol 30:259), with every step local as in ``beats``: band-pass 0.5-3.5 Hz and difference by one FIR filter,
rises only, 0.1-s moving sum, largest values 0.25 s apart, a threshold of 0.4 of the median of the largest values of 2-s
blocks, and no second peak soon after a much larger one (the dicrotic wave). The unit of a PPG is arbitrary, and no
result depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import convolve1d
from scipy.signal import firwin

from vitalgate.signal.grid import LIMIT, Bool, Float, Index, as_signals, average, check_rate, fill, running_sum
from vitalgate.signal.peaks import block_levels, by_passes, local_maxima

NAME = "vg-pulse"
VERSION = "1"

#: A pulse at sample t depends on samples in [t - BEFORE_S*fs, t + AFTER_S*fs) only.
BEFORE_S = 16.0
AFTER_S = 8.0

LOWEST_RATE, HIGHEST_RATE = 20.0, 1000.0

_PASS_BINS = 65_000
_BAND_HZ = (0.5, 3.5)
_FIR_S = 0.5
_SMOOTH_S = 0.1
_APART_S = 0.25
_BLOCK_S = 2.0
_BLOCKS_BEFORE, _BLOCKS_AFTER = 5, 1
_SHARE = 0.4
_DICROTIC_S, _DICROTIC_SHARE = 0.45, 0.6
#: The peak follows the steepest rise within this time.
_RISE_S = 0.35
#: Below this share of the signal's own size a feature is rounding.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class _Plan:
    fs: float
    factor: int
    rate: float
    taps: NDArray[np.float64]
    smooth: int
    apart: int
    block: int


@lru_cache(maxsize=32)
def _plan(fs: float) -> _Plan:
    check_rate(fs, LOWEST_RATE, HIGHEST_RATE)
    factor = max(1, int(fs // 30))
    rate = fs / factor
    half = round(_FIR_S * rate)
    band = firwin(2 * half + 1, _BAND_HZ, pass_zero=False, fs=rate, window="hamming")
    taps = np.convolve(band, [1.0, 0.0, -1.0])
    smooth = 2 * round(_SMOOTH_S * rate / 2) + 1
    return _Plan(fs, factor, rate, taps, smooth, round(_APART_S * rate), round(_BLOCK_S * rate))


def find_pulses(
    signals: ArrayLike, fs: float, first: int = 0, start: int | None = None, stop: int | None = None
) -> list[Index]:
    """Find systolic peaks.

    Parameters
    ----------
    signals
        PPG in any unit, larger with more blood, (n_signals, n_samples) or (n_samples,) for one; NaN where missing.
    fs
        Sampling rate, 20 to 1000 Hz.
    first
        Absolute index of the first column.
    start, stop
        Absolute samples: pulses in [start, stop) are wanted; by default those of the whole array.

    Returns
    -------
    For each signal the absolute sample indices of its pulse peaks, increasing. They depend on samples in
    [start - BEFORE_S*fs, stop + AFTER_S*fs) only, and on no other signal.

    Raises
    ------
    ValueError
        If the rate is outside 20..1000 Hz, or signals have more than two dimensions.
    """
    array = as_signals(signals)
    plan = _plan(float(fs))
    start = first if start is None else start
    stop = first + array.shape[1] if stop is None else stop

    def one_pass(top: int, bottom: int, begin: int, end: int) -> list[Index]:
        return _one_pass(array[top:bottom], plan, first, begin, end)

    halo = int((BEFORE_S + AFTER_S) * plan.fs)
    return by_passes(one_pass, array.shape[0], start, stop, plan.factor, halo, _PASS_BINS)


def _one_pass(array: NDArray[Any], plan: _Plan, first: int, start: int, stop: int) -> list[Index]:
    low, high = start - int(BEFORE_S * plan.fs), stop + int(AFTER_S * plan.fs)
    margin = int(4 * plan.fs)
    low, high = max(low, first - margin), min(high, first + array.shape[1] + margin)
    if high <= low:
        return [np.empty(0, np.int64)] * array.shape[0]
    bins, origin = average(array, first, low, high, plan.factor)
    feature, present = _feature(bins, plan)
    rows, cols = local_maxima(feature, plan.apart, 0.0)
    level, _ = block_levels(feature, present, origin, plan.block, _BLOCKS_BEFORE, _BLOCKS_AFTER)
    block = (cols + origin) // plan.block - origin // plan.block
    height = feature[rows, cols]
    strong = height >= _SHARE * np.nan_to_num(level[rows, block])
    key = rows * (feature.shape[1] + round(60 * plan.rate)) + cols
    dicrotic = np.zeros(len(key), np.bool_)
    near = key[1:] - key[:-1] <= _DICROTIC_S * plan.rate
    dicrotic[1:] = near & strong[:-1] & (height[1:] < _DICROTIC_SHARE * height[:-1])
    keep = strong & ~dicrotic
    rows, about = rows[keep], (cols[keep] + origin) * plan.factor + plan.factor // 2
    peaks = _top(array, first, rows, about, plan, low, high)
    wanted = (peaks >= start) & (peaks < stop)
    rows, peaks = rows[wanted], peaks[wanted]
    return np.split(peaks, np.searchsorted(rows, np.arange(1, array.shape[0])))


def _feature(bins: Float, plan: _Plan) -> tuple[Float, Bool]:
    half = len(plan.taps) // 2
    present = fill(bins, half + plan.smooth)
    rise = convolve1d(bins, plan.taps, axis=1, mode="constant")
    with np.errstate(invalid="ignore"):
        np.maximum(rise, np.float32(0), out=rise)
        rise[rise < np.abs(bins) * np.float32(_ROUNDING)] = 0
    edge = half + plan.smooth // 2
    feature = np.zeros_like(bins)
    if feature.shape[1] <= 2 * edge:
        return feature, present
    feature[:, edge:-edge] = running_sum(rise, plan.smooth)[:, half:-half]
    feature[~present] = 0
    return feature, present


def _top(array: NDArray[Any], first: int, rows: Index, about: Index, plan: _Plan, low: int, high: int) -> Index:
    """The first largest sample after the steepest rise, at full rate."""
    at = about[np.newaxis, :] + np.arange(round(_RISE_S * plan.fs) + 1)[:, np.newaxis]
    inside = (at >= max(low, first)) & (at < min(high, first + array.shape[1]))
    window = array[rows[np.newaxis, :], np.clip(at - first, 0, array.shape[1] - 1)]
    window = np.where(inside & (np.abs(window) < LIMIT), window, -np.inf)
    peaks: Index = about + window.argmax(axis=0)
    return peaks
