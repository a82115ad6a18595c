"""The learned models as the pipeline calls them: many lines at once, only the beats and windows that are wanted. Pure.

Lines are put one after the other with their samples moved so far apart that none sees another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal import classes, forms
from vitalgate.signal.fibrillation import even_out, fibrillation
from vitalgate.signal.irregularity import windows_of
from vitalgate.signal.trees import model

#: A beat's class hangs on beats within these of it; its form on samples within REACH_S.
CONTEXT_S, AHEAD_S, REACH_S = forms.CONTEXT_S, forms.AHEAD_S, 1.0
#: A window's verdict hangs on beats within these of its middle: half a window, and what is compared with it.
FIBRILLATION_BEFORE_S, FIBRILLATION_AFTER_S = 30.0, 30.0

Forms = NDArray[Any]
_APART_S = 10 * (CONTEXT_S + AHEAD_S)


def cut_forms(samples: NDArray[np.float32], fs: float, beats: NDArray[np.int64], first: int) -> Forms:
    """The form of each beat; samples begin at absolute sample ``first``."""
    return forms.cut_forms(samples, fs, beats, first).astype(np.float32)


def kinds_of(lines: Sequence[tuple[NDArray[np.int64], Forms, slice]], fs: float) -> list[NDArray[np.str_]]:
    """Classes of the wanted beats of each line, given as (beats, their forms, which are wanted)."""
    if not any(len(beats) for beats, _, _ in lines):
        return [np.empty(0, "<U1") for _ in lines]
    at, moved = [], 0
    for beats, _, _ in lines:
        at.append(beats + moved - (int(beats[0]) if len(beats) else 0))
        moved = (int(at[-1][-1]) if len(beats) else moved) + round(_APART_S * fs)
    counts = np.cumsum([0] + [len(beats) for beats, _, _ in lines])
    rows = [
        np.arange(len(beats))[wanted] + before
        for (beats, _, wanted), before in zip(lines, counts[:-1].tolist(), strict=True)
    ]
    table = forms.describe(np.concatenate([shapes for _, shapes, _ in lines]), np.concatenate(at), fs)
    own = classes.selected(table[np.concatenate(rows)])
    trees = model("beat-classes")
    weights = np.array([trees.card["decision_weights"][name] for name in trees.classes])
    kinds = np.array(trees.classes, dtype="<U1")[(trees.shares(own) * weights).argmax(axis=1)]
    return np.split(kinds, np.cumsum([len(part) for part in rows])[:-1])


def fibrillating_windows(
    lines: Sequence[tuple[NDArray[np.int64], NDArray[np.str_], Sequence[int]]], fs: float
) -> list[NDArray[np.bool_]]:
    """Whether windows of 30 beats are atrial fibrillation, for each line, given as (beats, classes, first beats)."""
    windows, counts = [], []
    for beats, kinds, starts in lines:
        rr = even_out(np.diff(beats) / fs, kinds == "V")
        windows += [windows_of(rr[start : start + 30], 30) for start in starts]
        counts.append(len(starts))
    if not windows:
        return [np.empty(0, np.bool_) for _ in lines]
    said = fibrillation(np.concatenate(windows)).positive
    return np.split(said, np.cumsum(counts)[:-1])
