"""The EC57 matcher against WFDB's, and on cases that have one answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.signal.scoring import BeatScore, average, gross, match_beats

FS = 360.0


@pytest.mark.parametrize("seed", range(20))
def test_equals_wfdb(seed: int) -> None:
    processing = pytest.importorskip("wfdb.processing")
    rng = np.random.default_rng(seed)
    reference = np.cumsum(rng.integers(120, 400, 500))
    shifted = reference + rng.integers(-40, 41, 500)
    kept = shifted[rng.random(500) > 0.1]
    detected = np.unique(np.concatenate([kept, rng.integers(0, reference[-1], 60)]))
    ours = match_beats(reference, detected, FS)
    # WFDB's window is exclusive.
    theirs = processing.compare_annotations(reference, detected, int(0.15 * FS) + 1)
    assert (ours.tp, ours.fn, ours.fp) == (theirs.tp, theirs.fn, theirs.fp)


def test_a_pair_is_within_150_ms_inclusive() -> None:
    assert match_beats([1000], [1054], FS).tp == 1
    assert match_beats([1000], [1055], FS).score == BeatScore(0, 1, 1)
    assert match_beats([1000], [946], FS).tp == 1
    assert match_beats([1000], [1010], FS, window_s=0.02).tp == 0


def test_one_to_one_and_the_nearer_wins() -> None:
    match = match_beats([1000], [960, 990, 1030], FS)
    assert match.pairs.tolist() == [[0, 1]]
    assert match.false.tolist() == [0, 2]
    match = match_beats([960, 1005], [1000], FS)
    assert match.pairs.tolist() == [[1, 0]]
    assert match.missed.tolist() == [0]


def test_excluded_segments_count_on_neither_side() -> None:
    match = match_beats([100, 1000, 2000], [100, 1400, 2000], FS, exclude=[(900, 1500)])
    assert match.score == BeatScore(2, 0, 0)
    assert match.pairs.tolist() == [[0, 0], [2, 2]]


def test_shares_and_pooling() -> None:
    one, other = BeatScore(90, 10, 0), BeatScore(0, 0, 5)
    assert (one.se, one.ppv) == (0.9, 1.0)
    assert one.f1 == pytest.approx(180 / 190)
    assert math.isnan(other.se)
    assert gross([one, other]) == BeatScore(90, 10, 5)
    mean = average([one, other])
    assert (mean.se, mean.ppv, mean.records) == (0.9, 0.5, 2)
    assert math.isnan(average([]).f1)


def test_unsorted_beats_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        match_beats([5, 3], [1], FS)


increasing = st.lists(st.integers(0, 5000), max_size=60).map(lambda values: sorted(set(values)))


@given(increasing, increasing)
def test_every_beat_is_counted_once(reference: list[int], detected: list[int]) -> None:
    match = match_beats(reference, detected, FS)
    assert match.tp + match.fn == len(reference)
    assert match.tp + match.fp == len(detected)
    assert sorted([*match.pairs[:, 0], *match.missed]) == list(range(len(reference)))
    assert sorted([*match.pairs[:, 1], *match.false]) == list(range(len(detected)))
    apart = np.array(reference, int)[match.pairs[:, 0]] - np.array(detected, int)[match.pairs[:, 1]]
    assert np.all(np.abs(apart) <= 54)
    assert np.all(np.diff(match.pairs, axis=0) > 0)
