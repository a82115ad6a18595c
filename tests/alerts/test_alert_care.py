"""Acknowledged, silenced, escalated, latched, suppressed, closed: each step once, whatever is repeated or restarted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from tests.alerts.feeding import engine, feature, given, reading, take_feature, us
from vitalgate.alerts.commands import Command, Reply
from vitalgate.alerts.engine import Engine
from vitalgate.alerts.events import AlertEvent, when
from vitalgate.alerts.roster import Roster

ROSTER = {
    "team": "care", "members": ["anna", "ben", "chris"], "named": {"p1": ["anna"]}, "always_on_call": ["duty"],
    "on_call": [{"who": "dora", "from": when(us(0)).isoformat(), "to": when(us(150)).isoformat()}],
    "escalation": {"high": [{"after_s": 60, "to": "team"}, {"after_s": 120, "to": "on-call"}]},
}  # fmt: skip


def command(action: str, event: AlertEvent, at: float, number: int = 1, **more: Any) -> Command:
    return Command(
        command_id=f"command-{number}", alert_id=event.alert_id, patient=event.patient, who="user:anna", action=action,
        at=when(us(at)), **more,
    )  # type: ignore[arg-type]  # the actions are the texts of the tests  # fmt: skip


def do(subject: Engine, action: str, event: AlertEvent, at: float, **more: Any) -> tuple[list[AlertEvent], Reply]:
    return subject.command(command(action, event, at, **more), us(at))


def happened(events: list[AlertEvent]) -> list[str]:
    return [event.happened for event in events]


def restarted(old: Engine, *ids: str) -> Engine:
    new = engine(*ids)
    new.roster_changed("care", Roster.model_validate(ROSTER))
    for name, packed in old.dirty():
        new.load(name, packed)
    assert new.recheck(0) == []
    return new


def low(subject: Engine, at: float, value: float = 40.0, seq: int = 1) -> list[AlertEvent]:
    return subject.take(given(reading("glucose", at, value), seq=seq), us(at))


def with_roster(*ids: str) -> Engine:
    subject = engine(*ids)
    subject.roster_changed("care", Roster.model_validate(ROSTER))
    subject.tick(us(0), us(0))
    return subject


def test_nobody_answers_and_it_climbs_to_those_on_call() -> None:
    subject = with_roster("glucose-very-low")
    (raised,) = low(subject, 1)
    assert raised.notify and raised.recipients == ["anna"] and raised.escalation_level == 0
    assert subject.tick(us(59), us(59)) == []
    (team,) = subject.tick(us(61), us(61))
    assert (team.happened, team.state, team.escalation_level) == ("escalated", "escalated", 1)
    assert team.recipients == ["anna", "ben", "chris"] and team.notify and team.number == 2
    (duty,) = subject.tick(us(121), us(121))
    assert duty.recipients == ["dora"] and duty.escalation_level == 2
    assert subject.tick(us(99999), us(99999)) == []


def test_escalation_goes_on_where_it_was_after_a_restart() -> None:
    subject = with_roster("glucose-very-low")
    low(subject, 1)
    subject.tick(us(61), us(61))
    subject = restarted(subject, "glucose-very-low")
    assert subject.tick(us(100), us(100)) == []
    (duty,) = subject.tick(us(200), us(200))
    assert duty.escalation_level == 2 and duty.recipients == ["duty"]


def test_a_roster_that_comes_later_counts_for_what_is_open() -> None:
    subject = engine("glucose-very-low")
    subject.tick(us(0), us(0))
    low(subject, 1)
    assert subject.tick(us(100), us(100)) == []
    subject = restarted(subject, "glucose-very-low")
    (both,) = subject.tick(us(121), us(121))
    assert both.escalation_level == 2


def test_acknowledged_once_and_never_escalated() -> None:
    subject = with_roster("glucose-very-low")
    (raised,) = low(subject, 1)
    (told,), reply = do(subject, "acknowledge", raised, 30, text="on my way")
    assert (told.state, told.acknowledged_by, told.acknowledged_at) == ("acknowledged", "user:anna", when(us(30)))
    assert told.comment == "on my way" and not told.notify
    assert (reply.outcome, reply.state, reply.number) == ("done", "acknowledged", 2)
    for number in (1, 1):
        events, again = do(subject, "acknowledge", raised, 30, text="on my way", number=number)
        assert events == [] and again == reply
    events, second = do(subject, "acknowledge", raised, 31, number=2)
    assert events == [] and second.outcome == "refused" and "user:anna has acknowledged it" in second.detail
    assert subject.tick(us(5000), us(5000)) == []
    (over,) = low(subject, 6000, 100.0, 2)
    assert (over.state, over.closed, over.acknowledged_by) == ("cleared", True, "user:anna")


def test_command_ids_are_remembered_over_a_restart() -> None:
    subject = with_roster("glucose-very-low")
    (raised,) = low(subject, 1)
    _, reply = do(subject, "acknowledge", raised, 30)
    subject = restarted(subject, "glucose-very-low")
    assert do(subject, "acknowledge", raised, 30) == ([], reply)


def test_silence_ends_by_itself_and_then_escalation_goes_on() -> None:
    subject = with_roster("glucose-very-low")
    (raised,) = low(subject, 1)
    (told,), _ = do(subject, "silence", raised, 10, until=when(us(300)), reason="being treated")
    assert told.happened == "silenced" and told.silenced_until == when(us(300)) and told.silence_reason
    assert subject.tick(us(200), us(200)) == []
    events = subject.tick(us(300), us(300))
    assert happened(events) == ["unsilenced", "escalated"] and events[0].notify and events[0].silenced_until is None


@pytest.mark.parametrize(
    ("action", "more", "why"),
    [
        ("silence", {"until": when(us(5)), "reason": "x"}, "give a later time"),
        ("silence", {"until": when(us(10)) + timedelta(hours=25), "reason": "x"}, "24 hours at most"),
        ("unsilence", {}, "not silenced"),
    ],
)
def test_refused_with_the_remedy(action: str, more: dict[str, Any], why: str) -> None:
    subject = with_roster("glucose-very-low")
    (raised,) = low(subject, 1)
    subject.tick(us(9), us(9))
    events, reply = do(subject, action, raised, 10, **more)
    assert events == [] and reply.outcome == "refused" and why in reply.detail


def test_unknown_and_closed_alerts_refuse_but_take_comments() -> None:
    subject = with_roster("glucose-very-low")
    (raised,) = low(subject, 1)
    unknown = raised.model_copy(update={"alert_id": "no-such-alert"})
    assert "no alert no-such-alert" in do(subject, "acknowledge", unknown, 2)[1].detail
    low(subject, 100, 120.0, 2)
    assert "closed" in do(subject, "acknowledge", raised, 110, number=2)[1].detail
    (comment,), reply = do(subject, "comment", raised, 120, number=3, text="ate something")
    assert (comment.happened, comment.comment, comment.comments, comment.state) == (
        "commented", "ate something", 1, "closed",
    )  # fmt: skip
    assert comment.closed and reply.outcome == "done"


@pytest.mark.parametrize("more", [{}, {"until": when(us(9))}, {"reason": "x"}])
def test_a_silence_without_end_or_reason_is_no_command(more: dict[str, Any]) -> None:
    (raised,) = low(with_roster("glucose-very-low"), 1)
    with pytest.raises(ValidationError):
        command("silence", raised, 1, **more)


def test_latched_stays_until_it_is_acknowledged() -> None:
    subject = with_roster("asystole")
    (raised,) = take_feature(subject, feature("event.asystole", 10, 16, 6.0))
    assert raised.latched
    events = subject.tick(us(59), us(59))
    assert [(e.happened, e.closed) for e in events] == [("cleared", False)]
    assert subject.tick(us(5000), us(5000)) == []
    events, reply = do(subject, "acknowledge", raised, 6000)
    assert happened(events) == ["acknowledged", "closed"] and events[-1].closed and reply.state == "closed"


def test_again_within_the_settle_time_is_the_same_alert() -> None:
    subject = with_roster("spo2-critical")
    spo2 = [(0, 80.0), (1, 90.0), (32, 90.0), (100, 79.0)]
    events = [e for k, (at, v) in enumerate(spo2) for e in subject.take(given(reading("spo2", at, v), seq=k), us(at))]
    assert happened(events) == ["raised", "cleared", "again"]
    assert len({e.alert_id for e in events}) == 1 and [e.count for e in events] == [1, 1, 2]
    assert not events[1].closed and events[2].notify
    events = [
        e for k, at in enumerate((101, 140)) for e in subject.take(given(reading("spo2", at, 95.0), seq=9 + k), us(at))
    ]
    assert happened(events) == ["cleared"] and not events[0].closed
    assert subject.tick(us(259), us(259)) == []
    (closed,) = subject.tick(us(260), us(260))
    assert (closed.happened, closed.state, closed.closed) == ("closed", "closed", True)
    (new,) = subject.take(given(reading("spo2", 400, 79.0), seq=20), us(400))
    assert new.happened == "raised" and new.alert_id != closed.alert_id


def test_asystole_hushes_what_it_implies_and_releases_it() -> None:
    subject = with_roster("asystole", "bradycardia")
    take_feature(subject, feature("event.bradycardia", 0, 9, 35.0, first_sample=1))
    events = take_feature(subject, feature("event.asystole", 10, 16, 6.0))
    assert [(e.rule, e.happened) for e in events] == [("asystole", "raised"), ("bradycardia", "suppressed")]
    assert events[1].suppressed_by == "asystole" and not events[1].notify
    take_feature(subject, feature("event.bradycardia", 10, 60, 30.0, first_sample=2))
    events = subject.tick(us(61), us(61))
    assert [(e.rule, e.happened) for e in events] == [("asystole", "cleared"), ("bradycardia", "released")]
    assert events[1].notify and events[1].suppressed_by == ""


def test_raised_while_another_says_it_is_not_told_aloud() -> None:
    subject = with_roster("glucose-very-low", "glucose-low")
    events = low(subject, 1)
    assert [(e.rule, e.notify, e.suppressed_by) for e in events] == [
        ("glucose-very-low", True, ""), ("glucose-low", False, "glucose-very-low"),
    ]  # fmt: skip


def test_hindsight_is_told_but_not_escalated() -> None:
    subject = with_roster("glucose-very-low")
    low(subject, 5000, 120.0, 5)
    events = low(subject, 10, 40.0, 1)
    assert happened(events) == ["raised", "cleared"] and events[0].hindsight and not events[0].notify
    assert subject.tick(us(9000), us(9000)) == []


def test_what_was_done_stays_done_when_the_onset_is_corrected() -> None:
    subject = with_roster("glucose-very-low")
    (raised,) = low(subject, 600, 40.0, 2)
    do(subject, "acknowledge", raised, 610)
    events = low(subject, 300, 41.0, 1)
    assert happened(events) == ["retracted", "raised"]
    assert events[1].acknowledged_by == "user:anna" and events[1].state == "acknowledged" and not events[1].notify


def test_messages_say_how_old_their_value_is_and_where_the_ecg_is() -> None:
    subject = with_roster("pause")
    record = feature("event.pause", 10, 13.5, 3.5, first_sample=2500) | {"rate": "250/1"}
    (event,) = subject.take_feature(record, us(10), us(13.5), us(20), us(25))
    assert event.age_s == 15.0 and event.strip is not None
    assert (event.strip.recording, event.strip.channel, event.strip.device_id) == ("r1", "ecg.I", "ecg1")
    assert (event.strip.first_sample, event.strip.stop_sample) == (1750, 4250)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"members": []}, "members"),
        ({"named": {"p1": ["zoe"]}}, "zoe"),
        ({"escalation": {"high": [{"after_s": 60, "to": "team"}, {"after_s": 60, "to": "on-call"}]}}, "must rise"),
        ({"always_on_call": [], "on_call": []}, "nobody is"),
        ({"escalation": {"loud": []}}, "loud"),
        ({"on_call": [{"who": "d", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}]}, "not after"),
    ],
)
def test_a_roster_that_cannot_work_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Roster.model_validate(ROSTER | change)
