"""Heart-rate variability of a day from its five minutes: what is kept of a window is six numbers, not its beats.

SDNN, RMSSD and pNN50 of the whole follow exactly from the windows' sums; SDANN and the SDNN index are defined by
windows (Task Force 1996). Differences are taken within windows only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

NAME = "vg-hrv-day"
VERSION = "1"

#: Fewest intervals for which a window has a mean and a standard deviation of its own.
LEAST = 100


@dataclass(frozen=True)
class FiveMinutes:
    """Sums of one window of normal intervals: count, mean and sum of squares about it; the same of differences."""

    n: int
    mean: float
    squares: float
    steps: int
    step_squares: float
    large_steps: int


@dataclass(frozen=True)
class Day:
    """Statistics of all windows: ms, pNN50 in percent; NaN where too little is known.

    ``windows`` is how many of them have LEAST intervals: they count for SDANN and the SDNN index.
    """

    sdnn: float
    sdann: float
    sdnn_index: float
    rmssd: float
    pnn50: float
    n: int
    windows: int


def five_minutes(rr_ms: ArrayLike) -> FiveMinutes:
    """Sums of the normal intervals (ms) of a window, in order; NaN where one is unknown or not normal."""
    rr = np.asarray(rr_ms, np.float64).ravel()
    used, steps = rr[~np.isnan(rr)], np.diff(rr)
    steps = steps[~np.isnan(steps)]
    mean = float(used.mean()) if len(used) else 0.0
    return FiveMinutes(
        len(used), mean, float(((used - mean) ** 2).sum()), len(steps), float((steps**2).sum()),
        int((np.abs(steps) > 50).sum()),
    )  # fmt: skip


def day(windows: Iterable[FiveMinutes]) -> Day:
    """Put windows together, in their order."""
    parts = [window for window in windows if window.n]
    nan = math.nan
    n, steps = sum(part.n for part in parts), sum(part.steps for part in parts)
    mean = sum(part.n * part.mean for part in parts) / n if n else nan
    squares = sum(part.squares + part.n * (part.mean - mean) ** 2 for part in parts)
    whole = [part for part in parts if part.n >= LEAST]
    deviations = [math.sqrt(part.squares / (part.n - 1)) for part in whole]
    return Day(
        sdnn=math.sqrt(squares / (n - 1)) if n > 1 else nan,
        sdann=float(np.std([part.mean for part in whole], ddof=1)) if len(whole) > 1 else nan,
        sdnn_index=sum(deviations) / len(whole) if whole else nan,
        rmssd=math.sqrt(sum(part.step_squares for part in parts) / steps) if steps else nan,
        pnn50=100 * sum(part.large_steps for part in parts) / steps if steps else nan,
        n=n,
        windows=len(whole),
    )
