"""Counting of classes, windows and strips, and what a trained document looks like."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vitalgate.cli.score import command
from vitalgate.scoring.classes import count
from vitalgate.scoring.databases import Rhythm
from vitalgate.scoring.examples import FoundBeats, windows
from vitalgate.scoring.fitting import fit, left_out
from vitalgate.scoring.strips import natural_weights, strip_scores
from vitalgate.signal.scoring import match_beats
from vitalgate.signal.trees import from_document


def test_classes_are_counted_as_ec57_says() -> None:
    kinds = np.array(list("NVVSFQONX"))
    found = FoundBeats(np.arange(9), kinds, ("V", "N"), match_beats([], [], 250))
    said = np.array(list("VVNVVVVNV"))
    # Found V: one; missed V: one called N and one not found; false: N, S and O called V, but not F and Q.
    assert count(found, said, "V").tolist() == [1, 2, 3]


def test_windows_are_of_thirty_beats_and_flutter_is_told() -> None:
    beats = np.arange(0, 100 * 200, 200)
    rhythms = (Rhythm(0, 3000, "N"), Rhythm(3000, 13_000, "AFIB"), Rhythm(13_000, 99_999, "AFL"))
    cut = windows(beats, 250.0, rhythms)
    assert cut.rr.shape == (3, 30) and np.allclose(cut.rr, 0.8)
    assert cut.af.tolist() == [True, True, False] and cut.flutter.tolist() == [False, False, True]
    assert cut.start.tolist() == [0, 6000, 12_000] and cut.stop.tolist() == [6000, 12_000, 18_000]
    assert windows(beats[:10], 250.0, rhythms).rr.shape == (0, 30)


def test_strips_count_at_natural_shares() -> None:
    labels = np.array(list("NNAAO~"))
    assert natural_weights(labels).sum() == pytest.approx(6)
    assert natural_weights(labels)[0] / natural_weights(labels)[2] == pytest.approx(5076 / 758)
    scores = strip_scores(labels, labels)
    assert scores["f1_mean"] == 100 and scores["noise_called_af"] == 0
    assert strip_scores(labels, np.array(list("NNAAOA")))["noise_called_af"] == 100


@pytest.mark.parametrize("rounding", [1, 12])
def test_a_trained_document_answers_like_the_model(rounding: int) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(0)
    # Rounded values repeat, and thresholds then lie on them or half-way between.
    x = np.round(rng.standard_normal((600, 3)), rounding)
    y = np.where(x[:, 0] + x[:, 1] > 0.5, "b", np.where(x[:, 2] > 1, "c", "a"))
    settings = {"max_iter": 10, "min_samples_leaf": 10}
    ours = from_document(json.loads(json.dumps(fit(x, y, np.ones(600), ["p", "q", "r"], settings, {}))))
    with pytest.importorskip("threadpoolctl").threadpool_limits(1):
        theirs = ensemble.HistGradientBoostingClassifier(max_depth=3, random_state=0, **settings).fit(x, y)
    for rows in (x, np.round(rng.standard_normal((600, 3)), rounding), ours.threshold.reshape(-1, 7)[:, :3]):
        assert np.abs(ours.shares(rows) - theirs.predict_proba(rows)).max() < 1e-12


def test_groups_are_left_out_whole() -> None:
    pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(0)
    group = np.repeat(np.array(list("abcd")), 100)
    x = rng.standard_normal((400, 2))
    y = (x[:, 0] > 0).astype(np.int64)
    # In one group everything is the other way round: only a model that did not see it can be so wrong.
    y[group == "b"] ^= 1
    shares, models = left_out(x, y, np.ones(400), group, {"max_iter": 20, "min_samples_leaf": 5}, 4)
    right = (shares[:, 1] > 0.5) == y
    assert right[group == "b"].mean() < 0.2 and right[group != "b"].mean() > 0.8
    assert np.array_equal(models["b"].shares(x[group == "b"]), shares[group == "b"])


def test_the_command_scores_rhythm_of_an_interval_database(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rr = np.concatenate([0.8 + 0.01 * rng.standard_normal(300), 0.7 * np.exp(0.22 * rng.standard_normal(300))])
    at = np.round(np.cumsum(rr) * 250).astype(int)
    lines = [f"{k}\t{a:.3f}\t{b}" for k, (a, b) in enumerate(zip(rr, at, strict=True))]
    (tmp_path / "qrs00001.txt").write_text("\n".join(lines))
    notes = ["Elapsed time Sample # Type Sub Chan Num Aux", " 0:00 1 + 0 0 0 (N", f" 0:01 {at[299]} + 0 0 0 (AFIB"]
    (tmp_path / "atr00001.txt").write_text("\n".join(notes))
    result = CliRunner().invoke(command, [str(tmp_path), "--json"], catch_exceptions=False)
    af = json.loads(result.output)["af"]
    assert af["windows"] == 19 and af["se"] >= 90 and af["sp"] == 100 and af["withheld"] == 0
