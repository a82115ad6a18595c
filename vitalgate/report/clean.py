"""The filter of a printed strip: zero-phase, over each unbroken stretch by itself."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

Filter = Literal["none", "monitor"]

#: Band of ECG monitoring, Hz (AHA 1990 allows 0.67 Hz for zero-phase high-pass; 40 Hz quiets muscle and mains).
BAND_HZ = (0.5, 40.0)
_SHORTEST_S = 1.0


def described(choice: Filter) -> str:
    """The filter as it is printed on the strip."""
    return "none (as recorded)" if choice == "none" else f"{BAND_HZ[0]:g}–{BAND_HZ[1]:g} Hz, zero phase (monitoring)"


def clean(samples: NDArray[np.floating[Any]], rate: float, choice: Filter) -> NDArray[np.float64]:
    """Filtered samples, same length; NaN stays NaN.

    Stretches shorter than a second are only levelled (their median taken off): a filter would invent what is not there.
    """
    values = np.asarray(samples, np.float64).copy()
    if choice == "none":
        return values
    band = butter(2, (BAND_HZ[0], min(BAND_HZ[1], 0.45 * rate)), "bandpass", fs=rate, output="sos")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.isfinite(values), [False]]).astype(np.int8)))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        piece = values[begin:end]
        if len(piece) < _SHORTEST_S * rate:
            values[begin:end] = piece - np.median(piece)
        else:
            values[begin:end] = sosfiltfilt(band, piece - np.median(piece), padlen=min(len(piece) - 1, int(2 * rate)))
    return values
