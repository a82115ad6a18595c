"""What people look at: storms as one notification, figures of alarm fatigue, the table, and the strip of an alert."""

from __future__ import annotations

import itertools
from array import array
from datetime import timedelta
from typing import Any

import pytest

from tests.alerts.feeding import engine, feature, given, us
from vitalgate.alerts.board import Board, age, sparkline
from vitalgate.alerts.events import when
from vitalgate.alerts.grouping import Window, after, place, pressing
from vitalgate.alerts.statistics import figures
from vitalgate.devices.records import Waveform
from vitalgate.stream.alerting_strips import Strips

S = 1_000_000


def event(n: int, priority: str = "medium", patient: str = "p1", **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{n}", "alert_id": f"a{n}", "patient": patient, "team": "care", "priority": priority, "rule": "r",
        "state": "raised", "happened": "raised", "notify": True, "detected_at": when(us(n)).isoformat(),
        "onset": when(us(n)).isoformat(), "title": "T", "value": 3.0, "unit": "%", "metric": "spo2", "text": "t",
    } | more  # fmt: skip


def told(paces: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, int]]:
    """(when, count) of the notifications that a receiver gets who tells what is due and gathers the rest."""
    found: list[tuple[int, int]] = []
    window: Window | None = None
    count = due = rank = 0

    def tell_until(now: int) -> None:
        nonlocal window, count
        if count and due <= now:
            window = after(window, rank, due)
            found.append((due, count))
            count = 0

    for now, one in paces:
        tell_until(now)
        window, at = place(window, pressing(one), now)
        due, rank = (min(due, at), max(rank, pressing(one))) if count else (at, pressing(one))
        count += 1
    tell_until(1 << 62)
    return found


def test_a_hundred_alarms_at_once_are_one_notification_with_a_count() -> None:
    assert told([(n * 1000, event(n)) for n in range(100)]) == [(S, 100)]


def test_a_hundred_alarms_over_a_minute_are_the_first_and_one_with_a_count() -> None:
    found = told([(n * S // 2, event(n)) for n in range(100)])
    assert found == [(S, 2), (60 * S, 98)]


def test_what_is_more_pressing_does_not_wait() -> None:
    low, high = event(1, "low"), event(2, "high")
    assert told([(0, low), (10 * S, event(3, "low")), (20 * S, high)]) == [(S, 1), (21 * S, 2)]
    climbed = high | {"escalation_level": 1}
    assert told([(0, high), (10 * S, event(3, "high")), (20 * S, climbed)]) == [(S, 1), (21 * S, 2)]
    assert told([(0, high), (10 * S, event(3, "high"))]) == [(S, 1), (60 * S, 1)]


def test_nothing_is_lost_and_a_storm_is_a_notification_a_minute() -> None:
    found = told([(n * 7 * S // 10, event(n)) for n in range(1000)])
    assert sum(count for _, count in found) == 1000
    assert len(found) == 1 + 700 // 60 + 1
    assert all(later - sooner >= 59 * S for (sooner, _), (later, _) in itertools.pairwise(found))


def test_figures_of_alarm_fatigue() -> None:
    begin = when(us(0))
    events = [event(n, rule="noisy" if n < 6 else "quiet", patient=f"p{n % 2}") for n in range(8)]
    events[7] |= {"notify": False, "suppressed_by": "noisy"}
    for n, wait in ((0, 30), (1, 90), (2, 60)):
        events.append(
            events[n] | {"event_id": f"x{n}", "state": "acknowledged", "happened": "acknowledged", "notify": False,
                         "acknowledged_at": when(us(n + wait)).isoformat()}
        )  # fmt: skip
    events.append(events[3] | {"event_id": "y", "state": "retracted", "happened": "retracted", "notify": False})
    found = figures(events, 10, begin, begin + timedelta(days=2))
    assert (found["alerts"], found["patients"], found["patient_days"]) == (8, 10, 20)
    assert found["alerts_per_patient_day"] == 0.4 and found["retracted"] == 1 and found["suppressed"] == 1
    assert found["notified"] == 7 and found["acknowledged_share"] == pytest.approx(3 / 7, abs=1e-4)
    assert found["median_time_to_acknowledge_s"] == 60
    assert [(row["rule"], row["alerts"], row["acknowledged"]) for row in found["noisiest"]] == [
        ("noisy", 6, 3), ("quiet", 2, 0),
    ]  # fmt: skip
    assert figures([], 3, begin, begin + timedelta(days=1))["acknowledged_share"] is None


def test_the_board_is_sorted_by_what_presses() -> None:
    board = Board()
    rows = [
        event(1, "low"), event(2, "high", state="acknowledged", acknowledged_by="user:anna"), event(3, "high"),
        event(4, "high", suppressed_by="asystole"), event(5, "medium", silenced_until=when(us(600)).isoformat()),
    ]  # fmt: skip
    for row in rows:
        board.take(f"p1|{row['alert_id']}", row)
    board.measured("p1", "spo2", us(2), 90.0)
    board.measured("p1", "spo2", us(1), 97.0)
    shown = board.rows(us(60))
    assert [row["id"] for row in shown] == ["a3", "a2", "a5", "a1", "a4"]
    assert shown[1]["state"] == "acknowledged by anna" and shown[2]["state"] == "raised, silent 9 min"
    assert shown[4]["state"] == "part of asystole" and shown[0]["trend"] == "█▁" and shown[0]["value"] == "3 %"
    assert board.selected == "a3"
    board.move(1)
    assert board.selected == "a2"
    board.take("p1|a2", None)
    board.ordered()
    assert board.selected == "a3"
    board.move(-5)
    assert board.selected == "a3"


def test_sparkline_and_age() -> None:
    assert sparkline([]) == "" and sparkline([5.0, 5.0]) == "▄▄" and sparkline([0.0, 50.0, 100.0]) == "▁▅█"
    assert [age(s) for s in (-5, 59, 60, 7200, 200_000)] == ["0 s", "59 s", "1 min", "2 h", "2 d"]


def block(first: int, count: int, **more: Any) -> Waveform:
    samples = array("i", range(first, first + count)).tobytes()
    return Waveform(0, "ecg.I", "r1", first, count, us(first / 250), 250, 1, 200.0, 0.0, "mV", samples, **more)


def test_an_alert_carries_ten_seconds_of_its_ecg() -> None:
    strips = Strips()
    for first in range(0, 5000, 250):
        record = given(device="ecg1")
        record.message.waveforms = [block(first, 250, missing=[(10, 5)] if first == 2500 else None)]
        strips.take(record)
    subject = engine("pause")
    told = feature("event.pause", 10, 13.5, 3.5, first_sample=2500) | {"rate": "250/1"}
    (raised,) = subject.take_feature(told, us(10), us(13.5), us(20), us(20))
    strip = strips.attach(raised).strip
    assert strip is not None and strip.samples is not None and (strip.unit, strip.gain) == ("mV", 200.0)
    wanted: list[int | None] = list(range(1750, 4250))
    wanted[2510 - 1750 : 2515 - 1750] = [None] * 5
    assert strip.samples == wanted


def test_strips_are_bounded() -> None:
    strips = Strips(max_bytes=100_000)
    for n in range(100):
        record = given(device=f"ecg{n % 20}")
        record.message.waveforms = [block(250 * n, 2500)]
        strips.take(record)
        assert strips.bytes <= 100_000
    assert strips.bytes > 0
