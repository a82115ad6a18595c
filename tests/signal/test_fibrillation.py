"""Windows of 30 beats: irregular or not, with ectopy or without, with P waves or without."""

from __future__ import annotations

import numpy as np
import pytest

from vitalgate.signal.atrial import NAMES, atrial_features
from vitalgate.signal.fibrillation import (
    CONTEXT_BEATS,
    CONTEXT_S,
    INTERVAL_NAMES,
    SIGNAL_NAMES,
    even_out,
    fibrillation,
    fibrillation_of_beats,
    windows_from,
)
from vitalgate.signal.forms import POINTS, SHAPE, span
from vitalgate.signal.irregularity import NAMES as IRREGULARITY
from vitalgate.signal.irregularity import irregularity, windows_of
from vitalgate.signal.trees import model

FS = 250.0


def beats_of(rr: np.ndarray) -> np.ndarray:
    return np.round(np.cumsum(np.concatenate([[1.0], rr])) * FS).astype(np.int64)


def irregular(count: int, seed: int = 0) -> np.ndarray:
    return 0.7 * np.exp(0.22 * np.random.default_rng(seed).standard_normal(count))


def steady(count: int, seed: int = 0) -> np.ndarray:
    noise = 0.008 * np.random.default_rng(seed).standard_normal(count)
    return np.asarray(0.8 + 0.03 * np.sin(np.arange(count) * 0.4) + noise)


def test_irregular_windows_are_fibrillation_and_regular_ones_are_not() -> None:
    assert fibrillation(beats_of(irregular(1500)), FS).positive.mean() > 0.95
    assert fibrillation(beats_of(steady(1500)), FS).positive.mean() == 0
    assert fibrillation([], FS).probability.shape == (0,)
    assert (
        windows_from(30).tolist() == []
        and windows_from(31).tolist() == [0]
        and windows_from(92).tolist() == [0, 30, 60]
    )
    with pytest.raises(ValueError, match="each needs 31 beats"):
        fibrillation(beats_of(steady(40)), FS, [11])
    with pytest.raises(ValueError, match="without kinds"):
        fibrillation(beats_of(steady(40)), FS, forms=np.zeros((41, POINTS), np.int16))


def test_a_window_depends_on_its_neighbours_and_no_further() -> None:
    beats = beats_of(np.concatenate([steady(200), irregular(200), steady(200)]))
    starts = np.arange(100, 400, 7)
    whole = fibrillation(beats, FS, starts).probability
    for start, expected in zip(starts, whole, strict=True):
        low, high = start - CONTEXT_BEATS, start + 30 + CONTEXT_BEATS + 1
        assert fibrillation(beats[low:high], FS, [start - low]).probability[0] == expected
        # And beats of others, far enough away, change nothing; nor does the time of day.
        apart = beats[low:high] - beats[low] + int(1e9)
        others = np.concatenate([apart[:40] - int(3 * CONTEXT_S * FS) - (apart[39] - apart[0]), apart])
        assert fibrillation(others, FS, [start - low + 40]).probability[0] == expected


def test_ventricular_ectopy_is_no_fibrillation() -> None:
    rng = np.random.default_rng(3)
    rr, odd = steady(600), np.zeros(601, bool)
    for k in np.flatnonzero(rng.random(598) < 0.2):
        if not odd[k : k + 3].any():
            # The beat after interval k comes early, and what follows makes up for it.
            early = 0.3 * rng.random()
            rr[k], rr[k + 1], odd[k + 1] = rr[k] - early, rr[k + 1] + early, True
    beats = beats_of(rr)
    kinds = np.where(odd, "V", "N")
    assert fibrillation(beats, FS, kinds=kinds).probability.mean() < 0.5 * fibrillation(beats, FS).probability.mean()


def test_ectopic_beats_are_evened_out() -> None:
    beats = np.array([0, 200, 325, 600, 800, 1000])
    assert even_out(beats, FS, [0, 0, 1, 0, 0, 0]).tolist() == [0.8, 0.8, 0.8, 0.8, 0.8]
    assert np.allclose(even_out(beats, FS, [0, 0, 1, 1, 0, 0]), [0.8, 0.8, 0.8, 0.8, 0.8])
    # With no regular beat on one side, or too many in a row, or too long, they stay.
    for odd in ([1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 1, 1, 1, 1, 0]):
        assert even_out(beats, FS, odd).tolist() == (np.diff(beats) / FS).tolist()
    assert even_out(10 * beats, FS, [0, 0, 1, 0, 0, 0]).tolist() == (10 * np.diff(beats) / FS).tolist()
    assert even_out([], FS, []).tolist() == []


def test_irregularity_is_of_one_window_alone() -> None:
    rr = irregular(600, 1).reshape(20, 30)
    assert irregularity(rr).shape == (20, len(IRREGULARITY))
    assert np.array_equal(irregularity(rr)[7], irregularity(rr[7:8])[0])
    # All but the mean interval is relative.
    assert np.allclose(irregularity(rr)[:, 1:], irregularity(1.25 * rr)[:, 1:])
    assert windows_of(np.arange(65.0), 30).shape == (2, 30)
    with pytest.raises(ValueError, match="m >= 5"):
        irregularity(np.ones((2, 3)))


def test_p_waves_are_told_from_waves_that_differ() -> None:
    rng = np.random.default_rng(0)
    at = np.arange(SHAPE) / 120 - 0.36
    complexes = 1000 * np.exp(-0.5 * (at / 0.012) ** 2)
    p_wave = 120 * np.exp(-0.5 * ((at + 0.16) / 0.02) ** 2)
    waves = 80 * np.sin(2 * np.pi * (6 * at + rng.random((60, 1))))
    noise = 8 * rng.standard_normal((60, SHAPE))
    within = np.arange(60).reshape(2, 30)
    regular = np.ones(60, bool)

    def seen(shapes: np.ndarray) -> dict[str, np.ndarray]:
        forms = np.zeros((60, POINTS), np.int16)
        forms[:, :SHAPE] = shapes
        table = atrial_features(forms, regular, within)
        # Another lead with nothing in it does not hide what the first shows.
        both = atrial_features(np.stack([forms, np.zeros_like(forms)]), regular, within)
        assert np.array_equal(both[:, 0], table[:, 0])
        return dict(zip(NAMES, table.T, strict=True))

    sinus, fibrillating = seen(complexes + p_wave + noise), seen(complexes + waves + noise)
    assert (sinus["p_together"] > 0.8).all() and (fibrillating["p_together"] < 0.3).all()
    assert (sinus["p_like"] > fibrillating["p_like"]).all() and (fibrillating["p_rest"] > 3 * sinus["p_rest"]).all()
    assert np.allclose(sinus["p_place"] - 0.26, -0.16, atol=0.02)
    assert span(0, 0) == slice(43, 44)
    assert not atrial_features(np.zeros((60, POINTS), np.int16), np.zeros(60, bool), within).any()
    assert atrial_features(np.zeros((0, POINTS), np.int16), np.zeros(0, bool), within[:0]).shape == (0, len(NAMES))


def test_models_have_the_features_that_are_made() -> None:
    assert model("fibrillation").features == INTERVAL_NAMES
    assert model("fibrillation-signal").features == SIGNAL_NAMES
    x = np.random.default_rng(0).standard_normal((2, 60 * 250))
    assert fibrillation_of_beats(x, FS, np.arange(100, 14_900, 200)).probability.shape == (2,)
