"""What a short hand-held strip shows: normal rhythm (N), atrial fibrillation (A), another rhythm (O), or noise (~).

Features of the whole strip (irregularity of its intervals, forms of its beats side by side, P waves, quality) and a
boosted-tree model (``models/strips.json``). A strip is judged as a whole, so there is no streaming form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal import forms
from vitalgate.signal.beats import find_beats
from vitalgate.signal.forms import FROM_S, RATE, cut_forms, describe
from vitalgate.signal.irregularity import NAMES as IRREGULARITY
from vitalgate.signal.irregularity import irregularity
from vitalgate.signal.quality import Grade, Reason, signal_quality
from vitalgate.signal.trees import model

NAME = "vg-strips"
VERSION = "1"

#: With fewer beats nothing is said of the rhythm: the features are MISSING.
FEWEST_BEATS = 6
MISSING = -9.0

_OF_BEATS = (
    "rr_over_typical", "spread", "qrs_like", "t_like", "p_like", "size", "width", "width_ratio", "slope", "t_size",
    "t_sign", "p_size", "p_height", "skew", "noise", "sum_over_typical",
)  # fmt: skip
NAMES = (
    *IRREGULARITY,
    *(f"{name}_{part}" for name in _OF_BEATS for part in ("low", "middle", "high")),
    "seconds", "beats", "shortest", "longest", "second_longest", "rate", "p_together", "p_mean_size", "p_place",
    "t_together", "qrs_together", "atrial_energy", "bad", "usable", "bad_noise", "odd_beats", "mean_width",
    "longest_over_typical",
    "lowest_rate", "highest_rate", "wide_beats", "early_alike", "early_odd",
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
    shares = trees.shares(strip_features(signal, fs)[np.newaxis])[0]
    weights = np.array([trees.card["decision_weights"][name] for name in trees.classes])
    return StripRhythm(
        trees.classes[int((shares * weights).argmax())],
        {name: float(share) for name, share in zip(trees.classes, shares, strict=True)},
    )


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
    cut = cut_forms(x, fs, beats)
    table = describe(cut, beats, fs)
    column = {name: table[:, k] for k, name in enumerate(forms.NAMES)}
    out: dict[str, float] = {}
    for name in _OF_BEATS:
        values = np.sort(column[name][~np.isnan(column[name])])
        for part, place in (("low", 0.1), ("middle", 0.5), ("high", 0.9)):
            out[f"{name}_{part}"] = float(values[int(place * (len(values) - 1))]) if len(values) else MISSING
    scale = float(np.median(np.ptp(cut[:, _span(-0.08, 0.1)], axis=1))) + 1e-6
    mean = np.median(cut, axis=0)
    p = mean[_span(-0.28, -0.06)]
    line = np.linspace(p[0], p[-1], len(p))
    rest = cut[:, _span(-0.28, -0.06)] - p
    like, rr = column["qrs_like"], column["rr_over_typical"]
    early = rr < 0.85
    out |= {
        "p_together": _together(cut[:, _span(-0.26, -0.06)]), "t_together": _together(cut[:, _span(0.14, 0.4)]),
        "qrs_together": _together(cut[:, _span(-0.08, 0.1)]), "p_mean_size": float((p - line).max()) / scale,
        "p_place": float((p - line).argmax() / RATE), "atrial_energy": float(np.median(rest.std(axis=1))) / scale,
        "odd_beats": float((like < 0.8).mean()),
        "mean_width": float((np.abs(mean[_span(-0.1, 0.12)]) > scale / 6).mean()),
        "wide_beats": float((column["width_ratio"] > 1.4).mean()), "early_alike": float((early & (like > 0.9)).mean()),
        "early_odd": float((early & (like < 0.8)).mean()),
    }  # fmt: skip
    return out


def _span(begin_s: float, end_s: float) -> slice:
    return slice(round((begin_s - FROM_S) * RATE), round((end_s - FROM_S) * RATE) + 1)


def _together(part: NDArray[np.float64]) -> float:
    """How much of the beats' own variation their mean explains, 0 to 1."""
    centred = part - part.mean(axis=1, keepdims=True)
    own = float((centred**2).sum(axis=1).mean())
    return float((centred.mean(axis=0) ** 2).sum() / (own + 1e-9))
