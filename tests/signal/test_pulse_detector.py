"""Pulse peaks where the truth is known."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from vitalgate.signal.pulse import find_pulses
from vitalgate.signal.scoring import match_beats

Make = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.mark.parametrize("fs", [25, 50, 75, 100, 125, 256, 500])
@pytest.mark.parametrize("rate", [40, 70, 110])
def test_finds_every_pulse_at_any_rate(fs: float, rate: float, make_ppg: Make) -> None:
    ppg, truth = make_ppg(60, fs, rate)
    score = match_beats(truth, find_pulses(ppg, fs)[0], fs, 0.1).score
    assert score.f1 > 0.99, score


def test_unit_and_offset_do_not_matter(make_ppg: Make) -> None:
    ppg, _ = make_ppg(60, 100)
    plain = find_pulses(ppg, 100)[0]
    for scale in (2.0**-10, 2.0**12):
        assert np.array_equal(find_pulses(ppg * np.float32(scale), 100)[0], plain)
    assert np.abs(find_pulses(ppg + np.float32(50), 100)[0] - plain).max() <= 1


@pytest.mark.parametrize("rate", [50, 75, 100])
def test_simulated_by_neurokit(rate: int) -> None:
    neurokit2 = pytest.importorskip("neurokit2")
    ppg = neurokit2.ppg_simulate(duration=60, sampling_rate=100, heart_rate=rate, random_state=1)
    truth = neurokit2.ppg_findpeaks(ppg, sampling_rate=100)["PPG_Peaks"]
    assert match_beats(truth, find_pulses(ppg, 100)[0], 100, 0.1).score.f1 > 0.98


@pytest.mark.parametrize(
    "signal",
    [np.empty(0), np.zeros(1), np.zeros(3000), np.full(3000, 1e5), np.full(3000, np.nan), np.full(3000, np.inf)],
    ids=["empty", "one", "zero", "rail", "nan", "inf"],
)
def test_no_pulses_in_what_is_no_signal(signal: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(pulses) for pulses in find_pulses(signal, 100)] == [0]


def test_a_rate_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="Hz"):
        find_pulses(np.zeros(100), 5)
