"""Train the models that ship as data: ``python -m vitalgate.scoring.train DATA [MODEL...]``.

DATA holds the folders mitdb, afdb and cinc2017. Needs scikit-learn, at training time only. Everything is seeded; each
model is written with its card: what it was trained on, how, and what records left out gave.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.scoring import databases
from vitalgate.scoring.databases import PACED
from vitalgate.scoring.examples import found_beats, recordings, windows
from vitalgate.scoring.strips import natural_weights, strip_scores
from vitalgate.signal import classes, irregularity, strips
from vitalgate.signal.trees import LEAVES, QUESTIONS, Boosted, from_document

SEED = 0
MODELS = Path(__file__).resolve().parent.parent / "signal" / "models"
Floats = NDArray[np.float64]

#: de Chazal's training set; the test set is never looked at here.
DS1 = (
    "101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122", "124", "201", "203", "205", "207",
    "208", "209", "215", "220", "223", "230",
)  # fmt: skip


def fit(
    x: Floats, y: NDArray[Any], weight: Floats, names: Sequence[str], settings: dict[str, Any], card: dict[str, Any]
) -> dict[str, Any]:
    """Fit boosted trees of depth three and put them into a document that ``trees`` reads."""
    ensemble = importlib.import_module("sklearn.ensemble")
    fitted = ensemble.HistGradientBoostingClassifier(max_depth=3, random_state=SEED, **settings)
    # One thread: the same sums in the same order every time, and no waiting for a core that others use.
    with importlib.import_module("threadpoolctl").threadpool_limits(1):
        fitted.fit(x, y, sample_weight=weight)
    base = np.ravel(fitted._baseline_prediction)
    feature, threshold, value = [], [], []
    for score in range(len(base)):
        parts = [_complete(trees[score].nodes) for trees in fitted._predictors]
        feature.append([part[0] for part in parts])
        threshold.append([part[1] for part in parts])
        value.append([part[2] for part in parts])
    return {
        "features": list(names),
        "classes": [str(name) for name in fitted.classes_],
        "base": [round(float(b), 6) for b in base],
        "feature": feature,
        "threshold": threshold,
        "value": value,
        "card": card | {"settings": {"max_depth": 3, "seed": SEED} | settings},
    }


def _complete(nodes: Any) -> tuple[list[int], list[float], list[float]]:
    """One tree with every question and leaf in its place."""
    feature, threshold, value = [0] * QUESTIONS, [0.0] * QUESTIONS, [0.0] * LEAVES

    def place(node: int, at: int) -> None:
        leaf = bool(nodes[node]["is_leaf"])
        if at >= QUESTIONS:
            value[at - QUESTIONS] = round(float(nodes[node]["value"]), 6)
            return
        if not leaf:
            feature[at] = int(nodes[node]["feature_idx"])
            threshold[at] = float(np.float32(nodes[node]["num_threshold"]))
        place(node if leaf else int(nodes[node]["left"]), 2 * at + 1)
        place(node if leaf else int(nodes[node]["right"]), 2 * at + 2)

    place(0, 0)
    return feature, threshold, value


def left_out(
    x: Floats, y: NDArray[Any], weight: Floats, group: NDArray[np.str_], settings: dict[str, Any], parts: int
) -> Floats:
    """Probabilities of each row from a model that saw nothing of its group, (n, n_classes)."""
    out = np.zeros((len(y), len(np.unique(y))))
    groups = np.unique(group)
    order = np.random.default_rng(SEED).permutation(len(groups))
    for part in range(parts):
        held = np.isin(group, groups[order[part::parts]])
        model: Boosted = from_document(fit(x[~held], y[~held], weight[~held], [""] * x.shape[1], settings, {}))
        out[held] = model.shares(x[held])
    return out


def train_classes(data: Path) -> dict[str, Any]:
    """Beat classes on DS1, our own beats of both leads."""
    rng = np.random.default_rng(SEED)
    tables, labels, groups = [], [], []
    for recording in recordings(data / "mitdb"):
        if recording.name not in DS1 or recording.name in PACED:
            continue
        found = found_beats(recording)
        for lead in range(len(recording.leads)):
            use = np.isin(found.classes, ["N", "S", "V", "F"])
            tables.append(classes.features(recording.signals[lead], recording.fs, found.beats)[use])
            labels.append(found.classes[use])
            groups += [recording.name] * int(use.sum())
    x, y, group = np.concatenate(tables), np.concatenate(labels), np.array(groups)
    # A quarter of the normal beats is plenty.
    few = (y != "N") | (rng.random(len(y)) < 0.25)
    weight = np.where(y == "N", 4.0, 1.0)
    for name in np.unique(group):
        for kind in np.unique(y):
            part = few & (group == name) & (y == kind)
            total = weight[part].sum()
            if total > 50:
                weight[part] *= (total / 50) ** -0.5
    settings = {"max_iter": 70, "learning_rate": 0.1, "min_samples_leaf": 100, "l2_regularization": 10.0}
    card = {
        "what": "class of a beat (AAMI F, N, S, V) from its form and rhythm beside the beats round it",
        "trained_on": "MIT-BIH Arrhythmia Database, DS1 without paced records, our own beats, each lead by itself",
        "records": sorted(set(group.tolist())),
        "not_for": "paced rhythm (Q); leads and people unlike those of the database",
        "decision_weights": {"F": 0.5, "N": 1.0, "S": 0.7, "V": 0.6},
    }
    shares = left_out(x[few], y[few], weight[few], group[few], settings, 11)
    weights = np.array([card["decision_weights"][name] for name in np.unique(y)])  # type: ignore[index]
    said = np.unique(y)[(shares * weights).argmax(axis=1)]
    card["left_out"] = {
        "how": "8 groups of records, each judged by a model that did not see it; each lead by itself"
    } | {kind: _class_score(y[few], said, np.where(y[few] == "N", 4.0, 1.0), kind) for kind in ("V", "S")}
    return fit(x[few], y[few], weight[few], classes.NAMES, settings, card)


def _class_score(y: NDArray[Any], said: NDArray[Any], counts: Floats, kind: str) -> dict[str, float]:
    tp = counts[(y == kind) & (said == kind)].sum()
    fp = counts[np.isin(y, ["N", "S"] if kind == "V" else ["N", "V", "F"]) & (said == kind)].sum()
    return {"se": round(100 * tp / counts[y == kind].sum(), 2), "ppv": round(100 * tp / max(tp + fp, 1), 2)}


def train_fibrillation(data: Path) -> dict[str, Any]:
    """Atrial fibrillation in windows of 30 reference intervals of AFDB, and of our own beats of MIT-BIH."""
    tables, labels, groups, weights = [], [], [], []

    def take(name: str, rr: Floats, af: NDArray[np.bool_], weight: float) -> None:
        tables.append(irregularity.irregularity(rr))
        labels.append(af)
        groups.extend([name] * len(rr))
        weights.extend([weight] * len(rr))

    for name in databases.names(data / "afdb"):
        read = databases.read_intervals(data / "afdb", name)
        cut = windows(read.beats, read.fs, read.rhythms)
        take(name, cut.rr[~cut.flutter], cut.af[~cut.flutter], 1000 / max(1, int((~cut.flutter).sum())))
    for recording in recordings(data / "mitdb"):
        cut = windows(found_beats(recording).beats, recording.fs, recording.rhythms)
        take("mitdb " + recording.name, cut.rr[~cut.flutter], cut.af[~cut.flutter], 1.5)
    x, y, group = np.concatenate(tables), np.concatenate(labels), np.array(groups)
    weight = np.array(weights)
    settings = {"max_iter": 120, "learning_rate": 0.06, "min_samples_leaf": 40, "l2_regularization": 5.0}
    said = left_out(x, y, weight, group, settings, 12)[:, 1] > 0.3
    scores = {}
    for label, part in (("afdb", ~np.char.startswith(group, "mitdb")), ("mitdb", np.char.startswith(group, "mitdb"))):
        scores[label] = {
            "se": round(100 * float((said & y & part).sum() / max(1, (y & part).sum())), 2),
            "sp": round(100 * float((~said & ~y & part).sum() / max(1, (~y & part).sum())), 2),
        }
    card = {
        "what": "atrial fibrillation in a window of 30 RR intervals",
        "trained_on": "MIT-BIH Atrial Fibrillation Database (reference beats) and Arrhythmia Database (our own beats); "
        "windows with atrial flutter left out",
        "records": sorted(set(groups)),
        "left_out": {"how": "12 groups of records, each judged by a model that did not see it", **scores},
        "not_for": "flutter with regular conduction; a heart that is paced",
    }
    return fit(x, y.astype(int), weight, irregularity.NAMES, settings, card)


def train_strips(data: Path) -> dict[str, Any]:
    """Hand-held strips of CinC 2017, weighted towards the natural shares of the labels."""
    given = databases.read_strips(data / "cinc2017")
    x = np.stack([strips.strip_features(strip.signal, strip.fs) for strip in given])
    y = np.array([strip.label for strip in given])
    weight = natural_weights(y) ** 0.7
    settings = {
        "max_iter": 100, "learning_rate": 0.06, "min_samples_leaf": 10, "l2_regularization": 5.0, "max_features": 0.3,
    }  # fmt: skip
    decision = {"N": 1.0, "A": 0.9, "O": 1.4, "~": 0.8}
    group = np.array([f"{k % 5}" for k in np.random.default_rng(SEED).permutation(len(y))])
    shares = left_out(x, y, weight, group, settings, 5)
    order = np.unique(y)
    said = order[(shares * np.array([decision[name] for name in order])).argmax(axis=1)]
    scores = strip_scores(y, said)
    card = {
        "what": "label of a hand-held strip: N, A, O or ~",
        "trained_on": f"PhysioNet/CinC Challenge 2017, {len(y)} strips",
        "decision_weights": decision,
        "left_out": {"how": "five parts of the strips, each judged by a model that did not see it"}
        | {name: scores[name] for name in ("f1_mean", "n", "a", "o", "noise", "noise_called_af")},
        "not_for": "strips shorter than 9 s or longer than a minute; leads other than a hand-held I",
    }
    return fit(x, y, weight, strips.NAMES, settings, card)


TRAINERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "beat-classes": train_classes,
    "fibrillation": train_fibrillation,
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
        sys.stdout.write(f"{name}: {json.dumps(document['card'].get('left_out'))}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
