"""What a short hand-held strip shows: normal rhythm (N), atrial fibrillation (A), another rhythm (O), or noise (~).

Features of the whole strip (irregularity of its intervals, forms of its beats side by side, P waves, quality) and a
boosted-tree model (``models/strips.json``). A strip is judged as a whole, so there is no streaming form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal import atrial, company
from vitalgate.signal.beats import find_beats
from vitalgate.signal.classes import classify_forms
from vitalgate.signal.fibrillation import even_out
from vitalgate.signal.forms import P_WAVE, QRS, RATE, SHAPE, T_WAVE, Forms, cut_forms, span
from vitalgate.signal.irregularity import NAMES as IRREGULARITY
from vitalgate.signal.irregularity import irregularity
from vitalgate.signal.quality import Grade, Reason, signal_quality
from vitalgate.signal.trees import model

NAME = "vg-strips"
VERSION = "3"

#: With fewer beats nothing is said of the rhythm: the features are MISSING.
FEWEST_BEATS = 6
MISSING = -9.0
#: A strip is one company of beats.
LONGEST_S = 3600.0

_ATRIA = ("af", "af_without_v", "af_without_ectopy")
_OF_BEATS = (
    "rr", "spread", "like", "like_t", "like_p", "size", "own_wide", "wide", "length", "slope", "t_over_qrs",
    "t_against", "p", "p_less", "skew", "noise", "sum", "share",
)  # fmt: skip
NAMES = (
    *IRREGULARITY,
    *(f"{name}_{part}" for name in _OF_BEATS for part in ("low", "middle", "high")),
    "seconds", "beats", "shortest", "longest", "second_longest", "rate", "p_together", "p_mean_size", "p_place",
    "t_together", "qrs_together", "atrial_energy", "bad", "usable", "bad_noise", "odd_beats", "mean_width",
    "longest_over_typical",
    "lowest_rate", "highest_rate", "wide_beats", "early_alike", "early_odd", "ventricular", "ventricular_most",
    "supraventricular", "supraventricular_most", *_ATRIA, *(f"atrial_{name}" for name in atrial.NAMES),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class StripRhythm:
    """The label, and the probability of each: ``shares`` has the keys N, A, O and ~."""

    label: str
    shares: dict[str, float]


def classify_strip(signal: ArrayLike, fs: float) -> StripRhythm:
    """Judge a strip of 9 to 60 s.

    Parameters
    ----------
    signal
        (n_samples,), mV.
    fs
        Sampling rate, 100 to 1000 Hz.
    """
    trees = model("strips")
    shares = trees.shares(strip_features(signal, fs)[np.newaxis])
    return StripRhythm(
        str(decide(shares, trees.classes, trees.card["decision_weights"], trees.card["noise_limit"])[0]),
        {name: float(share) for name, share in zip(trees.classes, shares[0], strict=True)},
    )


def decide(
    shares: NDArray[np.float64], names: Sequence[str], weights: dict[str, float], noise_limit: float
) -> NDArray[np.str_]:
    """The label with the largest weighted share; of (n, 4) shares in the order of ``names``.

    What would be fibrillation (A) is noise (~) when the share of noise is over the limit: noise looks irregular.
    """
    labels = np.array(names, dtype="<U1")[(shares * np.array([weights[name] for name in names])).argmax(axis=1)]
    return np.where((labels == "A") & (shares[:, list(names).index("~")] > noise_limit), "~", labels)


def strip_features(signal: ArrayLike, fs: float) -> NDArray[np.float64]:
    """What the model sees of a strip, in the order of NAMES."""
    x = np.asarray(signal, np.float32).ravel()
    beats = find_beats(x, fs)[0]
    stretches = signal_quality(x, fs)[0]
    total = max(1, sum(s.offset - s.onset for s in stretches))

    def share(grade: Grade, reason: Reason | None = None) -> float:
        chosen = [s for s in stretches if s.grade is grade and reason in (None, s.reason)]
        return sum(s.offset - s.onset for s in chosen) / total

    out = dict.fromkeys(NAMES, MISSING)
    out |= {
        "seconds": len(x) / fs, "beats": float(len(beats)), "bad": share(Grade.BAD), "usable": share(Grade.USABLE),
        "bad_noise": share(Grade.BAD, Reason.NOISE),
    }  # fmt: skip
    if len(beats) >= FEWEST_BEATS:
        out |= _of_rhythm(np.diff(beats) / fs) | _of_forms(x, fs, beats)
    table = np.array([out[name] for name in NAMES], np.float64)
    return np.clip(np.nan_to_num(table, nan=MISSING, posinf=99.0, neginf=MISSING), MISSING, 99.0)


def _of_rhythm(rr: NDArray[np.float64]) -> dict[str, float]:
    ordered = np.sort(rr)
    middle = float(np.median(rr))
    means = np.convolve(rr, np.full(min(5, len(rr)), 1 / min(5, len(rr))), "valid")
    return dict(zip(IRREGULARITY, irregularity(rr[np.newaxis])[0].tolist(), strict=True)) | {
        "shortest": float(ordered[0]), "longest": float(ordered[-1]), "second_longest": float(ordered[-2]),
        "rate": 60 / middle, "longest_over_typical": float(ordered[-1]) / middle,
        "lowest_rate": 60 / float(means.max()), "highest_rate": 60 / float(means.min()),
    }  # fmt: skip


def _of_forms(x: NDArray[np.float32], fs: float, beats: NDArray[np.int64]) -> dict[str, float]:
    forms = cut_forms(x, fs, beats)
    classified = classify_forms(forms, beats, fs)
    shares = classified.shares
    table = company.describe(forms, beats, fs, LONGEST_S)
    column = {name: table[:, k] for k, name in enumerate(company.NAMES)}
    out: dict[str, float] = {}
    for name in _OF_BEATS:
        values = np.sort(column[name][~np.isnan(column[name])])
        for part, place in (("low", 0.1), ("middle", 0.5), ("high", 0.9)):
            out[f"{name}_{part}"] = float(values[int(place * (len(values) - 1))]) if len(values) else MISSING
    cut = forms[:, :SHAPE].astype(np.float64)
    scale = float(np.median(np.ptp(cut[:, QRS], axis=1))) + 1e-3
    mean = np.median(cut, axis=0)
    p = mean[P_WAVE]
    line = np.linspace(p[0], p[-1], len(p))
    rest = cut[:, P_WAVE] - p
    like, rr = column["like"], column["rr"]
    early = rr < 0.85
    ventricular, supraventricular = np.sort(shares[:, 3]), np.sort(shares[:, 2])
    out |= {
        "p_together": _together(cut[:, P_WAVE]), "t_together": _together(cut[:, T_WAVE]),
        "qrs_together": _together(cut[:, QRS]), "p_mean_size": float((p - line).max()) / scale,
        "p_place": float((p - line).argmax() / RATE), "atrial_energy": float(np.median(rest.std(axis=1))) / scale,
        "odd_beats": float((like < 0.8).mean()),
        "mean_width": float((np.abs(mean[span(-0.1, 0.12)]) > scale / 6).mean()),
        "wide_beats": float((column["wide"] > 1.4).mean()), "early_alike": float((early & (like > 0.9)).mean()),
        "early_odd": float((early & (like < 0.8)).mean()),
        "ventricular": float(ventricular.mean()), "ventricular_most": float(ventricular[-1]),
        "supraventricular": float(supraventricular.mean()), "supraventricular_most": float(supraventricular[-2]),
    }  # fmt: skip
    out |= _of_atria(forms, beats, fs, classified.kinds)
    return out


def _of_atria(forms: Forms, beats: NDArray[np.int64], fs: float, kinds: NDArray[np.str_]) -> dict[str, float]:
    """How fibrillation's model of intervals sees the strip as one window, as it is and without ectopy; P waves."""
    trees = model("fibrillation")
    ectopic = np.zeros(len(kinds), np.bool_), kinds == "V", (kinds == "V") | (kinds == "S")
    rows = np.full((len(ectopic), len(trees.features)), MISSING)
    for row, odd in zip(rows, ectopic, strict=True):
        row[: len(IRREGULARITY)] = irregularity(even_out(beats, fs, odd)[np.newaxis])[0]
    scores = trees.scores(rows)[:, 1].tolist()
    seen = atrial.atrial_features(forms, ~np.isin(kinds, ["V", "F"]), np.arange(len(beats))[np.newaxis])[0].tolist()
    return dict(zip((*_ATRIA, *(f"atrial_{name}" for name in atrial.NAMES)), [*scores, *seen], strict=True))


def _together(part: NDArray[np.float64]) -> float:
    """How much of the beats' own variation their mean explains, 0 to 1."""
    centred = part - part.mean(axis=1, keepdims=True)
    own = float((centred**2).sum(axis=1).mean())
    return float((centred.mean(axis=0) ** 2).sum() / (own + 1e-9))
