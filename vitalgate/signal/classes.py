"""Beat classes of ANSI/AAMI EC57 (N, S, V, F) from form and rhythm, without tuning to the patient.

Each beat is compared with the company it keeps (``company``: up to two minutes before, some seconds after), and a
boosted-tree model (``models/beat-classes.json``) says how likely each class is. Whether a beat is ventricular is then
half its own odds, half the mean odds of the beats of the same form in its 10-s block: beats of one form come from one
place. Q (paced, or not to be told) is not predicted: without a pacemaker's spike nothing in one lead tells it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal import company
from vitalgate.signal.beats import AFTER_S as BEATS_AFTER_S
from vitalgate.signal.beats import BEFORE_S as BEATS_BEFORE_S
from vitalgate.signal.forms import CUT_AFTER_S, CUT_BEFORE_S, QRS, Forms, cut_forms
from vitalgate.signal.grid import Index, as_signals
from vitalgate.signal.trees import model

NAME = "vg-beat-class"
VERSION = "3"

#: The class of a beat at t depends on beats and forms in [t - CONTEXT_S, t + AHEAD_S]: it is judged with the others of
#: its 10-s block of the absolute grid.
CONTEXT_S = company.BLOCK_S + company.BEFORE_S
AHEAD_S = company.BLOCK_S + company.AFTER_S
#: And on signal within these, when the beats are those of ``find_beats``.
BEFORE_S = CONTEXT_S + max(CUT_BEFORE_S, BEATS_BEFORE_S)
AFTER_S = AHEAD_S + max(CUT_AFTER_S, BEATS_AFTER_S)

#: What a missing neighbour's value is, for the model, and how large any value may be.
MISSING, MOST = -9.0, 99.0

#: Beats of a block whose QRS complexes correlate by this (mean over the leads) are of one form.
ONE_FORM = 0.9
#: Odds are summed as whole numbers of this share of a neper, at most so many: exact in any order.
_ODDS_UNIT, _MOST_ODDS = 1 / 4096, 20.0
_BLOCKS = 64

#: Names of what the model sees. Of the intervals it sees ratios only: a person's rate says nothing of a beat.
NAMES = company.NAMES


@dataclass(frozen=True, eq=False)
class Classified:
    """The class of each beat: ``kinds`` (n,) of N, S, V, F, and ``shares`` (n, 4), order F, N, S, V."""

    kinds: NDArray[np.str_]
    shares: NDArray[np.float64]


def features(forms: Forms, beats: ArrayLike, fs: float, wanted: slice | Index | None = None) -> NDArray[np.float64]:
    """What the model sees of each wanted beat in one lead, (n_wanted, len(NAMES)), from forms (``cut_forms``)."""
    table = company.describe(forms, beats, fs, wanted=wanted)
    return np.clip(np.where(np.isnan(table), MISSING, table), MISSING, MOST)


def classify_forms(
    forms: NDArray[np.int16], beats: ArrayLike, fs: float, wanted: slice | Index | None = None
) -> Classified:
    """Say which class each beat is of, from forms alone.

    Parameters
    ----------
    forms
        (n_leads, n_beats, POINTS), or (n_beats, POINTS) for one lead, of ``forms.cut_forms``. Each lead is judged by
        itself, and the geometric mean of what they say counts.
    beats
        Absolute samples of the R peaks, increasing.
    fs
        Sampling rate, Hz.
    wanted
        Which beats are wanted, increasing; the others are their company. By default all. Several people's beats can be
        given one after the other, moved by whole blocks of 10 s and more than CONTEXT_S apart.

    Raises
    ------
    ValueError
        If there are not as many forms as beats.
    """
    leads = np.asarray(forms, np.int16)
    leads = leads[np.newaxis] if leads.ndim == 2 else leads
    if leads.ndim != 3 or leads.shape[1] != np.size(beats):
        raise ValueError(f"forms have shape {np.shape(forms)} for {np.size(beats)} beats; cut them from the same beats")
    trees = model("beat-classes")
    at = np.asarray(beats, np.int64).ravel()
    rows = np.arange(len(at)) if wanted is None else np.arange(len(at))[wanted]
    block = blocks(at, fs)
    whole = np.flatnonzero(np.isin(block, block[rows]))
    logs = sum(np.log(trees.shares(features(lead, at, fs, whole)) + 1e-9) for lead in leads)
    shown = with_one_form(np.asarray(logs) / max(1, len(leads)), leads[:, whole], block[whole])
    return decide(shown[np.searchsorted(whole, rows)], trees.card["decision_weights"])


def blocks(beats: Index, fs: float) -> Index:
    """The 10-s block of the absolute grid that each beat is in."""
    return np.asarray(beats // round(company.BLOCK_S * fs))


def with_one_form(logs: NDArray[np.float64], forms: NDArray[np.int16], block: Index) -> NDArray[np.float64]:
    """Logarithms of shares in which V has half its own odds and half those of the block's beats of the same form.

    Parameters
    ----------
    logs
        (n, 4) logarithms of shares, order F, N, S, V: each beat by itself.
    forms
        (n_leads, n, POINTS) of the same beats.
    block
        (n,) which block each is of, not decreasing; all beats of a block are there.

    Returns
    -------
    (n, 4); what is not V is divided as before. Whole numbers are summed: a block's do not depend on the others.
    """
    if not len(logs):
        return logs
    other = np.logaddexp(np.logaddexp(logs[:, 0], logs[:, 1]), logs[:, 2])
    rest, odds = logs[:, :3] - other[:, np.newaxis], logs[:, 3] - other
    whole = np.round(np.clip(odds, -_MOST_ODDS, _MOST_ODDS) / _ODDS_UNIT)
    units = [company.unit(lead[:, QRS].astype(np.float32)) for lead in forms]
    firsts = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]]))
    sizes = np.diff(np.append(firsts, len(block)))
    mean = np.empty(len(block))
    for low in range(0, len(firsts), _BLOCKS):
        first, size = firsts[low : low + _BLOCKS], sizes[low : low + _BLOCKS]
        column = np.arange(int(size.max()))
        there = column < size[:, np.newaxis]
        index = np.where(there, first[:, np.newaxis] + column, first[:, np.newaxis])
        like = np.zeros((len(first), len(column), len(column)), np.float32)
        for unit in units:
            like += unit[index] @ unit[index].transpose(0, 2, 1)
        mates = like > np.float32(ONE_FORM * len(units) * company.UNIT**2)
        mates |= np.eye(len(column), dtype=np.bool_)
        mates &= there[:, np.newaxis]
        sums = (mates @ whole[index][:, :, np.newaxis])[:, :, 0]
        mean[index[there]] = (sums / np.maximum(mates.sum(axis=2), 1))[there]
    odds = 0.5 * (whole + mean) * _ODDS_UNIT
    return np.column_stack([rest - np.logaddexp(0, odds)[:, np.newaxis], -np.logaddexp(0, -odds)])


def decide(logs: NDArray[np.float64], weights: dict[str, float]) -> Classified:
    """The class with the largest weighted share; of logarithms of shares, (n, 4) in the order of ``weights``."""
    shares = np.exp(logs)
    shares = shares / shares.sum(axis=1, keepdims=True)
    names = sorted(weights)
    kinds = np.array(names, dtype="<U1")[(shares * np.array([weights[name] for name in names])).argmax(axis=1)]
    return Classified(kinds, shares)


def classify_beats(signals: ArrayLike, fs: float, beats: ArrayLike, first: int = 0) -> Classified:
    """Say which class each beat is of.

    Parameters
    ----------
    signals
        (n_leads, n_samples) or (n_samples,) for one lead, mV; NaN where missing.
    fs
        Sampling rate, 100 to 1000 Hz.
    beats
        Absolute samples of the R peaks, increasing.
    first
        Absolute index of the first sample.
    """
    return classify_forms(np.stack([cut_forms(lead, fs, beats, first) for lead in as_signals(signals)]), beats, fs)
