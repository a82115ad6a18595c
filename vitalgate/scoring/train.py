"""Train the models that ship as data: ``python -m vitalgate.scoring.train DATA [MODEL...]``.

DATA holds the folders mitdb, afdb and cinc2017. Needs scikit-learn, at training time only. Everything is seeded; each
model is written with its card: what it was trained on, how, and what records left out gave.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.scoring import databases
from vitalgate.scoring.classes import count
from vitalgate.scoring.databases import PACED
from vitalgate.scoring.examples import FoundBeats, found_beats, recordings, windows
from vitalgate.scoring.fitting import MODELS, SEED, Floats, fit, left_out
from vitalgate.scoring.strips import natural_weights, strip_scores
from vitalgate.signal import classes, fibrillation, strips
from vitalgate.signal.beats import find_beats
from vitalgate.signal.forms import Forms, cut_forms
from vitalgate.signal.trees import Boosted, from_document, model

#: Groups of records that are left out in turn.
PARTS = 11
#: Probability over which a window is called fibrillation: of intervals alone, and with a signal.
LIMIT, LIMIT_WITH_SIGNAL = 0.4, 0.2

#: Weight of V in the decision: where Se and +P of records left out are the same.
V_WEIGHT = 0.57
MITDB_HZ = 360.0

#: de Chazal's training set; the test set is never looked at here.
DS1 = (
    "101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122", "124", "201", "203", "205", "207",
    "208", "209", "215", "220", "223", "230",
)  # fmt: skip


@cache
def _class_examples(data: Path) -> tuple[dict[str, FoundBeats], dict[str, Forms], dict[str, Floats]]:
    """Our own beats of each record of DS1, their forms, and what the model sees: (n_leads, n_beats, n_features)."""
    beats, forms, seen = {}, {}, {}
    for recording in recordings(data / "mitdb"):
        if recording.name in DS1 and recording.name not in PACED:
            found = beats[recording.name] = found_beats(recording)
            leads = np.stack([cut_forms(lead, recording.fs, found.beats) for lead in recording.signals])
            forms[recording.name] = leads
            seen[recording.name] = np.stack([classes.features(lead, found.beats, recording.fs) for lead in leads])
    return beats, forms, seen


def _fit_classes(beats: dict[str, FoundBeats], seen: dict[str, Floats], card: dict[str, Any]) -> dict[str, Any]:
    """Fit the model on these records."""
    rng = np.random.default_rng(SEED)
    tables, labels, weights = [], [], []
    for name, found in beats.items():
        kind = found.classes
        # A fifth of the normal beats is plenty, and a record's thousandth beat of a kind says less than its first.
        use = np.isin(kind, ["N", "S", "V", "F"]) & ((kind != "N") | (rng.random(len(kind)) < 0.2))
        weight = np.where(kind == "N", 5.0, 1.0)
        for each in ("F", "N", "S", "V"):
            part = use & (kind == each)
            total = len(seen[name]) * weight[part].sum()
            weight[part] *= (max(total, 50) / 50) ** -0.5
        for lead in seen[name]:
            tables.append(lead[use])
            labels.append(kind[use])
            weights.append(weight[use])
    settings = {
        "max_iter": 70, "learning_rate": 0.11, "min_samples_leaf": 60, "l2_regularization": 10.0, "max_bins": 64,
        "max_features": 0.25,
    }  # fmt: skip
    x, y = np.concatenate(tables), np.concatenate(labels)
    return fit(x, y, np.concatenate(weights), classes.NAMES, settings, card)


@cache
def left_out_shares(data: Path) -> dict[str, Floats]:
    """Of each record of DS1 the logarithms of the shares of its beats' classes, by a model that did not see it."""
    beats, forms, seen = _class_examples(data)
    names = list(beats)
    order = np.random.default_rng(SEED).permutation(len(names))
    out = {}
    for part in range(PARTS):
        held = [names[k] for k in order[part::PARTS]]
        kept = {name: beats[name] for name in names if name not in held}
        fitted = from_document(_fit_classes(kept, seen, {}))
        for name in held:
            logs = np.mean([np.log(fitted.shares(lead) + 1e-9) for lead in seen[name]], axis=0)
            out[name] = classes.with_one_form(logs, forms[name], classes.blocks(beats[name].beats, MITDB_HZ))
    return out


def train_classes(data: Path) -> dict[str, Any]:
    """Beat classes on DS1, our own beats, each lead by itself."""
    beats, _, seen = _class_examples(data)
    logs = left_out_shares(data)
    weights = {"F": 0.3, "N": 1.0, "S": 0.7, "V": V_WEIGHT}
    card = {
        "what": "class of a beat (AAMI F, N, S, V) from its form and rhythm beside the beats round it",
        "trained_on": "MIT-BIH Arrhythmia Database, DS1 without paced records, our own beats, each lead by itself",
        "records": sorted(beats),
        "not_for": "paced rhythm (Q); leads and people unlike those of the database",
        "decision_weights": weights,
        "left_out": {
            "how": f"{PARTS} groups of records, each judged by a model that did not see it; both leads; as EC57 says"
        }
        | {kind: _class_score(beats, logs, weights, kind) for kind in ("V", "S")},
    }
    return _fit_classes(beats, seen, card)


def _class_score(
    beats: dict[str, FoundBeats], logs: dict[str, Floats], weights: dict[str, float], kind: str
) -> dict[str, float]:
    tp, fn, fp = np.sum([count(beats[name], classes.decide(logs[name], weights).kinds, kind) for name in beats], axis=0)
    return {"se": round(100 * float(tp / (tp + fn)), 2), "ppv": round(100 * float(tp / max(tp + fp, 1)), 2)}


@dataclass(frozen=True, eq=False)
class _Table:
    """Rows of examples: what the model sees, what they are, which record they are of, what they weigh."""

    x: Floats
    y: NDArray[Any]
    group: NDArray[np.str_]
    weight: Floats

    @staticmethod
    def of(parts: list[tuple[str, Floats, NDArray[Any], float]]) -> _Table:
        """From (record, rows, labels, weight of each row)."""
        return _Table(
            np.concatenate([x for _, x, _, _ in parts]),
            np.concatenate([y for _, _, y, _ in parts]).astype(np.int64),
            np.concatenate([np.full(len(y), name) for name, _, y, _ in parts]),
            np.concatenate([np.full(len(y), weight) for _, _, y, weight in parts]),
        )


@cache
def _interval_examples(data: Path) -> tuple[_Table, Floats, dict[str, Boosted]]:
    """Windows of 30 intervals of AFDB and MIT-BIH; left-out probabilities, and by which model."""
    parts = []
    for name in databases.names(data / "afdb"):
        read = databases.read_intervals(data / "afdb", name)
        seen, af = _interval_windows(read.beats, read.fs, read.rhythms)
        parts.append((name, seen, af, 1000 / max(1, len(af))))
    for recording in recordings(data / "mitdb"):
        seen, af = _interval_windows(found_beats(recording).beats, recording.fs, recording.rhythms)
        parts.append(("mitdb " + recording.name, seen, af, 1.5))
    table = _Table.of(parts)
    return table, *left_out(table.x, table.y, table.weight, table.group, _OF_INTERVALS, 12)


def _interval_windows(
    beats: NDArray[np.int64], fs: float, rhythms: tuple[databases.Rhythm, ...]
) -> tuple[Floats, NDArray[np.bool_]]:
    cut = windows(beats, fs, rhythms)
    starts = fibrillation.windows_from(len(beats))
    seen = fibrillation.interval_features(np.diff(beats) / fs, beats, fs, starts)
    return seen[~cut.flutter], cut.af[~cut.flutter]


_OF_INTERVALS = {
    "max_iter": 120, "learning_rate": 0.06, "min_samples_leaf": 40, "l2_regularization": 5.0, "max_bins": 64,
}  # fmt: skip


def train_fibrillation(data: Path) -> dict[str, Any]:
    """Atrial fibrillation in windows of 30 intervals alone: AFDB's reference beats, and our own beats of MIT-BIH."""
    table, shares, _ = _interval_examples(data)
    said = shares[:, 1] > LIMIT
    recorded = np.char.startswith(table.group, "mitdb")
    card = {
        "what": "atrial fibrillation in a window of 30 RR intervals",
        "trained_on": "MIT-BIH Atrial Fibrillation Database (reference beats) and Arrhythmia Database (our own beats); "
        "windows with atrial flutter left out",
        "records": sorted(set(table.group.tolist())),
        "limit": LIMIT,
        "left_out": {
            "how": "12 groups of records, each judged by a model that did not see it",
            "afdb": _rhythm_score(table, said, ~recorded),
            "mitdb": _rhythm_score(table, said, recorded),
        },
        "not_for": "flutter with regular conduction; a heart that is paced",
    }
    return fit(table.x, table.y, table.weight, fibrillation.INTERVAL_NAMES, _OF_INTERVALS, card)


def _rhythm_score(table: _Table, said: NDArray[np.bool_], part: NDArray[np.bool_]) -> dict[str, float]:
    af, other = part & (table.y == 1), part & (table.y == 0)
    return {
        "se": round(100 * float(said[af].mean()), 2) if af.any() else float("nan"),
        "sp": round(100 * float(1 - said[other].mean()), 2) if other.any() else float("nan"),
    }


def train_fibrillation_signal(data: Path) -> dict[str, Any]:
    """Atrial fibrillation where there is a signal: our own beats of MIT-BIH, and the first windows of CinC 2017 strips.

    The classes of the beats of MIT-BIH, and what their intervals alone say, are of models that did not see the record.
    """
    _, _, of_intervals = _interval_examples(data)
    left, decision = left_out_shares(data), model("beat-classes").card["decision_weights"]
    parts = []
    for recording in recordings(data / "mitdb"):
        beats = found_beats(recording).beats
        cut = windows(beats, recording.fs, recording.rhythms)
        forms = np.stack([cut_forms(lead, recording.fs, beats) for lead in recording.signals])
        kinds = (
            classes.decide(left[recording.name], decision)
            if recording.name in left
            else classes.classify_forms(forms, beats, recording.fs)
        ).kinds
        starts, use = fibrillation.windows_from(len(beats)), ~cut.flutter
        for seen in (forms, forms[0]):
            unseen = of_intervals["mitdb " + recording.name]
            rows = fibrillation.signal_features(beats, recording.fs, starts, kinds, seen, unseen)
            parts.append(("mitdb " + recording.name, rows[use], cut.af[use], 0.5))
    for strip in databases.read_strips(data / "cinc2017"):
        beats = find_beats(strip.signal, strip.fs)[0]
        starts = fibrillation.windows_from(len(beats))[:1]
        if len(starts) and strip.label != "~":
            forms = cut_forms(strip.signal, strip.fs, beats)
            kinds = classes.classify_forms(forms, beats, strip.fs).kinds
            rows = fibrillation.signal_features(beats, strip.fs, starts, kinds, forms)
            parts.append(("strip " + strip.name, rows, np.array([strip.label == "A"]), 1.0))
    table = _Table.of(parts)
    settings = {
        "max_iter": 80, "learning_rate": 0.06, "min_samples_leaf": 30, "l2_regularization": 5.0, "max_bins": 64,
    }  # fmt: skip
    said = left_out(table.x, table.y, table.weight, table.group, settings, 12)[0][:, 1] > LIMIT_WITH_SIGNAL
    recorded = np.char.startswith(table.group, "mitdb")
    card = {
        "what": "atrial fibrillation in a window of 30 beats of a signal",
        "trained_on": "MIT-BIH Arrhythmia Database (our own beats; both leads, and the first alone) and the first "
        "window of PhysioNet/CinC Challenge 2017 strips; windows with atrial flutter left out",
        "records": sorted(set(table.group[recorded].tolist())),
        "limit": LIMIT_WITH_SIGNAL,
        "left_out": {
            "how": "12 groups of records and strips, each judged by a model that did not see it",
            "mitdb": _rhythm_score(table, said, recorded),
            "strips": _rhythm_score(table, said, ~recorded),
        },
        "not_for": "flutter with regular conduction; a heart that is paced",
    }
    return fit(table.x, table.y, table.weight, fibrillation.SIGNAL_NAMES, settings, card)


def train_strips(data: Path) -> dict[str, Any]:
    """Hand-held strips of CinC 2017, weighted towards the natural shares of the labels."""
    given = databases.read_strips(data / "cinc2017")
    x = np.stack([strips.strip_features(strip.signal, strip.fs) for strip in given])
    y = np.array([strip.label for strip in given])
    weight = natural_weights(y) ** 0.7
    settings = {
        "max_iter": 100, "learning_rate": 0.06, "min_samples_leaf": 10, "l2_regularization": 5.0, "max_features": 0.3,
    }  # fmt: skip
    decision, noise_limit = {"N": 1.0, "A": 1.0, "O": 1.6, "~": 0.8}, 0.15
    group = np.array([f"{k % 5}" for k in np.random.default_rng(SEED).permutation(len(y))])
    shares, _ = left_out(x, y, weight, group, settings, 5)
    scores = strip_scores(y, strips.decide(shares, np.unique(y).tolist(), decision, noise_limit))
    card = {
        "what": "label of a hand-held strip: N, A, O or ~",
        "trained_on": f"PhysioNet/CinC Challenge 2017, {len(y)} strips",
        "decision_weights": decision,
        "noise_limit": noise_limit,
        "left_out": {"how": "five parts of the strips, each judged by a model that did not see it"}
        | {name: scores[name] for name in ("f1_mean", "n", "a", "o", "noise", "noise_called_af")},
        "not_for": "strips shorter than 9 s or longer than a minute; leads other than a hand-held I",
    }
    return fit(x, y, weight, strips.NAMES, settings, card)


TRAINERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "beat-classes": train_classes,
    "fibrillation": train_fibrillation,
    "fibrillation-signal": train_fibrillation_signal,
    "strips": train_strips,
}


def main(arguments: Sequence[str]) -> None:
    """Train the named models, or all."""
    if not arguments or any(name not in TRAINERS for name in arguments[1:]):
        raise SystemExit(f"usage: python -m vitalgate.scoring.train DATA [{'|'.join(TRAINERS)}]...")
    for name in arguments[1:] or TRAINERS:
        document = TRAINERS[name](Path(arguments[0]))
        MODELS.mkdir(exist_ok=True)
        (MODELS / f"{name}.json").write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
        model.cache_clear()
        sys.stdout.write(f"{name}: {json.dumps(document['card'].get('left_out'))}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
