"""Where the baseline is, in cells of 0.25 s of the absolute grid: tells a heart's pause from an electrode's.

When an electrode is pulled the amplifier jumps and comes back over seconds, and beats are lost meanwhile. In a true
pause the baseline stays where it was: in the pauses of the given MIT-BIH records it moved by 0.02 to 0.44 mV, in gaps
where a lead was lost by 1.5 to 3.2 mV. An electrode that is off altogether leaves a line that does not move by one
step of the converter; a heart that stands still leaves the noise of skin and amplifier.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal.grid import Float, as_signals, average, true_runs
from vitalgate.signal.qrs import plan_for

CELL_S = 0.25
#: More than this, mV, between any two cells of a silence, and its signal is not believed.
MOST_MV = 0.8
#: What a cell is in which the line does not move at all, mV: no baseline is there.
STILL_MV = 320.0
_STILL = STILL_MV - 0.5
#: So many cells in a row that do not move (1 s), or more than half of a silence, are no heart's.
_STILL_CELLS, _STILL_SHARE = 4, 0.5
#: The T wave of the beat before and the foot of the one behind are left out.
_AFTER_BEAT_S, _BEFORE_BEAT_S = 0.5, 0.12
#: In a long silence, cells within this of each other are compared: what settles may be believed later.
_LOCAL_CELLS = 4


def cell_start(cell: int, fs: float) -> int:
    """First absolute sample of a cell."""
    return round(cell * CELL_S * fs)


def baseline_cells(signals: NDArray[np.floating], fs: float, first: int, low: int, high: int) -> Float:
    """Mean of each cell low..high-1, mV, (n_signals, high - low); NaN where any of it is missing.

    A cell that does not move at all is STILL_MV.

    Parameters
    ----------
    signals
        (n_signals, n_samples) mV, NaN where missing; column 0 is absolute sample ``first``.
    """
    array = as_signals(signals)
    plan = plan_for(float(fs))
    edges = -(-np.round(np.arange(low, high + 1) * CELL_S * fs).astype(np.int64) // plan.factor)
    begin, end = int(edges[0]) * plan.factor, int(edges[-1]) * plan.factor
    if end <= begin:
        return np.full((array.shape[0], max(0, high - low)), np.nan, np.float32)
    bins, origin = average(array, first, begin, end, plan.factor)
    total = np.add.reduceat(bins, edges[:-1] - origin, axis=1)
    cells = np.asarray(total / np.diff(edges).astype(np.float32), np.float32)
    cells[~np.isnan(cells) & _still(array, fs, first, low, high)] = STILL_MV
    return cells


def _still(array: Float, fs: float, first: int, low: int, high: int) -> NDArray[np.bool_]:
    """Whether all samples of each cell are the same; False where a cell is not there as a whole."""
    starts = np.round(np.arange(low, high + 1) * CELL_S * fs).astype(np.int64) - first
    whole = np.flatnonzero((starts[:-1] >= 0) & (starts[1:] <= array.shape[1]) & (starts[1:] - starts[:-1] > 1))
    found = np.zeros((array.shape[0], high - low), np.bool_)
    if len(whole):
        begin, end = int(starts[whole[0]]), int(starts[whole[-1] + 1])
        moves = (array[:, begin + 1 : end] != array[:, begin : end - 1]).astype(np.int8)
        # Whether the line moves from a cell's last sample into the next one is nobody's question.
        moves[:, starts[whole[1:]] - begin - 1] = 0
        found[:, whole] = np.add.reduceat(moves, starts[whole] - begin, axis=1, dtype=np.int64) == 0
    return found


def steady(cells: Float, first_cell: int, onset: int, offset: int, fs: float) -> bool:
    """Whether the baseline stayed where it was between the beats at samples ``onset`` and ``offset``.

    True where nothing is known of it: what is missing is another's question.
    """
    inside = _inside(cells, first_cell, onset, offset, fs)
    known = inside[~np.isnan(inside)]
    moving = known[known < _STILL]
    if len(moving) < len(known) * _STILL_SHARE:
        return False
    return not len(moving) or float(moving.max() - moving.min()) <= MOST_MV


def steady_parts(cells: Float, first_cell: int, onset: int, offset: int, fs: float) -> list[tuple[int, int]]:
    """Parts of the silence [onset, offset) in which the baseline stays where it was, absolute samples."""
    inside = _inside(cells, first_cell, onset, offset, fs)
    if not len(inside):
        return [(onset, offset)]
    low = _first_inside(first_cell, onset, fs)
    still = inside >= _STILL
    bad = np.zeros(len(inside), np.bool_)
    for begin, end in true_runs(still).tolist():
        bad[begin:end] = end - begin >= _STILL_CELLS
    inside = np.where(still, np.float32(np.nan), inside)
    for near in range(1, _LOCAL_CELLS + 1):
        far = np.abs(inside[near:] - inside[:-near]) > MOST_MV
        bad[near:] |= far
        bad[:-near] |= far
    parts, begin = [], onset
    for k in np.flatnonzero(bad).tolist():
        end = cell_start(low + k, fs)
        if end > begin:
            parts.append((begin, end))
        begin = cell_start(low + k + 1, fs)
    if offset > begin:
        parts.append((begin, offset))
    return parts


def _first_inside(first_cell: int, onset: int, fs: float) -> int:
    """The first cell that begins after the T wave of a beat at ``onset``, not before ``first_cell``."""
    cell = max(first_cell, int((onset + _AFTER_BEAT_S * fs) // (CELL_S * fs)) - 1)
    while cell_start(cell, fs) < onset + _AFTER_BEAT_S * fs:
        cell += 1
    return cell


def _inside(cells: Float, first_cell: int, onset: int, offset: int, fs: float) -> Float:
    low = _first_inside(first_cell, onset, fs)
    high = max(low, int((offset - _BEFORE_BEAT_S * fs) // (CELL_S * fs)) + 1)
    while high > low and cell_start(high, fs) > offset - _BEFORE_BEAT_S * fs:
        high -= 1
    return cells[low - first_cell : high - first_cell]
