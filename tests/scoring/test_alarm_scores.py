"""Alarms per hour: what counts as true, missed and false, and the running path on signals that are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vitalgate.alerts import rules
from vitalgate.scoring.alarm_path import BEGIN_US, Alarm, Line, alarms_of_signals
from vitalgate.scoring.alarm_reference import Given, alarms_of_intervals, labelled_fibrillation, reference_alarms
from vitalgate.scoring.alarms import Count, compare
from vitalgate.scoring.databases import Rhythm

BOOK = rules.load()
Ecg = Callable[..., tuple[np.ndarray, np.ndarray]]


def alarm(rule: str, onset: float, end: float, told: bool = True, retracted: bool = False) -> Alarm:
    begin, stop = (BEGIN_US + round(at * 1e6) for at in (onset, end))
    return Alarm("p", rule, begin, stop, begin + 5_000_000 if told else None, retracted)


def counted(rule: str, truth: list[Alarm], ours: list[Alarm]) -> Count:
    return compare(truth, ours, BOOK, [rule])[rule]


def test_what_is_true_missed_implied_and_false() -> None:
    truth = [alarm("pause", 10, 13), alarm("pause", 500, 504), alarm("ventricular-fibrillation", 900, 910)]
    found = counted("pause", truth, [alarm("pause", 12, 14), alarm("pause", 700, 703), alarm("pause", 905, 909)])
    assert (found.reference, found.missed, found.told, found.true, found.implied, found.false) == (2, 1, 3, 1, 1, 1)
    assert found.waits_s == [5.0]
    assert found.row(2.0)["false_per_h"] == 0.5


def test_what_was_told_and_taken_back_was_told_but_finds_nothing() -> None:
    truth = [alarm("pause", 10, 13)]
    found = counted("pause", truth, [alarm("pause", 10, 13, retracted=True), alarm("pause", 90, 93, retracted=True)])
    assert (found.missed, found.true, found.false, found.taken_back) == (1, 1, 1, 2)
    suppressed = counted("pause", truth, [alarm("pause", 10, 13, told=False), alarm("pause", 90, 93, told=False)])
    assert (suppressed.missed, suppressed.told, suppressed.false) == (0, 0, 0), "others have said it"


def test_a_standstill_in_the_signal_is_told_in_time_and_matches_its_annotation(make_ecg: Ecg) -> None:
    fs = 250.0
    signal, beats = make_ecg(150, int(fs))
    low, high = int(60.2 * fs), int(69.0 * fs)
    noise = np.random.default_rng(3).standard_normal(high - low)
    signal[low:high] = 0.01 * noise + 0.03 * np.sin(np.arange(high - low) / fs)
    kept = beats[(beats < low) | (beats > high)]
    ours = alarms_of_signals([Line("p", "ecg.II", fs, signal.astype(np.float32))], BOOK)
    truth = reference_alarms(Given("p", fs, len(signal), kept, np.full(len(kept), "N")), BOOK)
    found = compare(truth, ours, BOOK, BOOK.ranked)
    assert (found["asystole"].reference, found["asystole"].true, found["asystole"].missed) == (1, 1, 0)
    assert 4.0 <= found["asystole"].waits_s[0] <= 8.0, "told while it lasts"
    assert sum(count.false for count in found.values()) == 0
    blamed = compare([], ours, BOOK, ["asystole"])["asystole"]
    assert (blamed.false, blamed.missed) == (1, 0)


def test_labelled_fibrillation_is_an_alarm_from_thirty_seconds_on() -> None:
    fs = 250.0
    chance = np.random.default_rng(5)
    rr = np.concatenate([np.full(400, 0.8), chance.uniform(0.4, 1.1, 400), np.full(400, 0.8)])
    beats = np.round(np.cumsum(rr) * fs).astype(np.int64)
    edges = int(beats[400]), int(beats[800])
    rhythms = (
        Rhythm(0, edges[0], "N"), Rhythm(*edges, "AFIB"), Rhythm(edges[1], edges[1] + 5000, "N"),
        Rhythm(edges[1] + 5000, edges[1] + 10_000, "AFIB"), Rhythm(edges[1] + 10_000, int(beats[-1]) + 1, "N"),
    )  # fmt: skip
    known = Given("p", fs, int(beats[-1]) + 1, beats, np.full(len(beats), "N"), rhythms=rhythms)
    [truth] = [one for one in labelled_fibrillation(known, BOOK) if one.rule == "atrial-fibrillation"]
    assert (truth.onset_us - BEGIN_US) / 1e6 == pytest.approx(edges[0] / fs, abs=0.01)
    assert (truth.end_us - BEGIN_US) / 1e6 == pytest.approx(edges[1] / fs, abs=0.01), "twenty seconds are none"
    ours = [one for one in alarms_of_intervals(known, BOOK) if one.rule == "atrial-fibrillation"]
    found = compare([truth], ours, BOOK, ["atrial-fibrillation"])["atrial-fibrillation"]
    assert (found.true, found.missed, found.false) == (1, 0, 0)
