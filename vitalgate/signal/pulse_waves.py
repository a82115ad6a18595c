"""What pulses tell beside their rate: when each began, how long it took from the heart, how the finger is perfused.

The *foot* of a pulse is where the tangent of its steepest rise meets the level of the valley before it (intersecting
tangents; Chiu 1991, Am Heart J 121:1460). The *arrival time* runs from an R peak to the next foot: the heart's
pre-ejection period is part of it. The *perfusion index* is the height of a pulse over the level it stands on, which
only a signal with its level (DC) has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.grid import Index, as_signals

NAME = "vg-pulse-waves"
VERSION = "1"

#: The foot is sought so long before the peak, s.
RISE_S = 0.5
#: An arrival outside these is none, s.
EARLIEST_S, LATEST_S = 0.05, 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pulses:
    """Of each pulse: where its foot is (absolute samples, with fraction) and the perfusion index, percent; NaN if not.

    Both depend on the signal within RISE_S before the peak only.
    """

    feet: Floats
    perfusion: Floats


def pulse_waves(ppg: ArrayLike, fs: float, peaks: ArrayLike, first: int = 0) -> Pulses:
    """Foot and perfusion index of each pulse.

    Parameters
    ----------
    ppg
        (n_samples,), any unit, upward when blood fills the finger; NaN where missing.
    fs
        Sampling rate, Hz.
    peaks
        Absolute samples of the pulse peaks (``pulse.find_pulses``).
    first
        Absolute index of the first sample.
    """
    x = as_signals(ppg)[0].astype(np.float64)
    at = np.asarray(peaks, np.int64).ravel()
    feet, perfusion = np.full(len(at), np.nan), np.full(len(at), np.nan)
    reach = round(RISE_S * fs)
    for k, peak in enumerate((at - first).tolist()):
        if peak < reach or peak >= len(x):
            continue
        own = x[peak - reach : peak + 1]
        if not np.isfinite(own).all():
            continue
        valley = int(own.argmin())
        rise = np.diff(own[valley:])
        if not len(rise) or rise.max() <= 0:
            continue
        steepest = int(rise.argmax())
        # The tangent at the middle of the steepest step, down to the valley's level.
        height = 0.5 * (own[valley + steepest] + own[valley + steepest + 1]) - own[valley]
        feet[k] = first + peak - reach + valley + steepest + 0.5 - height / rise[steepest]
        if own[valley] > 0:
            perfusion[k] = 100 * (own[-1] - own[valley]) / own[valley]
    return Pulses(feet, perfusion)


def pulse_arrival(r_peaks_s: ArrayLike, feet_s: ArrayLike) -> Floats:
    """Time from each R peak to the foot of its pulse, s; NaN where none comes between EARLIEST_S and LATEST_S.

    Both in seconds of one clock; a foot belongs to the last R peak that is EARLIEST_S or more before it.
    """
    r = np.asarray(r_peaks_s, np.float64).ravel()
    feet = np.sort(np.asarray(feet_s, np.float64).ravel())
    feet = feet[np.isfinite(feet)]
    found = np.full(len(r), np.nan)
    if not len(feet) or not len(r):
        return found
    following = np.searchsorted(feet, r + EARLIEST_S)
    there = following < len(feet)
    arrival = np.where(there, feet[np.minimum(following, len(feet) - 1)] - r, np.nan)
    after = np.append(r[1:], np.inf)
    # A foot that comes EARLIEST_S after the next R peak is that one's.
    own = there & (arrival <= LATEST_S) & (r + arrival < after + EARLIEST_S)
    found[own] = arrival[own]
    return found


def rate_of_pulses(peaks: Index, fs: float) -> float:
    """Mean pulse rate, per minute; NaN with fewer than three pulses."""
    at = np.asarray(peaks, np.int64).ravel()
    return 60.0 * (len(at) - 1) * fs / float(at[-1] - at[0]) if len(at) >= 3 else float("nan")
