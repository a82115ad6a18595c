"""Episodes of atrial fibrillation on an absolute grid, from windows of 30 beats about the middle of each block.

Windows of beats counted from the first beat of a recording would hang on every beat since; so each block of the grid
is judged by itself, by the 30 beats about its middle, and episodes follow from the blocks round it:

1. a block is *positive* when the window about its middle is fibrillation, *withheld* when its signal is bad or there is
   no such window (fewer than 15 beats within REACH_S on either side);
2. a single other block between two positive ones does not end an episode;
3. an episode is three positive blocks or more: 30 s (HRS/EHRA/ECAS 2017).

The verdict on a block depends on blocks within AROUND of it and on nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

NAME = "vg-episodes"
VERSION = "1"

HALF_BEATS = 15
#: How far from the middle of its block a window may reach, seconds: 15 beats at 30/min.
REACH_S = 30.0
LEAST_BLOCKS = 3
#: Blocks on either side that decide whether a positive block is part of an episode.
AROUND = LEAST_BLOCKS


def middle_window(beats: ArrayLike, fs: float, middle: int) -> int | None:
    """Index of the first of the 30 beats about an absolute sample; None when there are too few near it.

    The window is 15 beats before ``middle`` and 15 from it on, and the beat behind them ends its last interval.
    """
    at = np.asarray(beats, np.int64).ravel()
    k = int(np.searchsorted(at, middle))
    first, last = k - HALF_BEATS, k + HALF_BEATS
    if first < 0 or last >= len(at):
        return None
    if at[first] < middle - REACH_S * fs or at[last] >= middle + REACH_S * fs:
        return None
    return first


def episodes(positive: ArrayLike, withheld: ArrayLike) -> NDArray[np.bool_]:
    """Which of successive blocks belong to an episode.

    Parameters
    ----------
    positive, withheld
        (n_blocks,) verdicts; a block that is withheld is not positive.
    """
    said = np.asarray(positive, np.bool_) & ~np.asarray(withheld, np.bool_)
    padded = np.concatenate([[False], said, [False]])
    closed = said | (padded[:-2] & padded[2:])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], closed, [False]]).astype(np.int8)))
    out = np.zeros(len(said), np.bool_)
    for begin, end in edges.reshape(-1, 2).tolist():
        # An episode begins and ends with a positive block by construction.
        if end - begin >= LEAST_BLOCKS:
            out[begin:end] = True
    return out
