"""Heart-rate variability in the frequency domain and nonlinear.

Sources: Task Force 1996; Brennan 2001 (Poincaré); Richman and Moorman 2000 (sample entropy); Peng 1995 (fluctuation).

All of a stretch as a whole: five minutes is the convention. Welch's method works on the intervals put on 4 points a
second by a cubic spline; Lomb's on the intervals as they came. Powers are in ms^2; bands are those of the Task Force.

Where NeuroKit2 0.2 differs, and why a figure of its is not ours:

- *Band powers by Welch*: it puts intervals on 100 points a second by a quadratic spline, takes off the mean only, cuts
  two halves (three segments with their overlap) and no fixed 240 s, and by default divides by the largest density, so
  that its powers have no unit. ``welch_half`` is its definition before that division (``normalize=False``).
- *Lomb* is astropy's ``psd`` normalization of the interpolated intervals there; ours takes the intervals as they came.
- *DFA*: its windows overlap by half, its short sizes are 4 to 11 (Peng's are 4 to 16) and its long ones 12 to a tenth
  of the intervals. ``fluctuation`` with ``overlap`` and these sizes is its definition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, interp1d
from scipy.signal import lombscargle, welch
from scipy.spatial import cKDTree

NAME = "vg-hrv-spectrum"
VERSION = "2"

BANDS_HZ = {"ulf": (0.0, 0.0033), "vlf": (0.0033, 0.04), "lf": (0.04, 0.15), "hf": (0.15, 0.4)}
#: Ten cycles of a band's lowest frequency are the least that tells its power, s.
SHORTEST_S = {"hf": 67.0, "lf": 250.0, "vlf": 3030.0}
RESAMPLED_HZ = 4.0
_SEGMENT_S = 240.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """Power of each band, ms^2; NaN where the stretch is too short for it. ``lf_hf`` is their ratio."""

    vlf: float
    lf: float
    hf: float
    lf_hf: float
    lf_share: float
    hf_share: float
    seconds: float


@dataclass(frozen=True)
class Nonlinear:
    """Nonlinear measures.

    Attributes
    ----------
    sd1, sd2
        Standard deviations across and along the line of identity of the Poincaré plot, ms.
    sample_entropy
        m = 2, tolerance 0.2 times the standard deviation (n - 1); NaN when nothing matches.
    dfa_alpha1
        Slope of detrended fluctuation over 4 to 16 beats; NaN with fewer than 32 intervals.
    dfa_alpha2
        The same over 16 beats to a tenth of the intervals, 64 at most; NaN with fewer than 200.
    """

    sd1: float
    sd2: float
    sample_entropy: float
    dfa_alpha1: float
    n: int
    dfa_alpha2: float = float("nan")


def spectrum(rr_ms: ArrayLike, method: str = "welch") -> Spectrum:
    """Band powers of successive intervals.

    Parameters
    ----------
    rr_ms
        Intervals, ms, corrected (``rr_correction``), none missing.
    method
        ``welch``, ``lomb``, or ``welch_half``, which is NeuroKit2's definition (see the module).

    Raises
    ------
    ValueError
        If the method is another.
    """
    rr = np.asarray(rr_ms, np.float64).ravel()
    at = np.cumsum(rr) / 1000
    seconds = float(at[-1] - at[0]) if len(rr) > 1 else 0.0
    if method not in _DENSITIES:
        raise ValueError(f"method {method!r} is unknown; give welch or lomb, or welch_half")
    if len(rr) < 8:
        nan = float("nan")
        return Spectrum(nan, nan, nan, nan, nan, nan, seconds)
    frequency, density = _DENSITIES[method](at, rr)
    power = {}
    for name in ("vlf", "lf", "hf"):
        low, high = BANDS_HZ[name]
        inside = (frequency >= low) & (frequency < high)
        enough = seconds >= SHORTEST_S[name] and np.count_nonzero(inside) >= 2
        power[name] = float(np.trapezoid(density[inside], frequency[inside])) if enough else float("nan")
    both = power["lf"] + power["hf"]
    return Spectrum(
        power["vlf"], power["lf"], power["hf"], power["lf"] / power["hf"], 100 * power["lf"] / both,
        100 * power["hf"] / both, seconds,
    )  # fmt: skip


def _welch(at: Floats, rr: Floats) -> tuple[Floats, Floats]:
    grid = np.arange(at[0], at[-1], 1 / RESAMPLED_HZ)
    even = CubicSpline(at, rr)(grid)
    size = min(len(even), int(_SEGMENT_S * RESAMPLED_HZ))
    frequency, density = welch(even, RESAMPLED_HZ, "hann", size, nfft=max(4096, size), detrend="linear")
    return np.asarray(frequency), np.asarray(density)


def _lomb(at: Floats, rr: Floats) -> tuple[Floats, Floats]:
    frequency = np.arange(1, 1 + int(0.4 * 4 * (at[-1] - at[0]))) / (4 * (at[-1] - at[0]))
    centred = rr - np.polyval(np.polyfit(at, rr, 1), at)
    power = lombscargle(at, centred, 2 * np.pi * frequency)
    # Power of a periodogram to density: the intervals come at their own mean rate.
    return frequency, np.asarray(power) * 2 * (at[-1] - at[0]) / len(at)


def _welch_half(at: Floats, rr: Floats) -> tuple[Floats, Floats]:
    rate = 100.0
    grid = np.arange(at[0], at[-1] + 1 / rate, 1 / rate)
    even = interp1d(at, rr, kind="quadratic", bounds_error=False, fill_value=([rr[0]], [rr[-1]]))(grid)
    even = even - even.mean()
    lowest = 2 * rate / (len(even) / 2)
    size = min(int(2 / lowest * rate), len(even) // 2)
    frequency, density = welch(even, rate, "hann", size, nfft=2 * size, detrend=False)
    told = (frequency >= lowest) & (frequency <= 0.5)
    return np.asarray(frequency[told]), np.asarray(density[told])


_DENSITIES: dict[str, Callable[[Floats, Floats], tuple[Floats, Floats]]] = {
    "welch": _welch, "lomb": _lomb, "welch_half": _welch_half,
}  # fmt: skip


def nonlinear(rr_ms: ArrayLike) -> Nonlinear:
    """Poincaré, sample entropy and short-term detrended fluctuation of successive intervals (ms)."""
    rr = np.asarray(rr_ms, np.float64).ravel()
    nan = float("nan")
    if len(rr) < 3:
        return Nonlinear(nan, nan, nan, nan, len(rr))
    here, after = rr[:-1], rr[1:]
    return Nonlinear(
        sd1=float(np.std(here - after, ddof=1) / np.sqrt(2)),
        sd2=float(np.std(here + after, ddof=1) / np.sqrt(2)),
        sample_entropy=_sample_entropy(rr),
        dfa_alpha1=fluctuation(rr, range(4, 17)) if len(rr) >= 32 else nan,
        n=len(rr),
        dfa_alpha2=fluctuation(rr, range(16, min(64, len(rr) // 10) + 1)) if len(rr) >= 200 else nan,
    )


def _sample_entropy(rr: Floats, m: int = 2, share: float = 0.2) -> float:
    """-log of (pairs alike over m + 1) / (pairs alike over m), Chebyshev distance, no pair with itself."""
    tolerance = share * float(np.std(rr, ddof=1))
    if len(rr) <= m + 1:
        return float("nan")
    counts = []
    for length in (m, m + 1):
        words = np.lib.stride_tricks.sliding_window_view(rr, length)[: len(rr) - m]
        pairs = cKDTree(words).count_neighbors(cKDTree(words), tolerance, p=np.inf)
        counts.append(int(pairs) - len(words))
    return float(-np.log(counts[1] / counts[0])) if counts[0] and counts[1] else float("nan")


def fluctuation(rr_ms: ArrayLike, sizes: Sequence[int], *, overlap: bool = False) -> float:
    """Slope of detrended fluctuation (DFA, Peng 1995) over windows of these sizes; NaN when a size does not fit.

    Parameters
    ----------
    rr_ms
        Successive intervals, ms, none missing.
    sizes
        Beats a window, two sizes or more.
    overlap
        Windows overlap by half, as NeuroKit2's do; by default they lie side by side.
    """
    rr = np.asarray(rr_ms, np.float64).ravel()
    if len(sizes) < 2 or max(sizes) >= len(rr):
        return float("nan")
    profile = np.cumsum(rr - rr.mean())
    spread = []
    for size in sizes:
        if overlap:
            starts = np.arange(0, len(profile) - size, size // 2)
            pieces = profile[starts[:, np.newaxis] + np.arange(size)]
        else:
            pieces = profile[: len(profile) // size * size].reshape(-1, size)
        t = np.arange(size) - (size - 1) / 2
        slope = (pieces * t).sum(axis=1, keepdims=True) / (t * t).sum()
        rest = pieces - pieces.mean(axis=1, keepdims=True) - slope * t
        spread.append(np.sqrt((rest**2).mean()))
    spread_log = np.log2(np.maximum(spread, 1e-12))
    return float(np.polyfit(np.log2(np.array(sizes)), spread_log, 1)[0])
