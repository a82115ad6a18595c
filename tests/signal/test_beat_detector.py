"""R peaks: on signals where the truth is known, under changes that must not matter, and on input that is none."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from vitalgate.signal.beats import find_beats
from vitalgate.signal.scoring import match_beats

Make = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("fs", [100, 125, 128, 180, 200, 250, 256, 257.3, 300, 360, 500, 512, 1000])
@pytest.mark.parametrize("rate", [35, 70, 160])
def test_finds_every_beat_at_any_rate(fs: float, rate: float, make_ecg: Make) -> None:
    ecg, truth = make_ecg(60, fs, rate)
    found = find_beats(ecg, fs)[0]
    assert np.array_equal(np.abs(found - truth) <= 0.02 * fs, np.ones(len(truth), bool))


def test_positions_hardly_change_when_resampled(make_ecg: Make) -> None:
    ecg, _ = make_ecg(60, 1000)
    fine = find_beats(ecg, 1000)[0] / 1000
    for step in (2, 4, 8):
        coarse = find_beats(ecg[::step], 1000 / step)[0] * step / 1000
        assert np.abs(coarse - fine).max() <= 0.5 * step / 1000 + 0.004


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 8.0])
def test_scale_does_not_matter(scale: float, make_ecg: Make) -> None:
    ecg, _ = make_ecg(60, 250)
    # Powers of two are exact in floating point, so the beats are the same to the sample.
    assert np.array_equal(find_beats(ecg * np.float32(scale), 250)[0], find_beats(ecg, 250)[0])


def test_offset_and_sign_do_not_matter(make_ecg: Make) -> None:
    ecg, _ = make_ecg(60, 250)
    plain = find_beats(ecg, 250)[0]
    assert np.array_equal(find_beats(-ecg, 250)[0], plain)
    shifted = find_beats(ecg + np.float32(4), 250)[0]
    assert len(shifted) == len(plain)
    assert np.abs(shifted - plain).max() <= 1


def test_a_shift_in_time_shifts_the_beats(make_ecg: Make) -> None:
    ecg, truth = make_ecg(60, 250)
    plain = find_beats(ecg, 250)[0]
    assert np.array_equal(find_beats(ecg, 250, first=30_000)[0], plain + 30_000)  # whole blocks: exact
    odd = find_beats(ecg, 250, first=12_347)[0] - 12_347  # another phase of the grid
    assert match_beats(truth, odd, 250, 0.02).score.f1 == 1


def test_concatenation_keeps_the_beats_of_each_part(make_ecg: Make) -> None:
    one, first = make_ecg(60, 250, 70, seed=1)
    two, second = make_ecg(60, 250, 90, seed=2)
    found = find_beats(np.concatenate([one, two]), 250)[0]
    score = match_beats(np.concatenate([first, second + len(one)]), found, 250).score
    assert (score.fn, score.fp) == (0, 0)


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.15])
def test_noise_costs_little(noise: float, make_ecg: Make) -> None:
    ecg, truth = make_ecg(120, 250, noise=noise)
    assert match_beats(truth, find_beats(ecg, 250)[0], 250).score.f1 > 0.99


def test_one_huge_artefact_hides_no_beat_but_those_under_it(make_ecg: Make) -> None:
    ecg, truth = make_ecg(60, 250)
    ecg[7500:7525] += 40
    missed = match_beats(truth, find_beats(ecg, 250)[0], 250).missed
    assert all(abs(truth[k] - 7512) < 125 for k in missed)


def test_search_back_finds_a_small_beat(make_ecg: Make) -> None:
    ecg, truth = make_ecg(60, 250, noise=0.005)
    k = len(truth) // 2
    near = slice(truth[k] - 20, truth[k] + 20)
    ecg[near] = ecg[near].mean() + 0.28 * (ecg[near] - ecg[near].mean())
    assert match_beats(truth, find_beats(ecg, 250)[0], 250).score.fn == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_either_float_type(dtype: type, make_ecg: Make) -> None:
    ecg, truth = make_ecg(30, 250)
    assert match_beats(truth, find_beats(ecg.astype(dtype), 250)[0], 250, 0.02).score.f1 == 1


@pytest.mark.parametrize(
    "signal",
    [
        np.empty(0),
        np.zeros(1),
        np.array([np.nan]),
        np.full(10, 1.0),
        np.zeros(5000),
        np.full(5000, 5.12),
        np.full(5000, np.nan),
        np.full(5000, np.inf),
        np.full(5000, -np.inf),
        np.full(5000, 3e38),
        np.where(np.arange(5000) % 2, np.nan, 1.0),
        np.where(np.arange(5000) < 2500, np.nan, -4.0),
        np.linspace(-5, 5, 5000),
        np.arange(5000) % 2 * 1e-3,
    ],
    ids=lambda value: f"{len(value)}x{value[:1]}",
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_beats_in_what_is_no_signal(signal: np.ndarray, dtype: type) -> None:
    assert [len(beats) for beats in find_beats(signal.astype(dtype), 250)] == [0]


def test_no_signals_give_no_results() -> None:
    assert find_beats(np.empty((0, 100)), 250) == []


def test_beats_go_on_beside_infinities_and_gaps(make_ecg: Make) -> None:
    ecg, truth = make_ecg(60, 250)
    ecg[2000:2600] = np.inf
    ecg[8000] = np.nan
    ecg[9000:9800] = np.nan
    found = find_beats(ecg, 250)[0]
    hidden = [(1990, 2610), (8990, 9810)]
    score = match_beats(truth, found, 250, exclude=hidden).score
    assert (score.fn, score.fp) == (0, 0)
    assert not any(low + 15 < beat < high - 15 for beat in found for low, high in hidden)


def test_only_beats_in_the_wanted_range(make_ecg: Make) -> None:
    ecg, _ = make_ecg(60, 250)
    every = find_beats(ecg, 250)[0]
    some = find_beats(ecg, 250, 0, 5000, 10_000)[0]
    assert np.array_equal(some, every[(every >= 5000) & (every < 10_000)])
    assert len(find_beats(ecg, 250, 0, 5000, 5000)[0]) == 0
    assert len(find_beats(ecg, 250, 0, 900_000, 910_000)[0]) == 0


@pytest.mark.parametrize("fs", [99, 1001, 0, -250, float("nan")])
def test_a_rate_out_of_range_is_refused(fs: float) -> None:
    with pytest.raises(ValueError, match=r"100\.\.1000 Hz"):
        find_beats(np.zeros(100), fs)


def test_more_than_two_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="3 dimensions"):
        find_beats(np.zeros((2, 2, 2)), 250)


def test_an_hour_of_many_signals(make_ecg: Make) -> None:
    ecg, truth = make_ecg(3600, 125)
    found = find_beats(np.stack([ecg, -ecg]), 125)
    assert np.array_equal(found[0], found[1])
    assert match_beats(truth, found[0], 125).score.f1 > 0.9995
