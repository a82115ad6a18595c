"""Boosted trees of depth three as plain arrays: evaluated with NumPy alone, read from JSON, never from a pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Every tree is complete: seven questions, eight leaves. A shallower one repeats its leaves.
QUESTIONS, LEAVES = 7, 8
_PIECE = 4096


@dataclass(frozen=True, eq=False)
class Boosted:
    """A model with one score a class.

    Attributes
    ----------
    features
        Names of the columns, in order.
    classes
        Names of the classes. With two there is one score, for the second; the first has 0.
    base
        (n_scores,) what every score begins with.
    feature, threshold
        (n_scores, n_trees, 7): question q of a tree is "is column ``feature`` greater than ``threshold``?"; no leads
        to question 2q + 1, yes to 2q + 2. NaN answers no.
    value
        (n_scores, n_trees, 8): what the leaf adds.
    card
        What it was trained on, how, and how well it does.
    """

    features: tuple[str, ...]
    classes: tuple[str, ...]
    base: NDArray[np.float64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]
    card: dict[str, Any]

    def scores(self, x: ArrayLike) -> NDArray[np.float64]:
        """Score of each row for each class, (n, n_classes); of rows (n, n_features). A row's does not depend on others.

        Raises
        ------
        ValueError
            If the number of columns is not that of the features.
        """
        rows = np.asarray(x, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.features):
            raise ValueError(f"features have shape {rows.shape}; give (n, {len(self.features)})")
        parts = [self._scores(rows[k : k + _PIECE]) for k in range(0, len(rows), _PIECE)]
        return np.concatenate([np.empty((0, len(self.classes))), *parts])

    def _scores(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = []
        tree = np.arange(self.feature.shape[1])
        for k in range(len(self.base)):
            at = np.zeros((len(rows), len(tree)), np.int64)
            for _ in range(3):
                value = np.take_along_axis(rows, self.feature[k][tree, at], axis=1)
                at = 2 * at + 1 + (value > self.threshold[k][tree, at])
            total = np.full(len(rows), self.base[k])
            # Added tree by tree: ``sum`` would choose an order by the shape of the array.
            for added in self.value[k][tree, at - QUESTIONS].T:
                total += added
            columns.append(total)
        if len(columns) == 1:
            columns.insert(0, np.zeros(len(rows)))
        return np.stack(columns, axis=1)

    def shares(self, x: ArrayLike) -> NDArray[np.float64]:
        """Probability of each class, (n, n_classes)."""
        scores = self.scores(x)
        power = np.exp(scores - scores.max(axis=1, keepdims=True)) if len(scores) else scores
        total = np.zeros(len(power))
        for column in power.T:
            total += column
        return power / total[:, np.newaxis]


def from_document(document: dict[str, Any]) -> Boosted:
    """The model that a JSON document describes."""
    return Boosted(
        features=tuple(document["features"]),
        classes=tuple(document["classes"]),
        base=np.asarray(document["base"], np.float64),
        feature=np.asarray(document["feature"], np.int64).reshape(len(document["base"]), -1, QUESTIONS),
        threshold=np.asarray(document["threshold"], np.float64).reshape(len(document["base"]), -1, QUESTIONS),
        value=np.asarray(document["value"], np.float64).reshape(len(document["base"]), -1, LEAVES),
        card=document["card"],
    )


@cache
def model(name: str) -> Boosted:
    """A model that comes with the package, such as ``beat-classes``."""
    text = (files("vitalgate.signal") / "models" / f"{name}.json").read_text(encoding="utf-8")
    return from_document(json.loads(text))
