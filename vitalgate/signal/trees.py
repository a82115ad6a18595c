"""Boosted trees of depth three as plain arrays: evaluated with NumPy alone, read from JSON, never from a pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Every tree is complete: seven questions, eight leaves. A shallower one repeats its leaves.
QUESTIONS, LEAVES = 7, 8
#: Rows, and answers, worked on at once, so that they stay in the processor's cache.
_ROWS, _ANSWERS = 8192, 131_072


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
        to question 2q + 1, yes to 2q + 2. NaN answers no. Thresholds are kept to the last bit: a row may lie on one.
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
        parts = [self._scores(rows[k : k + _ROWS]) for k in range(0, len(rows), _ROWS)]
        return np.concatenate([np.empty((0, len(self.classes))), *parts])

    def _scores(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        steps, order, table = self._ranked
        # Each value as the number of its column's thresholds that it is over: all questions are of small whole numbers.
        rank = np.empty((len(self.features), len(rows)), np.uint16)
        columns = np.where(np.isnan(rows), -np.inf, rows).T
        for column, marks in enumerate(steps):
            if len(marks):
                rank[column] = np.searchsorted(marks, columns[column])
        trees = self.feature.shape[1]
        features = self.feature.reshape(-1, QUESTIONS)
        totals = np.repeat(self.base[:, np.newaxis], len(rows), axis=1)
        together = max(1, _ANSWERS // max(1, len(rows)))
        for first in range(0, len(features), together):
            part = slice(first, first + together)
            # The seven answers of a tree are the number of a row of its table, the first the most significant bit.
            answers = np.zeros((len(features[part]), len(rows)), np.uint8)
            for question in range(QUESTIONS):
                yes = (rank[features[part, question]] > order[part, question, np.newaxis]).view(np.uint8)
                yes <<= 7 - question
                answers |= yes
            # Added tree by tree: ``sum`` would choose an order by the shape of the array.
            for number, (tree, said) in enumerate(zip(table[part], answers, strict=True), first):
                totals[number // trees] += tree.take(said)
        # Row by row in memory: what is summed along rows later is summed in the same order.
        return np.ascontiguousarray((np.insert(totals, 0, 0, axis=0) if len(totals) == 1 else totals).T)

    @cached_property
    def _ranked(self) -> tuple[list[NDArray[np.float64]], NDArray[np.uint16], NDArray[np.float64]]:
        """Thresholds of each column in order; by tree the places of its questions, and what any answers add."""
        steps = [np.unique(self.threshold[self.feature == column]) for column in range(len(self.features))]
        order = np.zeros(self.threshold.shape, np.uint16)
        for column, marks in enumerate(steps):
            asked = self.feature == column
            order[asked] = np.searchsorted(marks, self.threshold[asked])
        # Bit 7 - q of a byte is the answer to question q.
        said = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1).astype(np.int64)
        at = np.zeros(256, np.int64)
        for _ in range(3):
            at = 2 * at + 1 + said[np.arange(256), at]
        return steps, order.reshape(-1, QUESTIONS), self.value.reshape(-1, LEAVES)[:, at - QUESTIONS]

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
