"""The absolute grid: what makes streaming exact.

Samples have absolute indices. They are averaged in *bins* of a whole number of samples, and bin k always covers samples
k*factor .. (k+1)*factor - 1, wherever the array at hand begins. Everything after that is done with operations whose
result at one bin is the same bit for bit wherever the array begins and ends: elementwise arithmetic, sums of shifted
arrays in a fixed order, direct-form convolution, comparisons. (A running sum by ``cumsum`` or ``uniform_filter1d``, and
any filter by FFT, are not such operations: their rounding depends on where they started.)

What is missing is NaN, and what lies outside the array is missing. So a function that depends on bins within a bounded
distance only gives the same answer from a long recording, from a stretch of it, and from a stream.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Index = NDArray[np.int64]

#: Anything beyond this (in mV) cannot be a body's voltage; treated as missing, so that squares stay finite.
LIMIT = np.float32(1e6)


def as_signals(signals: ArrayLike) -> NDArray[Any]:
    """Signals as a 2-D floating array (n_signals, n_samples); a 1-D array is one signal. Makes no copy if it need not.

    Raises
    ------
    ValueError
        If there are more than two dimensions.
    """
    array = np.asarray(signals)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    if array.ndim == 1:
        array = array[np.newaxis, :]
    if array.ndim != 2:
        raise ValueError(f"signals have {array.ndim} dimensions; give (n_signals, n_samples), or (n_samples,) for one")
    return array


def check_rate(fs: float, low: float, high: float) -> float:
    """The sampling rate as a float, if it lies in low..high (Hz).

    Raises
    ------
    ValueError
        If it does not.
    """
    if not low <= fs <= high:
        raise ValueError(f"sampling rate {fs} Hz is outside {low:g}..{high:g} Hz; resample first")
    return float(fs)


def average(signals: NDArray[Any], first: int, low: int, high: int, factor: int) -> tuple[Float, int]:
    """Means of bins of ``factor`` samples covering absolute samples [low, high).

    Parameters
    ----------
    signals
        (n_signals, n_samples), column 0 being absolute sample ``first``.
    low, high
        Absolute samples. Nothing outside is read, so a bin partly outside is missing.

    Returns
    -------
    (n_signals, n_bins) float32 with NaN where any sample of the bin is missing, and the absolute number of bin 0.
    """
    begin, end = low // factor, -(-high // factor)
    bins = np.full((signals.shape[0], end - begin), np.nan, np.float32)
    # Whole bins inside both the array and the wanted stretch.
    inner_begin = -(-max(low, first) // factor)
    inner_end = min(high, first + signals.shape[1]) // factor
    if inner_end > inner_begin:
        part = signals[:, inner_begin * factor - first : inner_end * factor - first]
        into = bins[:, inner_begin - begin : inner_end - begin]
        with np.errstate(over="ignore", invalid="ignore"):
            into[...] = part[:, ::factor]
            for offset in range(1, factor):
                into += part[:, offset::factor].astype(np.float32, copy=False)
            into *= np.float32(1 / factor)
            into[~(np.abs(into) < LIMIT)] = np.nan
    return bins, begin


def fill(bins: Float, reach: int) -> Bool:
    """Fill gaps in place so that filters run across them without a step, and say what was present.

    A gap of up to 2*reach bins becomes a straight line. Of a longer one the first and the last ``reach`` bins hold the
    value beside them, and what is between stays NaN. So every value depends on bins within 2*reach only, and a filter
    of half-length <= reach is finite at every bin that was present.

    Returns
    -------
    (n_signals, n_bins) bool: True where there was a value.
    """
    present = ~np.isnan(bins)
    row, at = np.nonzero(~present)
    if not len(at):
        return present
    width = bins.shape[1]
    # Gaps by their edges: a gap's neighbours are told once, not for each bin.
    gap = np.concatenate([[True], (np.diff(at) != 1) | (np.diff(row) != 0)]).cumsum() - 1
    first = np.flatnonzero(np.diff(gap, prepend=-1))
    in_row, begin = row[first], at[first]
    end = begin + np.diff(np.append(first, len(at)))
    far = 4 * (reach + width)
    before, after = np.where(begin > 0, begin - 1, -far), np.where(end < width, end, far)
    value_left, value_right = bins[in_row, np.maximum(begin - 1, 0)], bins[in_row, np.minimum(end, width - 1)]
    left, right = at - before[gap], after[gap] - at
    value_left, value_right = value_left[gap], value_right[gap]
    share = (left / (left + right)).astype(np.float32)
    line = value_left + (value_right - value_left) * share
    held = np.where(left <= reach, value_left, np.where(right <= reach, value_right, np.float32(np.nan)))
    bins[row, at] = np.where(left + right <= 2 * reach, line, held)
    return present


def running_sum(x: Float, width: int) -> Float:
    """Sum of ``width`` neighbours: out[:, i] = x[:, i] + ... + x[:, i+width-1].

    In an order that depends on the width alone: by doubling, so about 2*log2(width) additions. The result is
    ``width - 1`` columns shorter than x.
    """
    total: Float | None = None
    done, size, power = 0, 1, x
    length = x.shape[1] - width + 1
    while True:
        if width & size:
            piece = power[:, done : done + length]
            total = piece.copy() if total is None else np.add(total, piece, out=total)
            done += size
        if done == width:
            break
        power = power[:, :-size] + power[:, size:]
        size *= 2
    assert total is not None
    return total


def running_max(x: Float, width: int) -> Float:
    """Largest of ``width`` neighbours: out[:, i] = max(x[:, i], ..., x[:, i+width-1]); width-1 columns shorter."""
    power, size = x, 1
    while 2 * size <= width:
        power = np.maximum(power[:, :-size], power[:, size:])
        size *= 2
    rest = width - size
    return np.maximum(power[:, : power.shape[1] - rest], power[:, rest:]) if rest else power


def true_runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n, 2) stretches [from, to) where a mask is True."""
    edges = np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))
    return np.column_stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)]).astype(np.int64)
