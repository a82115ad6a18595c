"""Rate of breathing from a belt, or from what breath does to an ECG: R waves swell, the heart hastens and slows.

Every window of WINDOW_S on the absolute grid is judged by itself: a series is put on RATE points a second and
straightened, and its spectrum between 4 and 42 breaths a minute looked at. The rate is where a band of 0.07 Hz has most
power; the confidence is the share of the power that lies there. Of an ECG's two series the spectra are multiplied, so
that what both show counts (for fusion see Karlen 2013, IEEE Trans Biomed Eng 60:1946). Beats show no breath that is
faster than half the heart's rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.grid import as_signals

NAME = "vg-respiration"
VERSION = "1"

WINDOW_S = 60.0
RATE = 4.0
LOWEST_PER_MIN, HIGHEST_PER_MIN = 4.0, 42.0
#: Below this the rate is not to be relied on.
FIT_CONFIDENCE = 0.5
_BAND_HZ, _POINTS = 0.07, 2048
_LEAST_BEATS = 20
_R_S = 0.04

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Breathing:
    """Rate of one window [onset, offset) of absolute samples.

    Attributes
    ----------
    per_min
        Breaths a minute; NaN when nothing can be told.
    confidence
        0 to 1: the share of the power in the breathing range that lies round this rate; 0 without a rate.
    """

    onset: int
    offset: int
    per_min: float
    confidence: float


def breathing_of_belt(belt: ArrayLike, fs: float, first: int = 0) -> list[Breathing]:
    """Rates of the whole windows that a belt's signal holds (any unit, NaN where missing).

    Raises
    ------
    ValueError
        If the rate is under RATE.
    """
    if fs < RATE:
        raise ValueError(f"a belt sampled at {fs} Hz; {RATE:g} Hz is the least")
    x = as_signals(belt)[0].astype(np.float64)
    found = []
    for onset, offset in _windows(first, len(x), fs):
        own = x[onset - first : offset - first]
        there = np.isfinite(own)
        series = _resampled(np.flatnonzero(there) / fs, own[there]) if there.mean() >= 0.9 else None
        found.append(_judged(onset, offset, [series]))
    return found


def breathing_of_ecg(signal: ArrayLike, fs: float, beats: ArrayLike, first: int = 0) -> list[Breathing]:
    """Rates of the whole windows that an ECG holds, from its R peaks (absolute samples, normal beats only)."""
    x = as_signals(signal)[0].astype(np.float64)
    at = np.asarray(beats, np.int64).ravel()
    height = r_heights(x, fs, at, first)
    found = []
    for onset, offset in _windows(first, len(x), fs):
        inside = np.flatnonzero((at >= onset) & (at < offset) & np.isfinite(height))
        rr = np.diff(at[inside]) / fs
        series: list[Floats | None] = [None, None]
        # A gap of three seconds in the beats, and breath is not to be followed.
        if len(inside) >= _LEAST_BEATS and rr.max() < 3.0:
            time = (at[inside] - onset) / fs
            steady = np.abs(rr - np.median(rr)) < 0.25 * np.median(rr)
            series[0] = _resampled(time, height[inside])
            if steady.mean() > 0.8:
                series[1] = _resampled(time[1:][steady], rr[steady])
        highest = 30.0 / float(np.median(rr)) if len(rr) else HIGHEST_PER_MIN
        found.append(_judged(onset, offset, series, highest))
    return found


def r_heights(signal: Floats, fs: float, beats: NDArray[np.int64], first: int = 0) -> Floats:
    """Height of each R wave over the level 80 ms before it, mV; NaN where the signal is not there."""
    near, back = round(_R_S * fs), round(0.08 * fs)
    place = beats - first
    columns = place[:, np.newaxis] + np.arange(-near, near + 1)
    inside = (columns[:, 0] - back >= 0) & (columns[:, -1] < len(signal))
    own = signal[np.clip(columns, 0, max(0, len(signal) - 1))] if len(signal) else np.full(columns.shape, np.nan)
    level = signal[np.clip(place - back, 0, max(0, len(signal) - 1))] if len(signal) else np.full(len(place), np.nan)
    return np.where(inside, own.max(axis=1) - level, np.nan)


def _windows(first: int, count: int, fs: float) -> list[tuple[int, int]]:
    numbers = range(int(-(-first // (WINDOW_S * fs))), int((first + count) // (WINDOW_S * fs)) + 1)
    edges = [(round(k * WINDOW_S * fs), round((k + 1) * WINDOW_S * fs)) for k in numbers]
    return [(onset, offset) for onset, offset in edges if onset >= first and offset <= first + count]


def _resampled(time: Floats, values: Floats) -> Floats | None:
    """On RATE points a second over a window, without its straight line, in units of its spread; None if it is flat."""
    grid = np.arange(0, WINDOW_S, 1 / RATE)
    if len(time) > 4 * len(grid):
        # Many points: their means, so that nothing faster folds back.
        cell = np.minimum((time * RATE).astype(np.int64), len(grid) - 1)
        count = np.bincount(cell, minlength=len(grid))
        total = np.bincount(cell, values, len(grid))
        time, values = grid[count > 0], (total / np.maximum(count, 1))[count > 0]
    if len(time) < _LEAST_BEATS // 2:
        return None
    middle = np.median(values)
    limit = 4 * np.median(np.abs(values - middle)) + 1e-12
    even = np.interp(grid, time, np.clip(values, middle - limit, middle + limit))
    even = even - np.polyval(np.polyfit(grid, even, 1), grid)
    spread = float(even.std())
    return even / spread if spread > 1e-9 * (1 + abs(float(middle))) else None


def _judged(onset: int, offset: int, series: list[Floats | None], highest: float = HIGHEST_PER_MIN) -> Breathing:
    shown = [each for each in series if each is not None]
    frequency = np.fft.rfftfreq(_POINTS, 1 / RATE)
    inside = (frequency >= LOWEST_PER_MIN / 60) & (frequency <= min(HIGHEST_PER_MIN, highest) / 60)
    if not shown or inside.sum() < 3:
        return Breathing(onset, offset, float("nan"), 0.0)
    power = np.ones(int(inside.sum()))
    for each in shown:
        density = np.abs(np.fft.rfft(each * np.hanning(len(each)), _POINTS)) ** 2
        power = power * density[inside] / density[inside].sum()
    power = power ** (1 / len(shown))
    frequency = frequency[inside]
    width = max(1, round(_BAND_HZ / float(frequency[1] - frequency[0])))
    near = np.convolve(power, np.ones(width), "same")
    top = int(near.argmax())
    band = slice(max(0, top - width // 2), top + width // 2 + 1)
    centre = float((power[band] * frequency[band]).sum() / power[band].sum())
    return Breathing(onset, offset, round(60 * centre, 2), round(float(power[band].sum() / power.sum()), 3))
