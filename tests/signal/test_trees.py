"""The trees behind the models, and what each model says of itself."""

from __future__ import annotations

import numpy as np
import pytest

from vitalgate.signal.trees import from_document, model


@pytest.mark.parametrize("name", ["beat-classes", "fibrillation", "fibrillation-signal", "strips"])
def test_each_model_says_what_it_was_made_from(name: str) -> None:
    trees = model(name)
    assert {"what", "trained_on", "left_out", "not_for", "settings"} <= trees.card.keys()
    shares = trees.shares(np.zeros((3, len(trees.features))))
    assert shares.shape == (3, len(trees.classes)) and np.allclose(shares.sum(axis=1), 1)
    with pytest.raises(ValueError, match="give"):
        trees.scores(np.zeros((3, 2)))


def test_trees_answer_their_questions() -> None:
    document = {
        "features": ["a", "b"], "classes": ["no", "yes"], "base": [0.5],
        "feature": [[[0, 1, 1, 0, 0, 0, 0]]], "threshold": [[[1.0, 2.0, 3.0, 9, 9, 9, 9]]],
        "value": [[[1, 1, 2, 2, 3, 3, 4, 4]]], "card": {},
    }  # fmt: skip
    trees = from_document(document)
    # A value on a threshold is not over it; NaN is over nothing, infinity over all.
    rows = [[0, 0], [0, 5], [2, 0], [2, 5], [np.nan, 0], [1, 2], [np.inf, 3], [np.inf, np.inf]]
    assert trees.scores(rows)[:, 1].tolist() == [1.5, 2.5, 3.5, 4.5, 1.5, 1.5, 3.5, 4.5]
    assert np.array_equal(trees.scores(rows * 3000)[::8], np.repeat(trees.scores(rows[:1]), 3000, axis=0))


@pytest.mark.parametrize("name", ["beat-classes", "strips"])
def test_trees_answer_as_a_walk_down_them_does(name: str) -> None:
    trees = model(name)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, len(trees.features)))
    # Every other value lies exactly on a threshold.
    for column in range(0, rows.shape[1], 2):
        marks = trees.threshold[trees.feature == column]
        rows[:, column] = rng.choice(marks, len(rows)) if len(marks) else 0
    expected = np.zeros((len(rows), len(trees.base)))
    for k in range(len(trees.base)):
        for r, row in enumerate(rows):
            total = trees.base[k]
            for feature, threshold, value in zip(trees.feature[k], trees.threshold[k], trees.value[k], strict=True):
                at = 0
                for _ in range(3):
                    at = 2 * at + 1 + int(row[feature[at]] > threshold[at])
                total += value[at - 7]
            expected[r, k] = total
    assert np.array_equal(trees.scores(rows), expected)
    assert np.array_equal(trees.scores(rows)[7], trees.scores(rows[7:8])[0])
