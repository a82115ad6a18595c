"""QRS energy: the one filter that beats and quality look at.

Means over bins of the absolute grid bring any rate to about 110-220 Hz; one FIR filter is band-pass 6-22 Hz and
difference in one; then square, 130-ms moving sum, square root.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.signal import firwin

from vitalgate.signal.grid import Bool, Float, check_rate, fill, running_sum

LOWEST_RATE, HIGHEST_RATE = 100.0, 1000.0

_BAND_HZ = (6.0, 22.0)
_FIR_S = 0.15
_DIFFERENCE_S = 0.015
_SMOOTH_S = 0.13


@dataclass(frozen=True)
class Plan:
    """What follows from the sampling rate alone: samples a bin, bins a second, filter, width of the sum in bins."""

    fs: float
    factor: int
    rate: float
    taps: NDArray[np.float64]
    smooth: int

    def bins(self, seconds: float) -> int:
        """So many seconds in bins."""
        return round(seconds * self.rate)


@lru_cache(maxsize=32)
def plan_for(fs: float) -> Plan:
    """The plan for a sampling rate of 100 to 1000 Hz; ValueError outside."""
    check_rate(fs, LOWEST_RATE, HIGHEST_RATE)
    factor = max(1, int(fs // 110))
    rate = fs / factor
    half = round(_FIR_S * rate)
    band = firwin(2 * half + 1, _BAND_HZ, pass_zero=False, fs=rate, window="hamming")
    span = max(1, round(_DIFFERENCE_S * rate))
    difference = np.zeros(2 * span + 1)
    difference[0], difference[-1] = 1, -1
    smooth = 2 * round(_SMOOTH_S * rate / 2) + 1
    return Plan(fs, factor, rate, np.convolve(band, difference), smooth)


def qrs_energy(bins: Float, plan: Plan) -> tuple[Float, Bool]:
    """QRS energy, (n_signals, n_bins) in mV, 0 where nothing is, and what is present. Fills gaps in ``bins``."""
    half = len(plan.taps) // 2
    present = fill(bins, half + plan.smooth)
    filtered = convolve1d(bins, plan.taps, axis=1, mode="constant")
    np.square(filtered, out=filtered)
    edge = half + plan.smooth // 2
    feature = np.zeros_like(bins)
    if feature.shape[1] <= 2 * edge:
        return feature, present
    # The outermost bins were filtered against the array's end; they stay 0.
    feature[:, edge:-edge] = running_sum(filtered, plan.smooth)[:, half:-half]
    feature *= np.float32(1 / plan.smooth)
    np.sqrt(feature, out=feature)
    feature[~present] = 0
    return feature, present
