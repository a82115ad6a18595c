"""Classes, irregularity, strips and the trees behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitalgate.signal import classes
from vitalgate.signal.beats import find_beats
from vitalgate.signal.classes import classify_beats, features
from vitalgate.signal.fibrillation import even_out, fibrillation
from vitalgate.signal.forms import NAMES, cut_forms, describe
from vitalgate.signal.irregularity import NAMES as IRREGULARITY
from vitalgate.signal.irregularity import irregularity, windows_of
from vitalgate.signal.strips import NAMES as STRIP
from vitalgate.signal.strips import classify_strip, strip_features
from vitalgate.signal.trees import from_document, model

Make = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.mark.parametrize("name", ["beat-classes", "fibrillation", "strips"])
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
    rows = [[0, 0], [0, 5], [2, 0], [2, 5], [np.nan, 0]]
    assert trees.scores(rows)[:, 1].tolist() == [1.5, 2.5, 3.5, 4.5, 1.5]
    assert np.array_equal(trees.scores(rows * 3000)[::5], np.repeat(trees.scores(rows[:1]), 3000, axis=0))


def test_features_of_a_beat_depend_on_a_bounded_stretch(make_ecg: Make) -> None:
    fs = 250.0
    ecg, _ = make_ecg(180, fs, 75, 4, 0.05)
    beats = find_beats(ecg, fs)[0]
    whole = features(ecg, fs, beats)
    start, stop = int(80 * fs), int(100 * fs)
    low = start - int((classes.BEFORE_S - classes.BEATS_BEFORE_S) * fs)
    high = stop + int((classes.AFTER_S - classes.BEATS_AFTER_S) * fs)
    some = beats[(beats >= low) & (beats < high)]
    part = features(ecg[low:high], fs, some, low)
    wanted, chosen = (some >= start) & (some < stop), (beats >= start) & (beats < stop)
    assert np.array_equal(part[wanted], whole[chosen])
    both = np.stack([ecg, -ecg])
    assert np.array_equal(
        classify_beats(both[:, low:high], fs, some, low).shares[wanted], classify_beats(both, fs, beats).shares[chosen]
    )


def test_forms_do_not_mind_gain_or_rate(make_ecg: Make) -> None:
    names = list(NAMES)
    ecg, truth = make_ecg(60, 250.0, 70, 2)
    table = describe(cut_forms(ecg, 250.0, truth), truth, 250.0)
    assert np.allclose(
        table, describe(cut_forms(3 * ecg, 250.0, truth), truth, 250.0), rtol=1e-3, atol=1e-3, equal_nan=True
    )
    finer, at = make_ecg(60, 500.0, 70, 2)
    other = describe(cut_forms(finer, 500.0, at), at, 500.0)
    k = names.index("qrs_like")
    assert np.nanmedian(table[:, k]) > 0.95 and np.nanmedian(other[:, k]) > 0.95
    assert describe(np.zeros((0, 87)), [], 250.0).shape == (0, len(NAMES))
    assert cut_forms(np.empty(0), 250.0, [5]).shape[0] == 1


def test_a_wide_early_beat_is_ventricular(make_ecg: Make) -> None:
    fs = 250.0
    rr = np.full(60, 0.85)
    rr[20:50:10], rr[21:51:10] = 0.5, 1.2
    at = 1 + np.cumsum(rr)
    odd = np.zeros(60, bool)
    odd[20:50:10] = True
    t = np.arange(int((at[-1] + 1) * fs)) / fs
    x = 0.01 * np.random.default_rng(0).standard_normal(len(t))
    for beat, v in zip(at, odd, strict=True):
        shape = ((0, 1.9, 0.045), (0.28, -0.6, 0.06)) if v else ((-0.16, 0.12, 0.02), (0, 1, 0.011), (0.26, 0.3, 0.05))
        for delay, height, width in shape:
            x += height * np.exp(-0.5 * ((t - beat - delay) / width) ** 2)
    kinds = classify_beats(x, fs, np.round(at * fs).astype(int)).kinds
    assert (kinds[odd] == "V").all() and (kinds[~odd] == "V").sum() == 0


def test_irregular_windows_are_fibrillation_and_regular_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    irregular = 0.7 * np.exp(0.22 * rng.standard_normal((50, 30)))
    steady = 0.8 + 0.03 * np.sin(np.arange(30) * 0.4) + 0.008 * rng.standard_normal((50, 30))
    assert fibrillation(irregular).positive.mean() > 0.95
    assert fibrillation(steady).positive.mean() == 0
    assert fibrillation(np.empty((0, 30))).probability.shape == (0,)
    with pytest.raises(ValueError, match="30"):
        fibrillation(np.ones((2, 29)))


def test_irregularity_is_of_one_window_alone() -> None:
    rr = 0.8 * np.exp(0.2 * np.random.default_rng(1).standard_normal((20, 30)))
    assert irregularity(rr).shape == (20, len(IRREGULARITY))
    assert np.array_equal(irregularity(rr)[7], irregularity(rr[7:8])[0])
    # All but the mean interval is relative.
    assert np.allclose(irregularity(rr)[:, 1:], irregularity(1.25 * rr)[:, 1:])
    assert windows_of(np.arange(65.0), 30).shape == (2, 30)
    with pytest.raises(ValueError, match="m >= 5"):
        irregularity(np.ones((2, 3)))


def test_single_ventricular_beats_are_evened_out() -> None:
    rr = [0.8, 0.5, 1.1, 0.8, 0.8]
    assert even_out(rr, [0, 0, 1, 0, 0, 0]).tolist() == [0.8, 0.8, 0.8, 0.8, 0.8]
    assert even_out(rr, [0, 0, 1, 1, 0, 0]).tolist() == rr
    assert even_out([], []).tolist() == []


@pytest.mark.parametrize("x", [np.zeros(9000), np.full(9000, np.nan), np.zeros(3), np.empty(0)])
def test_strips_with_nothing_in_them(x: np.ndarray) -> None:
    assert strip_features(x, 300).shape == (len(STRIP),)
    assert set(classify_strip(x, 300).shares) == {"N", "A", "O", "~"}


def test_strips_of_regular_and_of_irregular_rhythm(make_ecg: Make, data: Path) -> None:
    assert classify_strip(make_ecg(30, 300, 70, 1)[0], 300).label == "N"
    read = pytest.importorskip("wfdb").rdrecord
    if not (data / "cinc2017" / "A00004.hea").is_file():
        pytest.skip("no CinC 2017 strips")
    assert classify_strip(read(str(data / "cinc2017" / "A00004")).p_signal[:, 0], 300).label == "A"
