"""Heart rate and rate events on beats whose story is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitalgate.signal.rhythm import RhythmEvent, heart_rate, join_events, rate_events, rr_intervals

FS = 100.0


def beats(*intervals_s: float, at: float = 1.0) -> np.ndarray:
    return np.round(np.cumsum([at, *intervals_s]) * FS).astype(np.int64)


def kinds(events: list[RhythmEvent]) -> list[str]:
    return [event.kind for event in events]


def test_intervals_are_in_seconds() -> None:
    assert rr_intervals([0, 100, 150], FS).tolist() == [1.0, 0.5]
    assert rr_intervals([], FS).size == rr_intervals([5], FS).size == 0


def test_heart_rate_is_sixty_over_the_mean_interval() -> None:
    assert heart_rate(beats(1.0, 0.5), FS) == 80
    assert heart_rate(beats(1.0, 0.5, 30.0), FS) == 80, "an interval of 30 s is a gap"
    assert all(math.isnan(heart_rate(few, FS)) for few in ([], [3], [3, 103], [0, 1, 2]))


def test_a_normal_rhythm_has_no_events() -> None:
    at = beats(*[0.8] * 60)
    assert rate_events(at, FS, 0, int(at[-1]), present=np.ones(at[-1], bool)) == []


@pytest.mark.parametrize(("length", "found"), [(1.99, False), (2.0, True), (3.5, True)])
def test_a_pause_is_two_seconds(length: float, found: bool) -> None:
    at = beats(*[0.8] * 5, length, *[0.8] * 5)
    events = [event for event in rate_events(at, FS, 0, 2000) if event.kind == "pause"]
    assert events == ([RhythmEvent("pause", int(at[5]), int(at[6]), length, "s")] if found else [])


def test_a_gap_is_no_pause() -> None:
    at = beats(*[0.8] * 5, 6.0, *[0.8] * 5)
    present = np.ones(2000, bool)
    present[at[5] + 100 : at[5] + 120] = False
    assert "pause" not in kinds(rate_events(at, FS, 0, 2000, present=present))
    signal = np.where(present, 0.1, np.nan)
    assert rate_events(at, FS, 0, 2000, present=signal) == rate_events(at, FS, 0, 2000, present=present)
    present[:] = True
    present[at[5] + 100 : at[5] + 105] = False  # too short to hide a beat
    assert "pause" in kinds(rate_events(at, FS, 0, 2000, present=present))


def test_asystole_needs_signal_and_no_closing_beat() -> None:
    at = beats(*[0.8] * 5)
    present = np.ones(int(at[-1]) + 450, bool)
    (event,) = rate_events(at, FS, 0, 5000, present=present)
    assert event == RhythmEvent("asystole", int(at[-1]) + 1, int(at[-1]) + 450, 4.49, "s")
    assert rate_events(at, FS, 0, 5000, present=present[:-60]) == []
    assert rate_events(at, FS, 0, 5000) == []


def test_asystole_between_two_beats_is_a_pause_too() -> None:
    at = beats(*[0.8] * 5, 5.0, *[0.8] * 5)
    assert {"pause", "asystole"} <= set(kinds(rate_events(at, FS, 0, 2000)))


def test_two_silences_with_a_beat_between_are_two() -> None:
    at = beats(0.8, 5.0, 5.0, 0.8)
    events = rate_events(at, FS, 0, 3000)
    assert kinds(events).count("asystole") == 2


def test_bradycardia_over_five_beats() -> None:
    fine = rate_events(beats(*[0.8] * 5, *[1.3] * 3, *[0.8] * 5), FS, 0, 3000)
    assert fine == []
    at = beats(*[0.8] * 5, *[1.3] * 6, *[0.8] * 5)
    (event,) = rate_events(at, FS, 0, 3000)
    # The stretch: every window of five beats under 50/min, including those with one quicker interval if still under.
    assert (event.kind, event.unit) == ("bradycardia", "/min")
    assert event.onset <= at[5]
    assert event.offset >= at[11]
    assert event.value == pytest.approx(60 / 1.3)


def test_tachycardia_over_seventeen_beats() -> None:
    assert rate_events(beats(*[0.8] * 5, *[0.5] * 10, *[0.8] * 10), FS, 0, 3000) == []
    at = beats(*[0.8] * 20, *[0.5] * 30, *[0.8] * 20)
    (event,) = rate_events(at, FS, 0, 6000)
    assert event.kind == "tachycardia"
    assert event.value == pytest.approx(120)
    assert event.onset <= at[20] < at[50] <= event.offset


def test_limits_of_rate_can_be_given() -> None:
    at = beats(*[0.8] * 30)
    assert kinds(rate_events(at, FS, 0, 3000, fast_per_min=70)) == ["tachycardia"]
    assert kinds(rate_events(at, FS, 0, 3000, slow_per_min=80)) == ["bradycardia"]


def test_a_long_event_comes_in_pieces_that_join() -> None:
    at = beats(*[0.5] * 400)
    present = np.ones(25_000, bool)
    whole = rate_events(at, FS, 0, 20_000, present=present)
    pieces = [e for k in range(20) for e in rate_events(at, FS, k * 1000, k * 1000 + 1000, present=present)]
    assert len(pieces) == 20
    assert join_events(pieces, FS) == whole
    assert len(whole) == 1


@pytest.mark.parametrize("present", [None, np.empty(0, bool), np.ones(1, bool)])
@pytest.mark.parametrize("at", [[], [5], [5, 6]])
def test_next_to_nothing(at: list[int], present: np.ndarray | None) -> None:
    assert rate_events(at, FS, 0, 1000, present=present) == []
    assert rate_events(at, FS, 0, 0, present=present) == []


def test_signal_without_any_beat_is_asystole() -> None:
    (event,) = rate_events([], FS, 0, 1000, present=np.ones(1000, bool))
    assert event == RhythmEvent("asystole", 0, 1000, 10.0, "s")
