"""Fit boosted trees and put them into a document that ``signal.trees`` reads; judge by models that saw nothing of it.

Needs scikit-learn, at training time only. Everything is seeded and done by one thread: the same sums in the same order.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal.trees import LEAVES, QUESTIONS, Boosted, from_document

SEED = 0
MODELS = Path(__file__).resolve().parent.parent / "signal" / "models"
Floats = NDArray[np.float64]
_APART_MOST = 1e-9


def fit(
    x: Floats, y: NDArray[Any], weight: Floats, names: Sequence[str], settings: dict[str, Any], card: dict[str, Any]
) -> dict[str, Any]:
    """Fit boosted trees of depth three and put them into a document that ``trees`` reads.

    Raises
    ------
    ArithmeticError
        If the document does not answer as the fitted model does on every training row.
    """
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
    document = {
        "features": list(names),
        "classes": [str(name) for name in fitted.classes_],
        "base": [float(b) for b in base],
        "feature": feature,
        "threshold": threshold,
        "value": value,
        "card": card | {"settings": {"max_depth": 3, "seed": SEED} | settings},
    }

    # What ships must answer as what was fitted, on rows that lie on thresholds too: all of them did in training.
    apart = float(np.abs(from_document(document).shares(x) - fitted.predict_proba(x)).max())
    if apart > _APART_MOST:
        raise ArithmeticError(
            f"the document's answers are up to {apart:g} from the fitted model's, more than {_APART_MOST:g}"
        )
    return document


def _complete(nodes: Any) -> tuple[list[int], list[float], list[float]]:
    """One tree with every question and leaf in its place."""
    feature, threshold, value = [0] * QUESTIONS, [0.0] * QUESTIONS, [0.0] * LEAVES

    def place(node: int, at: int) -> None:
        leaf = bool(nodes[node]["is_leaf"])
        if at >= QUESTIONS:
            value[at - QUESTIONS] = float(nodes[node]["value"])
            return
        if not leaf:
            feature[at] = int(nodes[node]["feature_idx"])
            # To the last bit: a training row may lie exactly on it.
            threshold[at] = float(nodes[node]["num_threshold"])
        place(node if leaf else int(nodes[node]["left"]), 2 * at + 1)
        place(node if leaf else int(nodes[node]["right"]), 2 * at + 2)

    place(0, 0)
    return feature, threshold, value


def left_out(
    x: Floats, y: NDArray[Any], weight: Floats, group: NDArray[np.str_], settings: dict[str, Any], parts: int
) -> tuple[Floats, dict[str, Boosted]]:
    """Probabilities of each row from a model that saw nothing of its group, (n, n_classes), and that model by group."""
    out = np.zeros((len(y), len(np.unique(y))))
    groups = np.unique(group)
    order = np.random.default_rng(SEED).permutation(len(groups))
    models: dict[str, Boosted] = {}
    for part in range(parts):
        names = groups[order[part::parts]]
        held = np.isin(group, names)
        fitted: Boosted = from_document(fit(x[~held], y[~held], weight[~held], [""] * x.shape[1], settings, {}))
        out[held] = fitted.shares(x[held])
        models |= {str(name): fitted for name in names}
    return out, models
