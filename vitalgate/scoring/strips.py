"""CinC 2017: strips called N, A, O or noise, at the database's natural shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.scoring import databases
from vitalgate.scoring.beats import percent
from vitalgate.signal.strips import classify_strip

#: Strips of each label among the 8528 of the whole training set, labels version 3.
NATURAL = {"N": 5076, "A": 758, "O": 2415, "~": 279}
LABELS = tuple(NATURAL)


def natural_weights(labels: NDArray[np.str_]) -> NDArray[np.float64]:
    """A weight for each strip, so that the labels have their natural shares; the mean is 1."""
    weight = np.zeros(len(labels))
    total = sum(NATURAL[label] for label in LABELS if np.any(labels == label))
    for label in LABELS:
        part = labels == label
        if part.any():
            weight[part] = NATURAL[label] / total * len(labels) / part.sum()
    return weight


def strip_scores(labels: NDArray[np.str_], said: NDArray[np.str_]) -> dict[str, Any]:
    """F1 of each label at natural shares, their mean over N, A and O, and the share of noise called A; percent."""
    weight = natural_weights(labels)
    f1 = {}
    for label in LABELS:
        both = weight[(labels == label) & (said == label)].sum()
        either = weight[labels == label].sum() + weight[said == label].sum()
        f1[label] = 2 * both / either if either else float("nan")
    noise = labels == "~"
    return {
        "f1_mean": percent(float(np.mean([f1[label] for label in "NAO"]))),
        "n": percent(f1["N"]), "a": percent(f1["A"]), "o": percent(f1["O"]), "noise": percent(f1["~"]),
        "noise_called_af": percent(float((said[noise] == "A").mean()) if noise.any() else float("nan")),
        "n_strips": len(labels),
        "confusion": {
            f"{label} called": {f"{other}": int(((labels == label) & (said == other)).sum()) for other in LABELS}
            for label in LABELS
        },
    }  # fmt: skip


def score_strips(folder: Path) -> dict[str, Any]:
    """The ``strips`` part of the document."""
    strips = databases.read_strips(folder)
    labels = np.array([strip.label for strip in strips])
    said = np.array([classify_strip(strip.signal, strip.fs).label for strip in strips])
    return strip_scores(labels, said)
