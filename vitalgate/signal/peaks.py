"""What detectors of peaks share: local maxima of a feature, and its level and noise floor over blocks.

All are local and exact on the absolute grid (see ``grid``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal.grid import Bool, Float, Index, running_max


def local_maxima(feature: Float, apart: int, floor: float) -> tuple[Index, Index]:
    """Rows and columns, in order, of values above ``floor`` that are the largest within ``apart`` columns."""
    around = np.zeros((feature.shape[0], feature.shape[1] + 2 * apart), np.float32)
    around[:, apart : apart + feature.shape[1]] = feature
    largest = running_max(around, 2 * apart + 1)
    is_peak = (feature == largest) & (feature > floor)
    # Of a plateau the first.
    is_peak[:, 1:] &= feature[:, 1:] > feature[:, :-1]
    rows, cols = np.nonzero(is_peak)
    return rows, cols


def block_levels(feature: Float, present: Bool, origin: int, size: int, before: int, after: int) -> tuple[Float, Float]:
    """Level and noise floor of a feature for each block of ``size`` bins of the absolute grid.

    The level is the median of the largest values of the blocks from ``before`` before to ``after`` after, the noise
    floor that of their medians. Blocks that are not all there count for the level only if there is something in them,
    and not for the floor.

    Parameters
    ----------
    feature, present
        (n_signals, n_bins); feature is 0 where nothing is present.
    origin
        Absolute number of the first bin; block b covers bins b*size .. (b+1)*size - 1.

    Returns
    -------
    Two arrays (n_signals, n_blocks), the first block being that of the first bin; NaN where no block counts.
    """
    count = feature.shape[0]
    lead = origin % size
    blocks = -(-(lead + feature.shape[1]) // size)
    padded = np.zeros((count, blocks * size), np.float32)
    padded[:, lead : lead + feature.shape[1]] = feature
    cut = padded.reshape(count, blocks, size)
    largest = cut.max(axis=2)
    # Every fourth bin is plenty for a median.
    sparse = np.sort(cut[:, :, ::4], axis=2)
    typical = sparse[:, :, sparse.shape[2] // 2].copy()
    there = np.zeros((count, blocks * size), np.bool_)
    there[:, lead : lead + feature.shape[1]] = present
    missing = ~there.reshape(count, blocks, size).all(axis=2)
    largest[missing & (largest <= 0)] = np.nan
    typical[missing] = np.nan
    return _running_median(largest, before, after), _running_median(typical, before, after)


def _running_median(values: Float, before: int, after: int) -> Float:
    count, blocks = values.shape
    padded = np.full((count, blocks + before + after), np.nan, np.float32)
    padded[:, before : before + blocks] = values
    middle: Float = median(np.stack([padded[:, k : k + blocks] for k in range(before + 1 + after)], axis=-1))
    return middle


def median(values: NDArray[Any]) -> Any:
    """Median over the last axis of what is not NaN, without a warning: NaN where nothing is left."""
    ordered = np.sort(values, axis=-1)
    size = np.count_nonzero(~np.isnan(values), axis=-1)[..., np.newaxis]
    low = np.take_along_axis(ordered, np.maximum(size - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(size // 2, values.shape[-1] - 1), axis=-1)
    return ((low + high) * 0.5)[..., 0]


def typical_intervals(
    at: Index, count: int, reach: int, default: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each beat what up to ``count`` intervals ending at it or before, that begin within ``reach`` of it, are like.

    Parameters
    ----------
    at
        Increasing positions; those of different signals must be further apart than ``reach``.

    Returns
    -------
    Their median, ``default`` where there is none; and the distance between their quartiles, infinite with fewer than
    four.
    """
    intervals = np.full((len(at), count), np.nan)
    for k in range(count):
        if len(at) > k + 1:
            older, newer = at[: len(at) - k - 1], at[1 : len(at) - k]
            near = at[k + 1 :] - older <= reach
            intervals[k + 1 :, k] = np.where(near, newer - older, np.nan)
    ordered = np.sort(intervals, axis=1)
    size = np.count_nonzero(~np.isnan(ordered), axis=1)
    row = np.arange(len(at))
    middle = 0.5 * (ordered[row, np.maximum(size - 1, 0) // 2] + ordered[row, np.minimum(size // 2, count - 1)])
    spread = ordered[row, np.maximum(3 * size // 4, 1) - 1] - ordered[row, size // 4 - (size == count)]
    return np.where(size > 0, middle, default), np.where(size >= 4, spread, np.inf)


def by_passes(
    one_pass: Callable[[int, int, int, int], list[Index]],
    count: int,
    start: int,
    stop: int,
    factor: int,
    halo: int,
    most_bins: int,
) -> list[Index]:
    """Cut long stretches, and group many signals, so that a pass stays in the processor's cache.

    Finite support allows both. ``one_pass`` gets (first row, last row + 1, start, stop) and gives one array a row;
    it reads ``halo`` samples more than those wanted. ``factor`` is samples a bin.
    """
    found: list[list[Index]] = [[np.empty(0, np.int64)] for _ in range(count)]
    step = factor * most_bins
    for begin in range(start, stop, step):
        end = min(begin + step, stop)
        together = max(1, most_bins // ((end - begin + halo) // factor + 1))
        for row in range(0, count, together):
            for k, peaks in enumerate(one_pass(row, min(row + together, count), begin, end)):
                found[row + k].append(peaks)
    return [np.concatenate(parts) for parts in found]
