"""Beat classes of ANSI/AAMI EC57 (N, S, V, F) from form and rhythm, without tuning to the patient.

Each beat is compared with up to 16 beats before it and 4 after it (``forms``), and a boosted-tree model
(``models/beat-classes.json``) decides. Q (paced, or not to be told) is not predicted: without a pacemaker's spike
nothing in one lead tells it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.beats import AFTER_S as BEATS_AFTER_S
from vitalgate.signal.beats import BEFORE_S as BEATS_BEFORE_S
from vitalgate.signal.forms import AHEAD_S, CONTEXT_S, cut_forms, describe
from vitalgate.signal.forms import NAMES as FORM_NAMES
from vitalgate.signal.grid import as_signals
from vitalgate.signal.trees import model

NAME = "vg-beat-class"
VERSION = "1"

#: The class of a beat depends on signal and beats within these; with beats of ``find_beats``, see BEATS_*_S too.
BEFORE_S = CONTEXT_S + 10.0 + BEATS_BEFORE_S
AFTER_S = AHEAD_S + 8.0 + BEATS_AFTER_S

#: What a missing neighbour's value is, for the model.
MISSING = -9.0


@dataclass(frozen=True, eq=False)
class Classified:
    """The class of each beat: ``kinds`` (n,) of N, S, V, F, and ``shares`` (n, 4), order F, N, S, V."""

    kinds: NDArray[np.str_]
    shares: NDArray[np.float64]


#: Names of what the model sees: what is relative to the person's own beats. Absolute sizes and intervals tell people
#: apart, and a model that sees them does worse on others.
ABSOLUTE = frozenset(
    ("width", "t_sign", "skew", "p_size", "t_size", "p_height", "typical", "rr", "rr_next", "rr_before")
)
NAMES = tuple(name for name in FORM_NAMES if name not in ABSOLUTE)
_COLUMNS = [k for k, name in enumerate(FORM_NAMES) if name not in ABSOLUTE]


def features(signal: ArrayLike, fs: float, beats: ArrayLike, first: int = 0) -> NDArray[np.float64]:
    """What the model sees of each beat in one lead, (n, 23), in the order of NAMES."""
    return selected(describe(cut_forms(signal, fs, beats, first), beats, fs))


def selected(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of what ``describe`` tells of each beat, that which the model sees."""
    return np.clip(np.nan_to_num(table[:, _COLUMNS], nan=MISSING, posinf=99.0, neginf=MISSING), MISSING, 99.0)


def classify_beats(signals: ArrayLike, fs: float, beats: ArrayLike, first: int = 0) -> Classified:
    """Say which class each beat is of.

    Parameters
    ----------
    signals
        (n_leads, n_samples) or (n_samples,) for one lead, mV; NaN where missing. Each lead is judged by itself, and the
        geometric mean of what they say counts.
    fs
        Sampling rate, 100 to 1000 Hz.
    beats
        Absolute samples of the R peaks, increasing.
    first
        Absolute index of the first sample.
    """
    trees = model("beat-classes")
    leads = as_signals(signals)
    total = np.zeros((np.size(beats), len(trees.classes)))
    for lead in leads:
        total += np.log(trees.shares(features(lead, fs, beats, first)) + 1e-9)
    shares = np.exp(total / max(1, len(leads)))
    weights = np.array([trees.card["decision_weights"][name] for name in trees.classes])
    kinds = np.array(trees.classes, dtype="<U1")[(shares * weights).argmax(axis=1)]
    return Classified(kinds, shares)
