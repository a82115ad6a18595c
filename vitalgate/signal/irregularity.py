"""How irregular a run of RR intervals is: the numbers that atrial fibrillation is told by.

Sources: Moody and Mark 1983; Dash 2009 (RMSSD, turning points, entropy); Lake and Moorman 2011 (sample entropy for
short runs); Petrenas 2015 (share of differing pairs, bigeminy). Written anew, with ectopy in mind: an early beat with
its pause is irregular, but in a regular way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NAMES = (
    "mean_s", "rmssd", "sdsd_iqr", "cv", "mad", "median_step", "quiet_steps", "loud_steps", "turning", "entropy_steps",
    "entropy_rr", "same_pairs", "sample_entropy", "lag2", "lag3", "bigeminy", "early", "late", "filtered_step",
    "filtered_cv", "range80", "near_multiple", "step_correlation", "sum2_step",
)  # fmt: skip


def windows_of(rr: ArrayLike, count: int) -> Floats:
    """Non-overlapping windows of ``count`` intervals, (n, count); the rest is left."""
    values = np.asarray(rr, np.float64).ravel()
    return values[: len(values) // count * count].reshape(-1, count)


def irregularity(windows: ArrayLike) -> Floats:
    """Features of each window of RR intervals.

    Parameters
    ----------
    windows
        (n, m) intervals in seconds, m >= 5, none missing.

    Returns
    -------
    (n, 24), in the order of NAMES. Lengths are relative to the window's median interval, but the first.
    """
    rr = np.asarray(windows, np.float64)
    if rr.ndim != 2 or rr.shape[1] < 5:
        raise ValueError(f"windows of RR intervals have shape {rr.shape}; give (n, m) with m >= 5")
    n, m = rr.shape
    middle = np.median(rr, axis=1, keepdims=True)
    x = rr / np.maximum(middle, 1e-3)
    d = np.diff(x, axis=1)
    step = np.abs(d)
    ordered = np.sort(x, axis=1)
    filtered = np.median(np.stack([x[:, :-2], x[:, 1:-1], x[:, 2:]]), axis=0)
    smooth = np.abs(np.diff(filtered, axis=1))
    pairs = np.abs(x[:, :, np.newaxis] - x[:, np.newaxis, :])
    upper = np.triu_indices(m, 1)
    same = (pairs[:, upper[0], upper[1]] < 0.04).mean(axis=1)
    sums = x[:, :-1] + x[:, 1:]
    columns = [
        rr.mean(axis=1),
        np.sqrt((d**2).mean(axis=1)),
        _spread(d),
        x.std(axis=1),
        np.median(np.abs(x - 1), axis=1),
        np.median(step, axis=1),
        (step < 0.03).mean(axis=1),
        (step > 0.12).mean(axis=1),
        ((d[:, 1:] * d[:, :-1] < 0) & (np.minimum(step[:, 1:], step[:, :-1]) > 0.02)).mean(axis=1),
        _entropy(d, -0.6, 0.6, 16),
        _entropy(x, 0.4, 1.6, 16),
        same,
        _sample_entropy(x),
        _like(x, 2),
        _like(x, 3),
        ((d[:, 1:] * d[:, :-1] < 0) & (step[:, 1:] > 0.15) & (step[:, :-1] > 0.15)).mean(axis=1),
        (x < 0.85).mean(axis=1),
        (x > 1.15).mean(axis=1),
        np.median(smooth, axis=1),
        filtered.std(axis=1),
        ordered[:, int(0.9 * (m - 1))] - ordered[:, int(0.1 * (m - 1)) + 1],
        (np.abs(x - np.round(x)) < 0.05).mean(axis=1),
        _correlation(d[:, 1:], d[:, :-1]),
        np.median(np.abs(np.diff(sums, axis=1)), axis=1),
    ]
    return np.stack(columns, axis=1) if n else np.empty((0, len(NAMES)))


def _spread(x: Floats) -> Floats:
    ordered = np.sort(x, axis=1)
    m = x.shape[1]
    return np.asarray(ordered[:, (3 * m) // 4] - ordered[:, m // 4])


def _entropy(x: Floats, low: float, high: float, cells: int) -> Floats:
    """Shannon entropy of the histogram, 0 to 1 (all cells alike)."""
    cell = np.clip(((x - low) / (high - low) * cells).astype(np.int64), 0, cells - 1)
    count = np.stack([(cell == k).sum(axis=1) for k in range(cells)], axis=1)
    share = count / x.shape[1]
    return np.asarray(-(share * np.log(np.maximum(share, 1e-12))).sum(axis=1) / np.log(cells))


def _sample_entropy(x: Floats) -> Floats:
    """COSEn's ingredient: -log of how often two alike intervals are followed by alike ones; tolerance 5 %."""
    near = np.abs(x[:, :, np.newaxis] - x[:, np.newaxis, :]) < 0.05
    upper = np.triu_indices(x.shape[1] - 1, 1)
    first = near[:, upper[0], upper[1]]
    both = first & near[:, upper[0] + 1, upper[1] + 1]
    return np.asarray(-np.log((both.sum(axis=1) + 0.5) / (first.sum(axis=1) + 1.0)))


def _like(x: Floats, lag: int) -> Floats:
    """Median difference at a lag, relative to that between neighbours: small in bi- or trigeminy."""
    here = np.median(np.abs(x[:, lag:] - x[:, :-lag]), axis=1)
    return np.asarray(here / (np.median(np.abs(np.diff(x, axis=1)), axis=1) + 0.005))


def _correlation(a: Floats, b: Floats) -> Floats:
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return np.asarray((a * b).sum(axis=1) / (np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1)) + 1e-9))
