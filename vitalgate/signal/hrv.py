"""Heart-rate variability in the time domain (Task Force of ESC and NASPE 1996, Circulation 93:1043)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NAME = "vg-hrv-time"
VERSION = "1"

#: Intervals outside this range (ms) are no sinus intervals, or no intervals.
SHORTEST_MS, LONGEST_MS = 300.0, 2000.0
#: An interval further than this share from the median of the 11 round it is an artefact or an ectopic beat.
ARTEFACT_SHARE = 0.25
ARTEFACT_NEIGHBOURS = 11


@dataclass(frozen=True)
class TimeDomain:
    """Statistics of the normal-to-normal intervals.

    Attributes
    ----------
    sdnn
        Standard deviation of the intervals (n - 1 in the denominator), ms. NaN with fewer than two.
    rmssd
        Root mean square of successive differences, ms. NaN without one.
    pnn50
        Share of successive differences of more than 50 ms, percent of the differences. NaN without one. (NeuroKit2
        divides by the number of intervals instead, which is larger by one.)
    n
        Number of intervals used.
    """

    sdnn: float
    rmssd: float
    pnn50: float
    n: int


def normal_intervals(rr_ms: ArrayLike) -> NDArray[np.bool_]:
    """Which intervals to use.

    One is rejected if it is outside 300..2000 ms, or more than 25 % from the median of the eleven intervals round it
    (fewer at the ends). NaN is rejected. So an ectopic beat takes its two intervals with it, a missed beat its one.
    In atrial fibrillation much is rejected, rightly: there are no normal intervals there.
    """
    rr = np.asarray(rr_ms, dtype=np.float64).ravel()
    ok = np.isfinite(rr)
    ok[ok] &= (rr[ok] >= SHORTEST_MS) & (rr[ok] <= LONGEST_MS)
    if not ok.any():
        return ok
    half = ARTEFACT_NEIGHBOURS // 2
    padded = np.full(len(rr) + 2 * half, np.nan)
    padded[half : half + len(rr)] = np.where(ok, rr, np.nan)
    around = np.sort(np.lib.stride_tricks.sliding_window_view(padded, ARTEFACT_NEIGHBOURS), axis=1)
    count = np.count_nonzero(~np.isnan(around), axis=1)
    at = np.arange(len(rr))
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, ARTEFACT_NEIGHBOURS - 1)
    median = 0.5 * (around[at, low] + around[at, high])
    with np.errstate(invalid="ignore"):
        return np.asarray(ok & (np.abs(rr - median) <= ARTEFACT_SHARE * median))


def time_domain(rr_ms: ArrayLike) -> TimeDomain:
    """SDNN, RMSSD and pNN50 of the intervals that ``normal_intervals`` keeps.

    Parameters
    ----------
    rr_ms
        Successive RR intervals in milliseconds, in order; NaN where one is unknown (a gap), so that no difference is
        taken across it.

    Returns
    -------
    TimeDomain
    """
    rr = np.asarray(rr_ms, dtype=np.float64).ravel()
    keep = normal_intervals(rr)
    used = rr[keep]
    differences = np.diff(rr)[keep[1:] & keep[:-1]]
    n = len(used)
    return TimeDomain(
        sdnn=float(np.std(used, ddof=1)) if n >= 2 else float("nan"),
        rmssd=float(np.sqrt(np.mean(differences**2))) if len(differences) else float("nan"),
        pnn50=float(100 * np.mean(np.abs(differences) > 50)) if len(differences) else float("nan"),
        n=n,
    )
