"""R peaks from one or many ECG signals, exactly the same in a stream as in one pass.

The detector is of the filter-and-threshold family (Pan and Tompkins 1985, IEEE Trans Biomed Eng 32:230), with every
step made *local*, so that the answer at one moment depends on a bounded stretch of signal round it:

1. means over bins of an absolute grid bring any rate to about 100-200 Hz (``grid``);
2. one FIR filter, band-pass 6-22 Hz and difference in one; square; 130-ms moving sum; square root;
3. candidates are the largest values within 0.2 s on either side;
4. the level is the median, over blocks of 1.3 s from 4 before to 2 after, of each block's largest value, so that one
   artefact or one large ventricular beat does not raise it; the noise floor the same median of each block's median;
5. a candidate over its threshold is a beat, unless it is a T wave (soon after a much larger one);
6. in a gap that is long against the neighbouring intervals a lower threshold holds, the lower the longer it is;
7. a small one half-way between two beats that are one interval of a steady rhythm apart is a disturbance;
8. the peak is the largest deflection within 60 ms in the signal as it came, with signal on both sides of it.

There is no running state: no beat depends on decisions further away than a few seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.grid import LIMIT, Bool, Float, Index, as_signals, average
from vitalgate.signal.peaks import block_levels, by_passes, local_maxima, median, typical_intervals
from vitalgate.signal.qrs import Plan, plan_for, qrs_energy

NAME = "vg-beats"
VERSION = "3"

#: Derived beats are stored and replaced by blocks of this many seconds on the absolute grid (sample 0 starts block 0).
BLOCK_S = 10

#: A beat at sample t depends on samples in [t - BEFORE_S*fs, t + AFTER_S*fs) only.
BEFORE_S = 24.0
AFTER_S = 8.0

#: About this many bins (signals x time) are worked on at once, so that they stay in the processor's cache.
_PASS_BINS = 65_000

#: Blocks of this length on the absolute grid tell the level of the QRS complexes: the longest period of any step.
GRID_S = 1.3
_APART_S = 0.2
_BLOCKS_BEFORE, _BLOCKS_AFTER = 4, 2
_LEVEL_SHARE = 0.32
_NOISE_TIMES, _NOISE_MOST = 1.8, 0.8
#: QRS energy of a complex of some 0.12 mV: below the 0.15 mV that heart-rate meters are held to, so that a monitor's
#: noise is not taken for beats when a heart stands still.
_FLOOR_MV = 0.03
_T_WAVE_S, _T_WAVE_SHARE = 0.36, 0.38
_GAP_RATIO, _GAP_SHARE = 1.5, 0.14
_GAP_BACK_S, _GAP_AHEAD_S = 4.0, 2.5
_RR_COUNT, _RR_BACK_S = 8, 8.0
_BETWEEN_SHARE, _BETWEEN_WITHIN, _STEADY, _BETWEEN_LONGEST_S = 0.8, 0.15, 0.2, 2.0
_HOLLOW_RATIO, _HOLLOW_SHARE = 1.2, 0.2
_SNAP_S, _EDGE_S = 0.06, 0.05


def find_beats(
    signals: ArrayLike, fs: float, first: int = 0, start: int | None = None, stop: int | None = None
) -> list[Index]:
    """Find R peaks.

    Parameters
    ----------
    signals
        ECG in mV, (n_signals, n_samples) or (n_samples,) for one; float32 or float64; NaN where there is no signal.
    fs
        Sampling rate, 100 to 1000 Hz.
    first
        Absolute index of the first column: samples are counted from the beginning of the recording.
    start, stop
        Absolute samples: beats in [start, stop) are wanted. By default those of the whole array. The array may
        reach further, and should, by BEFORE_S and AFTER_S seconds: then the result is final, that is, equal bit for bit
        to that of one pass over the whole recording. Samples beyond the array count as missing.

    Returns
    -------
    For each signal the absolute sample indices of its R peaks, increasing. They depend on samples in
    [start - BEFORE_S*fs, stop + AFTER_S*fs) only, and on no other signal.

    Raises
    ------
    ValueError
        If the rate is outside 100..1000 Hz, or signals have more than two dimensions.
    """
    array = as_signals(signals)
    plan = plan_for(float(fs))
    start = first if start is None else start
    stop = first + array.shape[1] if stop is None else stop

    def one_pass(top: int, bottom: int, begin: int, end: int) -> list[Index]:
        return _one_pass(array[top:bottom], plan, first, begin, end)

    halo = int((BEFORE_S + AFTER_S) * plan.fs)
    return by_passes(one_pass, array.shape[0], start, stop, plan.factor, halo, _PASS_BINS)


def find_beats_together(
    signals: ArrayLike, fs: float, first: int = 0, start: int | None = None, stop: int | None = None
) -> Index:
    """Find the beats that the leads of one person show between them.

    As ``find_beats``, but on the median of the QRS energies of the leads that are there (the mean of two), so that a
    beat that one lead hardly shows is found by the others, and a disturbance of one lead counts little.

    Parameters
    ----------
    signals
        (n_leads, n_samples), mV; the other parameters are those of ``find_beats``.

    Returns
    -------
    Absolute sample indices, increasing: each in the lead that shows it best.

    Raises
    ------
    ValueError
        As ``find_beats``.
    """
    array = as_signals(signals)
    plan = plan_for(float(fs))
    start = first if start is None else start
    stop = first + array.shape[1] if stop is None else stop
    step = max(1, _PASS_BINS // max(1, array.shape[0])) * plan.factor
    parts = [
        _one_pass(array, plan, first, begin, min(begin + step, stop), together=True)[0]
        for begin in range(start, stop, step)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _one_pass(
    array: NDArray[Any], plan: Plan, first: int, start: int, stop: int, together: bool = False
) -> list[Index]:
    count = 1 if together else array.shape[0]
    low, high = start - int(BEFORE_S * plan.fs), stop + int(AFTER_S * plan.fs)
    # Where the array has nothing for long, there is nothing to compute.
    low, high = max(low, first - int(2 * plan.fs)), min(high, first + array.shape[1] + int(2 * plan.fs))
    if high <= low or not array.shape[0]:
        return [np.empty(0, np.int64)] * count
    bins, origin = average(array, first, low, high, plan.factor)
    apart, present = qrs_energy(bins, plan)
    feature = apart
    if together:
        feature = np.nan_to_num(median(np.where(present, apart, np.float32(np.nan)).T))[np.newaxis].astype(np.float32)
        present = np.asarray(present.any(axis=0, keepdims=True))
    rows, cols = local_maxima(feature, plan.bins(_APART_S), _FLOOR_MV)
    size = plan.bins(GRID_S)
    level, noise = block_levels(feature, present, origin, size, _BLOCKS_BEFORE, _BLOCKS_AFTER)
    block = (cols + origin) // size - origin // size
    # One increasing key for all signals: neighbours are found by one sorted search, and never across signals.
    key = rows * (feature.shape[1] + plan.bins(60)) + cols
    keep = _decide(key, feature[rows, cols], level[rows, block], noise[rows, block], plan)
    rows, cols = rows[keep], cols[keep]
    clearest = apart[:, cols].argmax(axis=0) if together else rows
    about = (cols + origin) * plan.factor + plan.factor // 2
    peaks, whole = _snap(array, first, clearest, about, plan, low, high)
    wanted = (peaks >= start) & (peaks < stop) & whole
    rows, peaks = rows[wanted], peaks[wanted]
    return np.split(peaks, np.searchsorted(rows, np.arange(1, count)))


def _decide(key: Index, height: Float, level: Float, noise: Float, plan: Plan) -> Bool:
    """Which candidates are beats."""
    level, noise = np.nan_to_num(level), np.nan_to_num(noise)
    floor = np.maximum(np.minimum(_NOISE_TIMES * noise, _NOISE_MOST * level), _FLOOR_MV)
    strong = height >= np.maximum(_LEVEL_SHARE * level, floor)
    t_wave = np.zeros(len(key), np.bool_)
    for back in (1, 2):
        if len(key) > back:
            near = key[back:] - key[:-back] <= plan.bins(_T_WAVE_S)
            t_wave[back:] |= near & (height[back:] < _T_WAVE_SHARE * height[:-back]) & strong[:-back]
    sure = strong & ~t_wave
    at = key[sure]
    if len(at) < 3:
        return np.asarray(sure)
    typical, spread = typical_intervals(at, _RR_COUNT, plan.bins(_RR_BACK_S), plan.rate)
    # Search back.
    after = np.searchsorted(at, key, side="left")
    before = after - 1
    none = np.int64(1) << 60
    to_last = np.where(before >= 0, key - at[np.maximum(before, 0)], none)
    to_next = np.where(after < len(at), at[np.minimum(after, len(at) - 1)] - key, none)
    expected = typical[np.clip(before, 0, len(at) - 1)]
    expected = np.where(to_last < plan.bins(_GAP_BACK_S), expected, plan.rate)
    gap = np.minimum(to_last, plan.bins(_GAP_BACK_S)) + np.minimum(to_next, plan.bins(_GAP_AHEAD_S))
    clear = plan.bins(_T_WAVE_S)
    share = np.where(gap > _GAP_RATIO * expected, _GAP_SHARE, _HOLLOW_SHARE)
    again = (
        ~sure & ~t_wave & (gap > _HOLLOW_RATIO * expected) & (to_last > clear) & (to_next > clear)
        & (height >= np.maximum(share * level, floor))
    )  # fmt: skip
    sure[sure] = ~_between(at, height[sure], level[sure], typical, spread, plan)
    return np.asarray(sure | again)


def _between(
    at: Index, height: Float, level: Float, typical: NDArray[np.float64], spread: NDArray[np.float64], plan: Plan
) -> Bool:
    """Which of the beats at ``at`` are a disturbance between two beats of a steady rhythm.

    That is a small one, without which the interval is what those before it were.
    """
    tall = height / np.maximum(level, np.float32(_FLOOR_MV))
    extra = np.zeros(len(at), np.bool_)
    whole = at[2:] - at[:-2]
    small = tall[1:-1] < _BETWEEN_SHARE * np.minimum(1, np.minimum(tall[2:], tall[:-2]))
    near = whole <= plan.bins(_BETWEEN_LONGEST_S)
    extra[1:-1] = small & near & (np.abs(whole - typical[:-2]) < _BETWEEN_WITHIN * typical[:-2])
    extra[1:-1] &= spread[:-2] < _STEADY * typical[:-2]
    return extra


def _snap(
    array: NDArray[Any], first: int, rows: Index, about: Index, plan: Plan, low: int, high: int
) -> tuple[Index, Bool]:
    """The sample of largest deflection from the mean within 60 ms of each position, at full rate.

    And whether there is signal on both sides of it: of a beat cut in half nobody knows where its peak is.
    """
    side = round(_SNAP_S * plan.fs)
    at = about[np.newaxis, :] + np.arange(-side, side + 1)[:, np.newaxis]
    inside = (at >= max(low, first)) & (at < min(high, first + array.shape[1]))
    window = array[rows[np.newaxis, :], np.clip(at - first, 0, array.shape[1] - 1)].astype(np.float32, copy=False)
    good = inside & (np.abs(window) < LIMIT)
    # Added row by row: ``sum`` would choose an order by the shape of the array.
    mean = np.zeros(len(about), np.float32)
    for values in np.where(good, window, np.float32(0)):
        mean += values
    mean /= np.maximum(good.sum(axis=0), 1).astype(np.float32)
    deflection = np.where(good, np.abs(window - mean), np.float32(-1))
    top = deflection.argmax(axis=0)
    near = np.abs(np.arange(2 * side + 1)[:, np.newaxis] - top) <= round(_EDGE_S * plan.fs)
    return about - side + top, np.asarray((good | ~near).all(axis=0))
