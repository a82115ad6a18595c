"""The learned models as the pipeline calls them: many lines at once, only the beats and windows that are wanted. Pure.

Lines are put one after the other with their samples moved so far apart that none sees another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal import company, forms
from vitalgate.signal.classes import classify_forms
from vitalgate.signal.episodes import REACH_S as HALF_WINDOW_S
from vitalgate.signal.fibrillation import CONTEXT_S as BESIDE_S
from vitalgate.signal.fibrillation import fibrillation

#: A beat's class hangs on beats within these of its block; its form on samples within REACH_S.
CONTEXT_S, AHEAD_S, REACH_S = company.BEFORE_S, company.AFTER_S, 1.0
#: A window's verdict hangs on beats within these of its middle: half a window, and the windows beside it.
FIBRILLATION_BEFORE_S = FIBRILLATION_AFTER_S = HALF_WINDOW_S + BESIDE_S

Forms = NDArray[Any]


def cut_forms(samples: NDArray[np.float32], fs: float, beats: NDArray[np.int64], first: int) -> Forms:
    """The form of each beat; samples begin at absolute sample ``first``."""
    return forms.cut_forms(samples, fs, beats, first)


def kinds_of(lines: Sequence[tuple[NDArray[np.int64], Forms, slice]], fs: float) -> list[NDArray[np.str_]]:
    """Classes of the wanted beats of each line, given as (beats, their forms, which are wanted)."""
    if not any(len(beats) for beats, _, _ in lines):
        return [np.empty(0, "<U1") for _ in lines]
    at = company.put_apart([beats for beats, _, _ in lines], fs)
    counts = np.cumsum([0] + [len(beats) for beats, _, _ in lines])
    rows = [
        np.arange(len(beats))[wanted] + before
        for (beats, _, wanted), before in zip(lines, counts[:-1].tolist(), strict=True)
    ]
    shapes = np.concatenate([shapes for _, shapes, _ in lines])
    kinds = classify_forms(shapes, at, fs, np.concatenate(rows)).kinds
    return np.split(kinds, np.cumsum([len(part) for part in rows])[:-1])


def fibrillating_windows(
    lines: Sequence[tuple[NDArray[np.int64], NDArray[np.str_], Forms, int]], fs: float
) -> NDArray[np.bool_]:
    """Whether a window of 30 beats is atrial fibrillation; lines are (beats, classes, forms, first of the 30)."""
    if not lines:
        return np.empty(0, np.bool_)
    counts = np.cumsum([0] + [len(beats) for beats, _, _, _ in lines])
    starts = np.array([first for _, _, _, first in lines]) + counts[:-1]
    at = company.put_apart([beats for beats, _, _, _ in lines], fs)
    kinds = np.concatenate([kinds for _, kinds, _, _ in lines])
    return fibrillation(at, fs, starts, kinds, np.concatenate([shapes for _, _, shapes, _ in lines])).positive
