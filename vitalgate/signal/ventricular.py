"""Ventricular fibrillation and flutter: a wave without complexes, told by how it fills its time, not by beats.

Windows of 4 s begin at every second of the absolute grid. In each, after a band-pass of 1.5 to 25 Hz:

==========  =========================================================================  =====================
leakage     what is left when the wave is added to itself half a period later, as a    at most 0.62
            share of both (VF filter; Kuo and Dillman 1978, Comput Cardiol 347)
filled      share of time beyond a fifth of the (all but) largest deflection; between  at least 0.52
            complexes a heart is silent (TCSC; Arafat 2011, Signal Image Video Process
            5:1)
even        share of time in which the 12-20 Hz part is over its own mean; complexes   at least 0.30
            have it in bursts (count 2; Jekova and Krasteva 2004, Physiol Meas 25:1167)
sharp       share of the energy that lies in 12-20 Hz                                  at most 0.08
size        all but the largest deflection                                             at least 0.08 mV
==========  =========================================================================  =====================

Two windows in a row make it fibrillation, from the begin of the first to the end of the second. The limits were set so
that the flutter of record 207 and synthetic fibrillation are found and nothing else in the given MIT-BIH records is but
two ventricular tachycardias; published thresholds are alike. A cheap measure over seconds tells first where to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import convolve1d
from scipy.signal import firwin

from vitalgate.signal.grid import Bool, Float, as_signals, average
from vitalgate.signal.qrs import plan_for

NAME = "vg-ventricular"
VERSION = "1"

WINDOW_S = 4
#: What is said of a sample depends on samples within these of it.
BEFORE_S = 6.0
AFTER_S = 6.0

LEAKAGE, FILLED, EVEN, SHARP, SIZE_MV = 0.62, 0.52, 0.30, 0.08, 0.08
_WAVE_HZ, _SHARP_HZ = (1.5, 25.0), (12.0, 20.0)
_WAVE_S, _SHARP_S = 0.4, 0.15
#: Seconds in which the mean deflection is under this share of the largest need no closer look; flutter has 0.30.
_LOOK_SHARE, _LOOK_BINS = 0.24, 2


@dataclass(frozen=True)
class _Filters:
    factor: int
    rate: float
    wave: NDArray[np.float64]
    sharp: NDArray[np.float64]

    @property
    def reach(self) -> int:
        return len(self.wave) // 2

    @property
    def window(self) -> int:
        return round(WINDOW_S * self.rate)


@lru_cache(maxsize=32)
def _filters(fs: float) -> _Filters:
    plan = plan_for(fs)
    wave = firwin(2 * round(_WAVE_S * plan.rate) + 1, _WAVE_HZ, pass_zero=False, fs=plan.rate)
    sharp = firwin(2 * round(_SHARP_S * plan.rate) + 1, _SHARP_HZ, pass_zero=False, fs=plan.rate)
    return _Filters(plan.factor, plan.rate, wave, sharp)


@dataclass(frozen=True)
class Fibrillating:
    """A stretch [onset, offset) of absolute samples in ventricular fibrillation or flutter; waves per minute."""

    onset: int
    offset: int
    per_min: float


def fibrillating(
    signals: ArrayLike, fs: float, first: int = 0, start: int | None = None, stop: int | None = None
) -> list[list[Fibrillating]]:
    """Where signals show ventricular fibrillation or flutter.

    Parameters
    ----------
    signals
        ECG in mV, (n_signals, n_samples) or (n_samples,) for one; NaN where missing. A window with anything missing is
        none of fibrillation.
    fs
        Sampling rate, 100 to 1000 Hz.
    first
        Absolute index of the first column.
    start, stop
        Absolute samples: what lies in [start, stop) is wanted; stretches are cut there. By default the whole array.
        The array should reach further by BEFORE_S and AFTER_S: then the result is final.

    Returns
    -------
    For each signal its stretches in order, cut at every whole second of the grid where the rate changes; touching ones
    belong together.

    Raises
    ------
    ValueError
        If the rate is outside 100..1000 Hz, or signals have more than two dimensions.
    """
    array = as_signals(signals)
    start = first if start is None else start
    stop = first + array.shape[1] if stop is None else stop
    # Windows that can reach into [start, stop), and the one beside each.
    low, high = int(start // fs) - WINDOW_S - 1, int(-(-stop // fs)) + 1
    measured = _windows(array, fs, first, low, high)
    found: list[list[Fibrillating]] = []
    for rates in measured:
        positive = rates > 0
        pairs = np.flatnonzero(positive[:-1] & positive[1:])
        # A second is in it when a pair of windows covers it; its rate is that of the window that begins nearest before.
        seconds = {int(pair) + k for pair in pairs for k in range(WINDOW_S + 1)}
        own: list[Fibrillating] = []
        for second in sorted(seconds):
            onset, offset = round((low + second) * fs), round((low + second + 1) * fs)
            onset, offset = max(onset, start), min(offset, stop)
            if onset >= offset:
                continue
            near = [k for k in range(second, second - WINDOW_S - 1, -1) if 0 <= k < len(rates) and rates[k] > 0]
            rate = round(float(rates[near[0]]), 1) if near else 0.0
            if own and own[-1].offset == onset and own[-1].per_min == rate:
                own[-1] = Fibrillating(own[-1].onset, offset, rate)
            else:
                own.append(Fibrillating(onset, offset, rate))
        found.append(own)
    return found


def _windows(array: NDArray[Any], fs: float, first: int, low: int, high: int) -> NDArray[np.float64]:
    """Waves per minute of windows low..high (number = second of its begin), 0 where they are not fibrillation."""
    filters = _filters(float(fs))
    rates = np.zeros((array.shape[0], high - low + 1))
    near = int(2 * fs)
    begin = max(round(low * fs), first - near)
    end = min(round((high + WINDOW_S + 1) * fs), first + array.shape[1] + near)
    if end <= begin or not array.shape[0]:
        return rates
    bins, origin = average(array, first, begin, end, filters.factor)
    begins = np.round(np.arange(low, high + WINDOW_S) * filters.rate).astype(np.int64) - origin
    row, which = np.nonzero(_worth_a_look(_filled(bins, begins, int(filters.rate))))
    at, size, reach = begins[which], filters.window, filters.reach
    # Nothing may be missing in what the filters see of a window.
    whole = (at >= reach) & (at + size + reach <= bins.shape[1])
    row, which, at = row[whole], which[whole], at[whole]
    seen = bins[row[:, np.newaxis], at[:, np.newaxis] + np.arange(-reach, size + reach)]
    there = ~np.isnan(seen).any(axis=1)
    row, which, seen = row[there], which[there], seen[there]
    if len(row):
        wave = convolve1d(seen, filters.wave, axis=1, mode="constant")[:, reach:-reach]
        sharp = np.abs(convolve1d(seen, filters.sharp, axis=1, mode="constant")[:, reach:-reach])
        rates[row, which] = _judged(wave, sharp, filters.rate)
    return rates


def _filled(bins: Float, begins: NDArray[np.int64], cell: int) -> Float:
    """Mean deflection over the largest in each second, (n_signals, n_seconds); NaN where anything is missing."""
    share = np.full((bins.shape[0], len(begins)), np.nan, np.float32)
    inside = np.flatnonzero((begins >= 0) & (begins + cell <= bins.shape[1]))
    if len(inside):
        seconds = bins[:, begins[inside, np.newaxis] + np.arange(0, cell, _LOOK_BINS)]
        deflection = np.abs(seconds - seconds.mean(axis=2, keepdims=True))
        share[:, inside] = deflection.mean(axis=2) / np.maximum(deflection.max(axis=2), np.float32(1e-6))
    return share


def _worth_a_look(share: Float) -> Bool:
    """Windows whose middle two seconds, by how filled they are, are filled enough: (n_signals, n_windows)."""
    ordered = np.sort(
        np.stack([share[:, k : share.shape[1] - WINDOW_S + 1 + k] for k in range(WINDOW_S)], axis=2), axis=2
    )
    return np.asarray(0.5 * (ordered[:, :, 1] + ordered[:, :, 2]) > _LOOK_SHARE)


def _judged(wave: Float, sharp: Float, rate: float) -> NDArray[np.float64]:
    """Waves per minute of each window (rows), 0 where a measure says no."""
    size = wave.shape[1]
    wave = wave - wave.mean(axis=1, keepdims=True)
    deflection = np.abs(wave)
    travelled = np.abs(np.diff(wave, axis=1)).sum(axis=1)
    # Of a sine: the period in bins.
    period = 2 * np.pi * deflection.sum(axis=1) / np.maximum(travelled, np.float32(1e-9))
    half = np.clip(np.round(period / 2).astype(np.int64), 1, size // 2)
    column = np.arange(size)
    shifted = np.take_along_axis(wave, np.maximum(column - half[:, np.newaxis], 0), axis=1)
    both = column >= half[:, np.newaxis]
    left = np.where(both, np.abs(wave + shifted), 0).sum(axis=1)
    leakage = left / np.maximum(np.where(both, deflection + np.abs(shifted), 0).sum(axis=1), 1e-9)
    top = np.sort(deflection, axis=1)[:, -max(1, round(0.02 * size))]
    filled = (deflection > 0.2 * top[:, np.newaxis]).mean(axis=1)
    even = (sharp >= sharp.mean(axis=1, keepdims=True)).mean(axis=1)
    share = np.square(sharp).sum(axis=1) / np.maximum(np.square(wave).sum(axis=1), np.float32(1e-9))
    said = (leakage <= LEAKAGE) & (filled >= FILLED) & (even >= EVEN) & (share <= SHARP) & (top >= SIZE_MV)
    return np.where(said, np.round(60 * rate / period, 1), 0.0)
