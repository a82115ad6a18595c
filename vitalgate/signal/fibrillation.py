"""Atrial fibrillation from windows of 30 beats, by irregularity of the RR intervals (``irregularity``).

A boosted-tree model of the intervals alone (``models/fibrillation.json``). Where there is a signal, intervals that a
ventricular beat begins or ends are first evened out, so that ectopy does not pass for fibrillation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.classes import classify_beats
from vitalgate.signal.irregularity import irregularity, windows_of
from vitalgate.signal.trees import model

NAME = "vg-fibrillation"
VERSION = "1"

WINDOW_BEATS = 30
#: Positive above this probability.
LIMIT = 0.3


@dataclass(frozen=True, eq=False)
class Fibrillation:
    """Probability of fibrillation of each window, and the verdict."""

    probability: NDArray[np.float64]

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Whether it is over the limit."""
        return np.asarray(self.probability > LIMIT)


def fibrillation(rr: ArrayLike) -> Fibrillation:
    """Judge windows of RR intervals.

    Parameters
    ----------
    rr
        (n, 30), seconds: the interval that begins at each beat of a window.

    Raises
    ------
    ValueError
        If a window has not 30 intervals.
    """
    windows = np.asarray(rr, np.float64)
    if windows.ndim != 2 or windows.shape[1] != WINDOW_BEATS:
        raise ValueError(f"windows have shape {windows.shape}; give (n, {WINDOW_BEATS})")
    return Fibrillation(model("fibrillation").shares(irregularity(windows))[:, 1])


def fibrillation_of_beats(signal: ArrayLike, fs: float, beats: ArrayLike, first: int = 0) -> Fibrillation:
    """Judge successive windows of 30 beats of one signal, ventricular beats evened out.

    Parameters
    ----------
    signal
        (n_samples,), mV.
    beats
        Absolute samples of its R peaks; ``first`` is that of the signal's first sample.
    """
    at = np.asarray(beats, np.int64).ravel()
    ventricular = classify_beats(signal, fs, at, first).kinds == "V"
    return fibrillation(windows_of(even_out(np.diff(at) / fs, ventricular), WINDOW_BEATS))


def even_out(rr: ArrayLike, ventricular: ArrayLike) -> NDArray[np.float64]:
    """Put each single ventricular beat midway between its neighbours.

    Parameters
    ----------
    rr
        (n - 1,) intervals between n beats, seconds.
    ventricular
        (n,) which beats are ventricular.
    """
    out = np.array(rr, np.float64)
    odd = np.asarray(ventricular, np.bool_)
    alone = np.flatnonzero(odd[1:-1] & ~odd[:-2] & ~odd[2:]) + 1 if len(odd) >= 3 else np.empty(0, np.int64)
    half = 0.5 * (out[alone - 1] + out[alone])
    out[alone - 1] = half
    out[alone] = half
    return out
