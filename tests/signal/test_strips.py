"""Strips: a label for anything, the right one for the plain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitalgate.signal.strips import NAMES, classify_strip, decide, strip_features
from vitalgate.signal.trees import model

Make = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.mark.parametrize("x", [np.zeros(9000), np.full(9000, np.nan), np.zeros(3), np.empty(0)])
def test_strips_with_nothing_in_them(x: np.ndarray) -> None:
    assert model("strips").features == NAMES
    assert strip_features(x, 300).shape == (len(NAMES),)
    assert set(classify_strip(x, 300).shares) == {"N", "A", "O", "~"}


def test_strips_of_regular_and_of_irregular_rhythm(make_ecg: Make, data: Path) -> None:
    assert classify_strip(make_ecg(30, 300, 70, 1)[0], 300).label == "N"
    read = pytest.importorskip("wfdb").rdrecord
    if not (data / "cinc2017" / "A00004.hea").is_file():
        pytest.skip("no CinC 2017 strips")
    assert classify_strip(read(str(data / "cinc2017" / "A00004")).p_signal[:, 0], 300).label == "A"


def test_what_may_be_noise_is_not_called_fibrillation() -> None:
    names, weights = ["A", "N", "O", "~"], {"A": 1.0, "N": 1.0, "O": 2.0, "~": 1.0}
    shares = np.array([[0.6, 0.2, 0.1, 0.1], [0.6, 0.1, 0.1, 0.2], [0.1, 0.6, 0.1, 0.2], [0.3, 0.4, 0.25, 0.05]])
    assert decide(shares, names, weights, 0.15).tolist() == ["A", "~", "N", "O"]


@pytest.mark.parametrize("change", [lambda x: 1.8 * x, lambda x: x + 3.0])
def test_strips_do_not_mind_gain_and_offset(make_ecg: Make, change: Callable[[np.ndarray], np.ndarray]) -> None:
    x = make_ecg(30, 300, 70, 2, 0.02)[0]
    near = np.isclose(strip_features(change(x), 300), strip_features(x, 300), rtol=0.05, atol=0.05)
    assert near.mean() > 0.97
    assert classify_strip(change(x), 300).label == classify_strip(x, 300).label
