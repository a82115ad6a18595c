"""Atrial fibrillation from windows of 30 beats: irregular intervals, and no P wave where there is a signal to see one.

Of intervals alone a boosted-tree model (``models/fibrillation.json``) judges a window beside the windows before and
after it. Where there is a signal a second one (``models/fibrillation-signal.json``) adds what the first says once early
beats are put where regular ones would be, and how alike the stretches before the QRS complexes are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal import atrial
from vitalgate.signal.classes import classify_forms
from vitalgate.signal.forms import Floats, Forms, cut_forms
from vitalgate.signal.grid import Bool, Index, as_signals
from vitalgate.signal.irregularity import NAMES as IRREGULARITY
from vitalgate.signal.irregularity import irregularity
from vitalgate.signal.trees import Boosted, model

NAME = "vg-fibrillation"
VERSION = "3"

WINDOW_BEATS = 30
#: A window is judged with up to so many beats before and after it, if they are within CONTEXT_S of it.
CONTEXT_BEATS, CONTEXT_S = 60, 60.0
#: What a missing neighbour's value is, for the models.
MISSING = -9.0
#: Up to so many ectopic beats in a row are put where regular ones would be.
MOST_ECTOPIC = 3
_LONGEST_S = 6.0

#: What is told of the neighbouring windows.
_BESIDE = (
    "rmssd", "cv", "median_step", "quiet_steps", "entropy_steps", "entropy_rr", "same_pairs", "sample_entropy",
    "filtered_cv", "filtered_step",
)  # fmt: skip
_COLUMNS = [IRREGULARITY.index(name) for name in _BESIDE]
_SHIFTS = (-30, 30, -60, 60)
INTERVAL_NAMES = (*IRREGULARITY, *(f"{name}{shift:+d}" for shift in _SHIFTS for name in _BESIDE))
SIGNAL_NAMES = (
    "score", "score_without_v", "score_without_ectopy", "share_v", "share_s",
    *(f"{name}_without_v" for name in _BESIDE), *(f"{name}_without_ectopy" for name in _BESIDE), *atrial.NAMES,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Fibrillation:
    """Probability of fibrillation of each window, and what it must be over to be called that."""

    probability: NDArray[np.float64]
    limit: float

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Whether it is over the limit."""
        return np.asarray(self.probability > self.limit)


def fibrillation(
    beats: ArrayLike,
    fs: float,
    starts: ArrayLike | None = None,
    kinds: NDArray[np.str_] | None = None,
    forms: Forms | None = None,
) -> Fibrillation:
    """Judge windows of 30 beats.

    Parameters
    ----------
    beats
        Samples of the R peaks, increasing.
    fs
        Sampling rate, Hz.
    starts
        Place in ``beats`` of the first beat of each window: the window is its 30 beats and the intervals that begin
        there, so ``starts + 30`` must be places too. By default successive windows from the first beat.
    kinds
        (n,) class of each beat (``classes``), if known: then ventricular beats do not count as irregular.
    forms
        (n, POINTS) or (n_leads, n, POINTS) (``forms.cut_forms``), if there is a signal; kinds must be given too.

    Returns
    -------
    One probability a window. It depends on its beats, and on those CONTEXT_BEATS before and after, within CONTEXT_S: so
    the beats of several people can be given one after the other, further apart than that.

    Raises
    ------
    ValueError
        If a window does not lie within the beats, or forms are given without kinds.
    """
    at = np.asarray(beats, np.int64).ravel()
    first = windows_from(len(at)) if starts is None else np.asarray(starts, np.int64).ravel()
    if first.size and not (first.min() >= 0 and first.max() + WINDOW_BEATS < len(at)):
        raise ValueError(
            f"windows begin at beats {first.min()}..{first.max()} of {len(at)}; each needs {WINDOW_BEATS + 1} beats"
        )
    if forms is not None and kinds is None:
        raise ValueError("forms were given without kinds; classify the beats first")
    if forms is None or kinds is None:
        rr = np.diff(at) / fs if kinds is None else even_out(at, fs, kinds == "V")
        trees, table = model("fibrillation"), interval_features(rr, at, fs, first)
    else:
        trees, table = model("fibrillation-signal"), signal_features(at, fs, first, kinds, forms)
    return Fibrillation(trees.shares(table)[:, 1], float(trees.card["limit"]))


def fibrillation_of_beats(
    signals: ArrayLike, fs: float, beats: ArrayLike, first: int = 0, starts: ArrayLike | None = None
) -> Fibrillation:
    """Judge windows of 30 beats of one or more leads: forms, classes and ``fibrillation`` in one.

    Parameters
    ----------
    signals
        (n_leads, n_samples) or (n_samples,), mV.
    beats
        Absolute samples of the R peaks; ``first`` is that of the signal's first sample.
    """
    forms = np.stack([cut_forms(lead, fs, beats, first) for lead in as_signals(signals)])
    return fibrillation(beats, fs, starts, classify_forms(forms, beats, fs).kinds, forms)


def windows_from(n_beats: int) -> Index:
    """Where successive windows begin among so many beats; the rest at the end is left."""
    return np.arange(0, max(0, n_beats - WINDOW_BEATS), WINDOW_BEATS, dtype=np.int64)


def interval_features(rr: Floats, beats: Index, fs: float, starts: Index) -> Floats:
    """What the model of intervals sees of each window, in the order of INTERVAL_NAMES.

    Parameters
    ----------
    rr
        (n - 1,) the interval that begins at each beat but the last, seconds.
    beats
        (n,) samples: they say how far away a window is.
    """
    begins = starts[:, np.newaxis] + np.array((0, *_SHIFTS))
    last = max(len(beats) - 1, 0)
    there: Bool = (begins >= 0) & (begins + WINDOW_BEATS <= last)
    farthest = round(CONTEXT_S * fs)
    if len(starts):
        low, high = beats[starts, np.newaxis], beats[starts + WINDOW_BEATS, np.newaxis]
        there &= beats[np.clip(begins, 0, last)] >= low - farthest
        there &= beats[np.clip(begins + WINDOW_BEATS, 0, last)] <= high + farthest
    # Most windows are neighbours of others: each is looked at once.
    each, which = np.unique(begins[there], return_inverse=True)
    seen = np.full((*begins.shape, len(IRREGULARITY)), MISSING)
    if len(each):
        seen[there] = irregularity(rr[each[:, np.newaxis] + np.arange(WINDOW_BEATS)])[which]
    return np.concatenate([seen[:, 0], *(seen[:, k + 1, _COLUMNS] for k in range(len(_SHIFTS)))], axis=1)


def signal_features(
    beats: Index,
    fs: float,
    starts: Index,
    kinds: NDArray[np.str_],
    forms: Forms,
    trees: Boosted | None = None,
) -> Floats:
    """What the model with a signal sees of each window, in the order of SIGNAL_NAMES; ``trees``: that of intervals."""
    trees = model("fibrillation") if trees is None else trees
    within = starts[:, np.newaxis] + np.arange(WINDOW_BEATS)
    scores, cleaned = [trees.scores(interval_features(np.diff(beats) / fs, beats, fs, starts))[:, 1:]], []
    for ectopic in (kinds == "V", (kinds == "V") | (kinds == "S")):
        seen = interval_features(even_out(beats, fs, ectopic), beats, fs, starts)
        scores.append(trees.scores(seen)[:, 1:])
        cleaned.append(seen[:, _COLUMNS])
    share = [(kinds == kind)[within].mean(axis=1)[:, np.newaxis] for kind in ("V", "S")]
    regular = ~np.isin(kinds, ["V", "F"])
    return np.concatenate([*scores, *share, *cleaned, atrial.atrial_features(forms, regular, within)], axis=1)


def even_out(beats: ArrayLike, fs: float, ectopic: ArrayLike) -> Floats:
    """Intervals with ectopic beats, up to MOST_ECTOPIC in a row, put at even steps between the beats round them.

    Parameters
    ----------
    beats
        (n,) samples.
    ectopic
        (n,) which beats are. Those without a beat before and after within 6 s of one another are left.

    Returns
    -------
    (n - 1,) intervals, seconds.
    """
    at, odd = np.asarray(beats, np.int64).ravel(), np.asarray(ectopic, np.bool_).ravel()
    n = len(at)
    if n < 2:
        return np.empty(0)
    place = np.arange(n)
    before = np.maximum.accumulate(np.where(odd, -1, place))
    after = np.minimum.accumulate(np.where(odd, n, place)[::-1])[::-1]
    # Each interval from the regular beat before it to the one after it.
    low, high = before[:-1], after[1:]
    known = (low >= 0) & (high < n) & (high - low - 1 <= MOST_ECTOPIC)
    low, high = np.where(known, low, place[:-1]), np.where(known, high, place[1:])
    span = (at[high] - at[low]) / fs
    return np.asarray(np.where(span <= _LONGEST_S, span / (high - low), np.diff(at) / fs))
