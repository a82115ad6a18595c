"""Which alert events are told to whom, when and how often, and what becomes of it: pure, with the clock turned."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.handover.events import S, acknowledged, cleared, event
from vitalgate.alerts.events import AlertEvent
from vitalgate.handover.backoff import pause_us
from vitalgate.handover.delivery import AlertDelivery
from vitalgate.handover.destinations import Destination, DestinationsError, parse
from vitalgate.handover.lane import Lane
from vitalgate.handover.memory import Memory, pack, unpack
from vitalgate.handover.notice import notice
from vitalgate.handover.outcome import DELIVERED, Outcome
from vitalgate.handover.post import FORGET_US, Limits, Post
from vitalgate.stream.alerting_records import event_value

T0 = 1_790_000_000 * S
DOWN = Outcome("retry", "HTTP 503")


def webhook(**more: Any) -> Destination:
    return Destination.model_validate({"webhook": "https://board.example/x", "secret": {"env": "S"}, **more})


class Desk:
    """A post with its destinations, a clock, and everything that was recorded."""

    def __init__(self, **destinations: Destination) -> None:
        self.destinations = destinations or {"board": webhook()}
        self.post = Post(Memory("p1"), Limits())
        self.now = T0
        self.records: list[AlertDelivery] = []

    def take(self, *events: AlertEvent) -> None:
        for one in events:
            document = orjson.loads(event_value(one))
            wanting = {name: d for name, d in self.destinations.items() if d.wants(document, {})}
            self.post.take(document, wanting, self.now)

    def pass_(self, seconds: float) -> None:
        self.now += round(seconds * S)
        self.look()

    def look(self) -> None:
        self.post.advance(self.destinations, self.now)
        self.records += self.post.drain()
        # Whatever is kept is kept over a restart.
        self.post = Post(unpack(pack(self.post.memory)), Limits())

    def send(self, outcome: Outcome = DELIVERED) -> list[tuple[str, int]]:
        """Everything that is due goes out; (destination, count) of each."""
        self.look()
        found = []
        for one in self.post.ready(self.now):
            self.post.begin(one, self.now)
            found.append((one.destination, one.group.count))
            self.post.end(one.id, outcome, self.now)
        self.look()
        return found

    def states(self) -> list[str]:
        return [record.state for record in self.records]

    def undelivered(self) -> list[int]:
        return [record.undelivered for record in self.records if record.undelivered is not None]


def at(seconds: float = 0) -> int:
    return T0 + round(seconds * S)


def test_a_storm_of_a_hundred_is_one_notification_with_a_count() -> None:
    desk = Desk()
    desk.take(*(event(f"a{n}", at=at()) for n in range(100)))
    assert desk.send() == []
    desk.pass_(1)
    assert desk.send() == [("board", 100)]
    desk.pass_(3600)
    assert desk.send() == [] and desk.states() == ["waiting", "delivered"]
    assert desk.records[-1].count == 100 and len(desk.records[-1].alert_ids) == 100


def test_what_comes_after_is_gathered_but_what_is_more_pressing_does_not_wait() -> None:
    desk = Desk()
    desk.take(event("a", priority="medium", at=at()))
    desk.pass_(1)
    assert desk.send() == [("board", 1)]
    desk.take(event("b", priority="medium", at=at()), event("c", priority="low", at=at()))
    desk.pass_(5)
    assert desk.send() == []
    desk.take(event("d", priority="high", at=at()))
    desk.pass_(1)
    assert desk.send() == [("board", 3)]
    desk.take(event("e", priority="high", at=at()))
    desk.take(event("d", 2, happened="escalated", state="escalated", escalation_level=1, at=at()))
    desk.pass_(1)
    assert desk.send() == [("board", 2)], "an escalation does not wait for the window to end"
    desk.take(event("f", at=at()))
    desk.pass_(53)
    assert desk.send() == [("board", 1)], "the window began with the first"


def test_a_repeat_of_an_event_is_none_also_after_a_restart() -> None:
    desk = Desk()
    desk.take(event("a", at=at()))
    desk.pass_(1)
    assert desk.send() == [("board", 1)]
    desk.take(event("a", at=at()))
    desk.pass_(1800)
    assert desk.send() == []


def test_whom_it_is_told() -> None:
    desk = Desk(
        all=webhook(),
        cardio=webhook(teams=["cardio"]),
        high=webhook(priority="high"),
        equipment=webhook(technical=False),
    )
    desk.take(event("a", priority="medium", at=at(), kind="technical"))
    desk.pass_(1)
    assert sorted(desk.send()) == [("all", 1)]
    teams = {"anna": frozenset({"care"}), "ben": None, "cleo": frozenset({"night"})}
    told = orjson.loads(event_value(event("b", recipients=["anna", "ben", "cleo", "duty"])))
    team = orjson.loads(event_value(event("b")))

    def wants(who: str, document: dict[str, Any]) -> bool:
        return webhook(clinician=who).wants(document, teams)

    assert [wants(who, told) for who in ("anna", "ben", "cleo", "duty", "eve")] == [True, False, False, True, False]
    assert [wants(who, team) for who in ("anna", "ben", "cleo", "duty", "eve")] == [True, False, False, False, False]


def test_retries_grow_and_end_and_that_is_an_alert() -> None:
    desk = Desk()
    desk.take(event("a", at=at()))
    desk.pass_(1)
    attempts = []
    while desk.now < at(4000):
        if desk.send(DOWN):
            attempts.append(desk.now)
        desk.pass_(1)
    assert desk.states()[-1] == "failed" and desk.states().count("late") == 1
    gaps = [later - sooner for sooner, later in itertools.pairwise(attempts)]
    assert gaps[0] <= 4 * S and max(gaps) <= 376 * S and len(attempts) < 30
    late = next(record for record in desk.records if record.state == "late")
    assert 120 <= (late.at - late.created_at).total_seconds() <= 122
    assert desk.undelivered() == [1], "late and then failed is one that is undelivered"
    # Somebody has seen it elsewhere.
    desk.take(acknowledged("a", at=at()))
    desk.look()
    assert desk.states()[-1] == "settled" and desk.undelivered() == [1, 0]


def test_late_and_then_delivered() -> None:
    desk = Desk()
    desk.take(event("a", at=at()))
    desk.pass_(1)
    desk.send(DOWN)
    desk.pass_(130)
    assert desk.send() == [("board", 1)]
    assert desk.states() == ["waiting", "retrying", "late", "delivered"] and desk.undelivered() == [1, 0]


def test_refused_for_good_fails_at_once_and_comes_back_with_its_destination() -> None:
    desk = Desk()
    desk.take(event("a", at=at()))
    desk.pass_(1)
    desk.send(Outcome("refused", "HTTP 410"))
    assert desk.states() == ["waiting", "failed"] and desk.undelivered() == [1]
    assert desk.post.revive("board", desk.now) and not desk.post.revive("other", desk.now)
    assert desk.send() == [("board", 1)]
    assert desk.states()[-2:] == ["retrying", "delivered"] and desk.undelivered() == [1, 0]


def test_a_failure_that_nobody_answers_is_forgotten_after_a_day() -> None:
    desk = Desk()
    desk.take(event("a", at=at()))
    desk.pass_(1)
    desk.send(Outcome("refused", "HTTP 410"))
    desk.take(cleared("a", at=at()))
    desk.pass_(3600 * 5)
    assert desk.undelivered() == [1], "over, but nobody was told"
    desk.pass_(FORGET_US / S)
    assert desk.undelivered() == [1, 0]
    desk.pass_(3601)
    assert desk.post.memory.empty


def test_only_failures_of_high_priority_count_and_not_those_of_their_own_alert() -> None:
    desk = Desk()
    desk.take(event("a", priority="medium", at=at()))
    desk.take(event("b", rule="handover-failed", at=at(), patient="p1"))
    desk.pass_(1)
    desk.send(Outcome("refused", "HTTP 410"))
    assert desk.undelivered() == []


def test_what_nobody_needs_any_more_is_withdrawn() -> None:
    for how, goes in (
        (acknowledged("a", at=at()), False),
        (event("a", 2, state="retracted", happened="retracted", notify=False, at=at()), False),
        (event("a", 2, happened="silenced", notify=False, silenced_until="2030-01-01T00:00:00Z", at=at()), False),
        (event("a", 2, happened="suppressed", notify=False, suppressed_by="asystole", at=at()), False),
        (cleared("a", at=at()), True),
    ):
        desk = Desk()
        desk.take(event("a", at=at()), how)
        desk.pass_(1)
        assert bool(desk.send()) == goes, how.happened
        assert (desk.states()[-1] == "withdrawn") != goes
    desk = Desk()
    desk.take(event("a", priority="medium", at=at()), cleared("a", priority="medium", at=at()))
    desk.pass_(1)
    assert desk.send() == [] and desk.records[-1].error == "it is over"


def test_what_is_old_is_told_only_while_it_stands() -> None:
    desk = Desk()
    desk.take(event("a", at=at(-7 * 3600)), event("b", at=at(-7 * 3600), patient="p1"))
    desk.take(cleared("b", at=at(-6.5 * 3600)))
    desk.pass_(1)
    assert desk.send() == [("board", 2)]
    desk = Desk()
    desk.take(event("b", at=at(-7 * 3600)), cleared("b", at=at(-6.5 * 3600)))
    desk.pass_(1)
    assert desk.send() == [] and desk.states()[-1] == "withdrawn"


def test_quiet_hours_hold_all_but_high_priority() -> None:
    # T0 is 2026-09-21 14:13:20 UTC, 16:13:20 in Berlin.
    desk = Desk(anna=webhook(quiet_hours="16:00-17:00", time_zone="Europe/Berlin"))
    desk.take(event("a", priority="medium", at=at()))
    desk.pass_(1)
    assert desk.send() == []
    desk.take(event("b", priority="low", at=at()))
    desk.pass_(600)
    assert desk.send() == []
    assert desk.records[-1].due is not None and desk.records[-1].due.hour == 15
    desk.take(event("c", at=at()))
    desk.pass_(1)
    assert desk.send() == [("anna", 3)]
    assert "late" not in desk.states(), "the high one has not waited"
    desk.take(event("d", priority="low", at=at()))
    desk.pass_(120)
    assert desk.send() == []
    desk.pass_(2400)
    assert desk.send() == [("anna", 1)]


def test_a_destination_that_is_taken_away() -> None:
    desk = Desk()
    desk.take(event("a", at=at()))
    desk.pass_(1)
    desk.send(DOWN)
    desk.destinations = {}
    desk.pass_(130)
    assert desk.states()[-1] == "withdrawn" and desk.post.wake() is None


def test_under_way_at_a_kill_is_sent_again_under_the_same_id_and_nothing_joins_it() -> None:
    desk = Desk()
    desk.take(event("a", at=at()))
    desk.pass_(1)
    (one,) = desk.post.ready(desk.now)
    desk.post.begin(one, desk.now)
    desk.look()
    desk.post.resume(desk.now)
    desk.take(event("b", at=at()))
    (again,) = desk.post.ready(desk.now)
    assert (again.id, again.group.count) == (one.id, 1)
    assert desk.send() == [("board", 1)]
    desk.pass_(60)
    assert desk.send() == [("board", 1)]
    assert len({record.delivery_id for record in desk.records}) == 2


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["raise", "again", "ack", "clear", "retract", "repeat", "time", "ok", "down", "gone", "revive"]
        ),
        st.integers(0, 3),
        st.sampled_from(["high", "medium", "low"]),
        st.integers(0, 4000),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=200)
def test_every_notification_ends_and_what_is_undelivered_is_known(script: list[tuple[str, int, str, int]]) -> None:
    """Whatever happens: each alarm is in one notification, each ends once, the count of the undelivered is right."""
    desk = Desk()
    numbers: dict[str, int] = {}
    last: dict[str, AlertEvent] = {}
    told = 0
    for what, which, priority, seconds in script:
        name = f"a{which}"
        if what in ("raise", "again", "ack", "clear", "retract"):
            numbers[name] = numbers.get(name, 0) + 1
            make = {"ack": acknowledged, "clear": cleared}.get(what)
            if make is not None:
                made = make(name, numbers[name], priority=priority, at=desk.now)
            elif what == "retract":
                made = event(name, numbers[name], priority, desk.now, state="retracted", notify=False)
            else:
                made = event(name, numbers[name], priority, desk.now)
            told += made.notify
            last[name] = made
            desk.take(made)
        elif what == "repeat" and name in last:
            desk.take(last[name])
        elif what == "time":
            desk.pass_(seconds)
        elif what == "revive":
            desk.post.revive("board", desk.now)
        else:
            desk.send({"ok": DELIVERED, "down": DOWN}.get(what, Outcome("refused", "HTTP 410")))
        desk.look()
        memory = desk.post.memory
        assert memory.told == sum(one.failing for one in memory.deliveries)
        assert sum(one.state == "waiting" for one in memory.deliveries) <= 1
    numbered: dict[str, list[int]] = {}
    for record in desk.records:
        numbered.setdefault(record.delivery_id, []).append(record.number)
    assert all(found == list(range(1, len(found) + 1)) for found in numbered.values())
    for _ in range(60):
        desk.send()
        desk.pass_(120)
    desk.pass_(2 * FORGET_US / S)
    for name, number in numbers.items():
        desk.take(cleared(name, number + 1, at=desk.now))
    desk.pass_(2 * 3600)
    desk.send()
    desk.pass_(2 * FORGET_US / S)
    desk.pass_(2 * 3600)
    assert desk.post.memory.empty and desk.post.memory.told == 0
    known = {record.delivery_id: record for record in desk.records}
    assert sum(record.count for record in known.values()) == told
    assert {record.state for record in known.values()} <= {"delivered", "failed", "withdrawn", "settled"}


clinical = st.fixed_dictionaries(
    {
        "title": st.just("Very low SpO2"), "text": st.sampled_from(["SpO2 is 81.5 %.", "Heart stopped 8.25 s"]),
        "value": st.floats(1000.125, 9999.0).map(lambda v: round(v, 3)), "limit": st.just(7777.5),
        "unit": st.sampled_from(["mg/dL", "mm[Hg]", "/min"]), "metric": st.sampled_from(["glucose", "bp_systolic"]),
        "rule": st.sampled_from(["glucose-very-low", "asystole"]), "team": st.just("oncology"),
        "patient": st.just("pat-4711"), "note": st.just("lacks consciousness"), "device_id": st.just("meter-9"),
        "reason": st.just("sepsis suspected"), "comment": st.just("he is diabetic"),
        "priority": st.sampled_from(["high", "medium", "low"]), "escalation_level": st.integers(0, 3),
    }
)  # fmt: skip


@given(st.lists(clinical, min_size=1, max_size=5), st.booleans())
def test_no_default_notification_says_anything_clinical(found: list[dict[str, Any]], over: bool) -> None:
    """Neither what it is, nor a value, a limit, a unit, a team, a device, nor of whom."""
    desk = Desk(board=webhook())
    desk.take(*(event(f"a{n}", at=at(), **fields) for n, fields in enumerate(found)))
    desk.pass_(1)
    (one,) = desk.post.ready(desk.now)
    made = notice(one, "pat-4711", "none", "https://clinic.example/{alert_id}", over)
    said = f"{made.subject}\n{made.text}\n{orjson.dumps(made.document).decode()}"
    for fields in found:
        for name, value in fields.items():
            if name not in ("priority", "escalation_level"):
                assert str(value) not in said, name
    assert "81.5" not in said and "SpO2" not in said
    records = "".join(record.model_dump_json() for record in desk.records)
    for word in ("SpO2", "7777.5", "glucose", "mg/dL", "asystole", "sepsis", "diabetic", "meter-9"):
        assert word not in records, "nor does alert.deliveries"
    told = notice(one, "pat-4711", "patient")
    assert "pat-4711" in told.text and "SpO2" not in orjson.dumps(told.document).decode()
    whole = notice(one, "pat-4711", "clinical")
    assert one.group.event["text"] in whole.text and whole.document["data"]["value"] == one.group.event["value"]


def test_a_lane_keeps_its_rate_and_high_priority_has_its_own() -> None:
    lane = Lane(per_minute=6, at_once=4)
    gone = 0
    for second in range(120):
        while lane.may(False, at(second)):
            lane.begin(False, at(second))
            lane.end(True)
            gone += 1
    assert gone == 6 + 11
    assert lane.may(True, at(120))
    for _ in range(4):
        lane.begin(True, at(120))
    assert not lane.may(True, at(120)), "so many at once"


def test_a_lane_in_doubt_tries_one_at_a_time_and_keeps_the_pause_it_was_asked_for() -> None:
    lane = Lane(60, 4)
    for _ in range(3):
        lane.begin(True, T0)
    for _ in range(3):
        lane.end(False)
    lane.begin(True, T0)
    assert not lane.may(True, T0)
    lane.end(True, at(30))
    assert not lane.may(True, at(29)) and lane.may(True, at(30))


@given(st.text(min_size=1, max_size=20), st.integers(1, 200), st.none() | st.floats(-10, 1e9))
def test_pauses_are_bounded(name: str, attempts: int, asked: float | None) -> None:
    assert 1.5 * S <= pause_us(name, attempts, asked) <= 900 * S
    if asked is not None:
        assert pause_us(name, attempts, asked) >= min(asked, 900) * S


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[destination.d]\nemail = "a@b.c"', "smtp"),
        ('[destination.d]\nwebhook = "https://x.example/"', "signed"),
        ('[destination.d]\nwebhook = "http://x.example/"\nsecret = { env = "S" }', "unencrypted"),
        ('[destination.d]\nwebhook = "https://me:hush-hush@x.example/"\nsecret = { env = "S" }', "user or password"),
        ('[destination.d]\nwebhook = "ftp://x.example/"\nsecret = { env = "S" }', "https://"),
        ('[destination.d]\nsecret = "hush-hush"\nwebhook = "https://x.example/"', "secret"),
        ('[destination.d]\napprise = "tgram://hush-hush/1"', "apprise"),
        ('[destination.d]\nemail = "a@b.c"\napprise = { env = "A" }', "exactly one"),
        ("[destination.d]\npriority = 'high'", "exactly one"),
        ('[destination.d]\napprise = { env = "A" }\ntime_zone = "Mars/Olympus"', "time zone"),
        ('[destination.d]\napprise = { env = "A" }\nquiet_hours = "22:00-22:00"', "no time"),
        ('[destination.d]\napprise = { env = "A" }\nteam = "care"', "team"),
        ('[destination."D 1"]\napprise = { env = "A" }', "D 1"),
        ("link = 'https://x/{patient}'", "link"),
        ('[smtp]\nhost = "mail.example"\nsender = "a@b.c"\nsecurity = "none"', "unencrypted"),
        ('[smtp]\nhost = "mail.example"\nsender = "a@b.c"\nusername = "x"', "together"),
        ("[[", "TOML"),
    ],
)
def test_a_file_that_cannot_work_is_refused_without_quoting_secrets(text: str, why: str) -> None:
    with pytest.raises(DestinationsError, match=why) as error:
        parse(text)
    assert "hush-hush" not in str(error.value)


@given(st.text(max_size=200))
def test_any_text_is_destinations_or_refused(text: str) -> None:
    with contextlib.suppress(DestinationsError):
        parse(text)
