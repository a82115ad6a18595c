"""The simulated person: the same whatever is asked first, one heart behind every signal, values that hang together."""

from __future__ import annotations

import numpy as np
import pytest

from vitalgate.signal.beats import find_beats
from vitalgate.simulators import heart, signals, templates
from vitalgate.simulators.measure import measure
from vitalgate.simulators.physiology import Change, Person, Rhythm, draw_body

START = 1_790_000_000.0


def test_a_signal_is_the_same_in_one_piece_and_in_packets_in_any_order() -> None:
    rhythms = (Rhythm("af", 10, 8), Rhythm("pause", 24, 5), Rhythm("ectopy", 0, 10, 0.3))
    person = Person(5, START, rhythms=rhythms)
    for fs, draw in (
        (250, lambda who, first, count: signals.ecg(who, signals.LEADS, START, 250, first, count)),
        (75, lambda who, first, count: signals.pleth(who, START, 75, first, count)[None]),
        (25, lambda who, first, count: signals.breath(who, START, 25, first, count)[None]),
    ):
        whole = draw(person, 0, 40 * fs)
        other = Person(5, START, rhythms=rhythms)
        packets = {k: draw(other, k * fs, fs) for k in reversed(range(40))}
        np.testing.assert_allclose(np.concatenate([packets[k] for k in range(40)], axis=1), whole, atol=1e-9)


def test_seeds_make_different_people_and_one_seed_the_same() -> None:
    ask = np.arange(START, START + 3600, 60)
    first, again, other = Person(1), Person(1), Person(2)
    np.testing.assert_array_equal(first.vital("heart_rate", ask), again.vital("heart_rate", ask))
    assert np.abs(first.vital("heart_rate", ask) - other.vital("heart_rate", ask)).min() > 0
    assert draw_body(1) == draw_body(1) != draw_body(2)


def test_ecg_beats_pulses_and_pulse_rate_are_the_one_heart() -> None:
    person = Person(11, START)
    truth = heart.beats(person, START, START + 60).time
    ecg = signals.ecg(person, ["II"], START, 250, 0, 60 * 250)
    found = find_beats(ecg, 250)[0] / 250 + START
    # A beat that the recording's end cuts through may be missed.
    inner = [times[(times > START + 0.3) & (times < START + 59.7)] for times in (found, truth)]
    assert len(inner[0]) == len(inner[1])
    assert np.abs(inner[0] - inner[1]).max() < 0.02
    pleth = signals.pleth(person, START, 100, 0, 60 * 100)
    feet = (np.floor((truth + signals.ARRIVAL_S - START) * 100)).astype(int)
    inside = feet[(feet > 0) & (feet < len(pleth))]
    assert pleth[inside].max() < 0.2 < pleth[np.minimum(inside + 15, len(pleth) - 1)].mean()
    assert measure(person, "pulse_rate", START + 50, START) == pytest.approx(60 / np.diff(truth).mean(), abs=8)


def test_detection_of_a_ten_minute_record_with_ectopy_agrees_with_the_truth() -> None:
    person = Person(12, START, rhythms=(Rhythm("ectopy", 0, 600, 0.1), Rhythm("af", 200, 200)))
    truth = heart.beats(person, START, START + 600)
    found = find_beats(signals.ecg(person, ["II"], START, 250, 0, 600 * 250), 250)[0] / 250 + START
    near = np.abs(found[:, None] - truth.time[None]).min(axis=0) < 0.15
    assert near.mean() > 0.99
    assert len(found) <= len(truth.time) * 1.01
    assert truth.ventricular.sum() > 20
    assert truth.fibrillating.sum() > 100


@pytest.mark.parametrize("at", [0, 20, 39.5, 40.1, 58])
def test_a_pause_is_as_long_as_asked_wherever_it_lies(at: float) -> None:
    person = Person(3, START, rhythms=(Rhythm("pause", at, 3.5),))
    times = heart.beats(person, START - 60, START + 120).time
    gaps = np.diff(times)
    assert gaps.max() == pytest.approx(3.5)
    assert START + at - 1.5 < times[gaps.argmax()] <= START + at
    assert np.sort(gaps)[-2] < 1.5
    assert gaps.min() > 0.3


def test_fibrillation_is_irregular_and_sinus_rhythm_is_not() -> None:
    person = Person(4, START, rhythms=(Rhythm("af", 120, 120),))
    calm = np.diff(heart.beats(person, START, START + 120).time)
    wild = np.diff(heart.beats(person, START + 120, START + 240).time)
    assert np.std(np.diff(calm)) / calm.mean() < 0.06 < 0.15 < np.std(np.diff(wild)) / wild.mean()


def test_einthoven_holds_in_twelve_leads_without_noise() -> None:
    person = Person(8)
    lead = {name: signals.lead_amplitudes(person, name) for name in signals.LEADS}
    np.testing.assert_allclose(lead["I"] + lead["III"], lead["II"])
    np.testing.assert_allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, atol=1e-12)


def test_beats_are_found_in_every_lead_of_everybody() -> None:
    for seed in range(25):
        person = Person(seed, START)
        truth = heart.beats(person, START, START + 10).time - START
        for lead, found in zip(
            signals.LEADS, find_beats(signals.ecg(person, signals.LEADS, START, 500, 0, 5000), 500), strict=True
        ):
            # In the right chest leads the deepest point is the S wave, 40 ms after R.
            apart = np.abs(found[:, None] / 500 - truth[None])
            assert apart.min(axis=0)[(truth > 0.3) & (truth < 9.7)].max() < 0.06, (seed, lead)
            assert apart.min(axis=1).max() < 0.06, (seed, lead)


def test_fever_drives_heart_and_breath_and_a_set_value_is_exact() -> None:
    ask = np.arange(START + 700, START + 1000, 10)
    well = Person(6, START)
    ill = Person(6, START, (Change("temperature", "add", ((0, 0.0), (600, 2.5))), Change("spo2", "set", ((0, 88.0),))))
    assert (ill.vital("heart_rate", ask) - well.vital("heart_rate", ask)).mean() > 15
    assert (ill.vital("respiration_rate", ask) - well.vital("respiration_rate", ask)).mean() > 4
    assert set(ill.vital("spo2", ask)) == {88.0}
    assert ill.one("spo2", START - 60) == well.one("spo2", START - 60)


def test_a_day_of_vital_signs_is_ordinary() -> None:
    ask = START + np.arange(0, 86400, 120)
    for seed in range(20):
        person = Person(seed)
        for name, low, high in (
            ("heart_rate", 45, 150), ("spo2", 93, 100), ("systolic", 90, 180), ("diastolic", 55, 105),
            ("temperature", 35.5, 37.9), ("respiration_rate", 9, 32), ("glucose", 70, 200),
        ):  # fmt: skip
            values = person.vital(name, ask)
            assert low < values.min() <= values.max() < high, (seed, name, values.min(), values.max())


def test_nonsense_is_refused_with_a_reason() -> None:
    with pytest.raises(ValueError, match="cannot be changed; one of"):
        Change("mood", "set", ((0, 1.0),))
    with pytest.raises(ValueError, match="a body has no wings"):
        draw_body(1, {"wings": 2})
    with pytest.raises(KeyError, match="there are heart_rate"):
        Person(1).vital("mood", [START])


def test_shipped_templates_are_what_neurokit_makes() -> None:
    from vitalgate.simulators.make_templates import make

    made, shipped = make(), templates.load()
    np.testing.assert_allclose(made.waves, shipped.waves, atol=0.02)
    np.testing.assert_allclose(made.pulse, shipped.pulse, atol=0.02)
    np.testing.assert_allclose(made.breath, shipped.breath, atol=0.05)
