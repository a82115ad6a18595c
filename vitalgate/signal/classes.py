"""Beat classes of ANSI/AAMI EC57 (N, S, V, F) from form and rhythm, without tuning to the patient.

Each beat is compared with the company it keeps (``company``: up to two minutes before, some seconds after), and a
boosted-tree model (``models/beat-classes.json``) decides. Q (paced, or not to be told) is not predicted: without a
pacemaker's spike nothing in one lead tells it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal import company
from vitalgate.signal.beats import AFTER_S as BEATS_AFTER_S
from vitalgate.signal.beats import BEFORE_S as BEATS_BEFORE_S
from vitalgate.signal.forms import CUT_AFTER_S, CUT_BEFORE_S, Forms, cut_forms
from vitalgate.signal.grid import Index, as_signals
from vitalgate.signal.trees import model

NAME = "vg-beat-class"
VERSION = "2"

#: The class of a beat at t depends on beats and forms in [t - CONTEXT_S, t + AHEAD_S]: it is judged with the others of
#: its 10-s block of the absolute grid.
CONTEXT_S = company.BLOCK_S + company.BEFORE_S
AHEAD_S = company.BLOCK_S + company.AFTER_S
#: And on signal within these, when the beats are those of ``find_beats``.
BEFORE_S = CONTEXT_S + max(CUT_BEFORE_S, BEATS_BEFORE_S)
AFTER_S = AHEAD_S + max(CUT_AFTER_S, BEATS_AFTER_S)

#: What a missing neighbour's value is, for the model, and how large any value may be.
MISSING, MOST = -9.0, 99.0

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
    logs = sum(np.log(trees.shares(features(lead, beats, fs, wanted)) + 1e-9) for lead in leads)
    return decide(np.asarray(logs) / max(1, len(leads)), trees.card["decision_weights"])


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
