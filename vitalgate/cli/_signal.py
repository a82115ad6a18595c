"""The detector and the matching, as the simulators' scoring wants them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal.beats import find_beats
from vitalgate.signal.scoring import Match, match_beats


def detect(signal: NDArray[np.float64], fs: float) -> NDArray[np.int64]:
    """Samples of the R peaks of one signal in mV, found in one pass over the whole of it."""
    return find_beats(signal, fs)[0]


def match(
    reference: NDArray[np.int64], detected: NDArray[np.int64], fs: float, exclude: Sequence[tuple[int, int]]
) -> Match:
    """Pair beats within 150 ms, leaving segments [start, stop) out on both sides."""
    return match_beats(reference, detected, fs, exclude=[(start, stop - 1) for start, stop in exclude])
