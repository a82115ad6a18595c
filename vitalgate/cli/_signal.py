"""The detector and the matching, as the simulators' scoring wants them; SciPy is imported when they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitalgate.signal.scoring import Match


def detect(signal: NDArray[np.float64], fs: float) -> NDArray[np.int64]:
    """Samples of the R peaks of one signal in mV, found in one pass over the whole of it."""
    from vitalgate.signal.beats import find_beats

    return find_beats(signal, fs)[0]


def match(
    reference: NDArray[np.int64], detected: NDArray[np.int64], fs: float, exclude: Sequence[tuple[int, int]]
) -> Match:
    """Pair beats within 150 ms, leaving segments [start, stop) out on both sides."""
    from vitalgate.signal.scoring import match_beats

    return match_beats(reference, detected, fs, exclude=[(start, stop - 1) for start, stop in exclude])
