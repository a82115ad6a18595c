"""Breathing from a belt and from an ECG against the simulators and NeuroKit2; arrival and perfusion of pulses."""

from __future__ import annotations

import numpy as np
import pytest

from vitalgate.signal.beats import find_beats
from vitalgate.signal.pulse import find_pulses
from vitalgate.signal.pulse_waves import pulse_arrival, pulse_waves, rate_of_pulses
from vitalgate.signal.respiration import FIT_CONFIDENCE, WINDOW_S, breathing_of_belt, breathing_of_ecg
from vitalgate.simulators.heart import breathing
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.signals import breath, ecg

FS, START = 250.0, 1_700_000_000.0


def breaths_a_minute(person: Person, minutes: int) -> np.ndarray:
    phase = breathing(person, START + np.arange(0, 60 * minutes + 0.25, 0.5))
    turns = np.unwrap(2 * np.pi * (phase % 1)) / (2 * np.pi)
    return np.diff(turns[::120])[:minutes]


@pytest.mark.parametrize("seed", [2, 8, 11])
def test_the_simulated_chest(seed: int) -> None:
    person = Person(seed, START)
    truth = breaths_a_minute(person, 3)
    signal = ecg(person, ["II"], START, FS, 0, int(180 * FS))[0]
    by_ecg = breathing_of_ecg(signal, FS, find_beats(signal, FS)[0])
    by_belt = breathing_of_belt(breath(person, START, 25.0, 0, 180 * 25), 25.0)
    for found in (by_ecg, by_belt):
        assert [round(each.per_min - true) for each, true in zip(found, truth, strict=True)] == [0, 0, 0]
        assert all(each.confidence > 0.8 for each in found)


@pytest.mark.parametrize("rate", [8, 15, 28])
def test_the_belt_of_neurokit(rate: int) -> None:
    nk = pytest.importorskip("neurokit2")
    belt = nk.rsp_simulate(
        duration=125, sampling_rate=50, respiratory_rate=rate, method="breathmetrics", random_state=3
    )
    for found in breathing_of_belt(belt, 50.0):
        assert found.per_min == pytest.approx(rate, abs=1.5) and found.confidence > FIT_CONFIDENCE


def test_a_window_does_not_depend_on_what_is_round_it() -> None:
    person = Person(5, START)
    signal = ecg(person, ["II"], START, FS, 0, int(200 * FS))[0]
    beats = find_beats(signal, FS)[0]
    whole = breathing_of_ecg(signal, FS, beats)
    low = round(50 * FS)
    part = breathing_of_ecg(signal[low:], FS, beats[beats >= low + 100], low)
    assert part == whole[1:] and [each.onset for each in whole] == [round(k * WINDOW_S * FS) for k in range(3)]


def test_nothing_is_told_of_nothing() -> None:
    for belt in (np.zeros(1500), np.full(1500, np.nan), np.ones(1500) * 7):
        [found] = breathing_of_belt(belt, 25.0)
        assert np.isnan(found.per_min) and found.confidence == 0
    assert breathing_of_belt(np.zeros(1400), 25.0) == [] and breathing_of_belt([], 25.0) == []
    [found] = breathing_of_ecg(np.zeros(round(60 * FS)), FS, [])
    assert np.isnan(found.per_min)
    rng = np.random.default_rng(0)
    noise = [breathing_of_belt(rng.standard_normal(1500), 25.0)[0].confidence for _ in range(20)]
    assert np.median(noise) < FIT_CONFIDENCE
    with pytest.raises(ValueError, match="4 Hz"):
        breathing_of_belt(np.zeros(100), 2.0)


def test_feet_arrival_and_perfusion(make_ppg) -> None:
    fs = 100.0
    _, at = make_ppg(40, fs, 70, 1)
    t = np.arange(round(40 * fs)) / fs
    # Pulses that rise in a straight line from 1000 to 1020 in 0.1 s and sink in a curve.
    x = np.full(len(t), 1000.0)
    for peak in at:
        rise = np.arange(peak - 10, peak + 1)
        x[rise[rise >= 0]] = 1000 + 2.0 * (rise[rise >= 0] - (peak - 10))
        sink = np.arange(peak + 1, min(len(x), peak + 60))
        x[sink] = 1000 + 20 * np.exp(-(sink - peak) / 8.0)
    found = pulse_waves(x, fs, at)
    inside = ~np.isnan(found.feet)
    assert inside.sum() >= len(at) - 1
    assert np.abs(found.feet[inside] - (at[inside] - 10)).max() < 0.6
    assert found.perfusion[inside] == pytest.approx(2.0, abs=0.1)
    r = (at - 10) / fs - 0.21
    arrival = pulse_arrival(r, found.feet / fs)
    assert np.nanmedian(arrival) == pytest.approx(0.21, abs=0.01)
    assert np.isnan(pulse_arrival(r, [])).all() and len(pulse_arrival([], found.feet)) == 0
    assert np.isnan(pulse_arrival([1.0], [1.01, 1.9])).all(), "too early for this beat, too late for it"
    assert rate_of_pulses(find_pulses(x, fs)[0], fs) == pytest.approx(70, rel=0.05)
    assert np.isnan(pulse_waves(np.full(500, np.nan), fs, [100, 200]).feet).all()
