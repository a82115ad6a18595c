"""Repeats, reordering, corrections, restarts, commands and timers: after each step the engine knows what the reference
model knows that works everything out anew.

``VITALGATE_ALERT_RUNS=10000 pytest tests/alerts/test_care_equals_reference.py`` is the long run.
"""

from __future__ import annotations

import os
import random
from typing import Any

from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from tests.alerts.care_reference import World
from tests.alerts.feeding import Corrects, given, reading, us
from vitalgate.alerts import rules
from vitalgate.alerts.commands import Command
from vitalgate.alerts.engine import Engine
from vitalgate.alerts.events import AlertEvent, alert_id, when
from vitalgate.alerts.roster import Roster

RUNS = int(os.environ.get("VITALGATE_ALERT_RUNS", "250"))
SHIPPED = rules.load().rules
BOOK = rules.Book(
    [
        SHIPPED["spo2-critical"],
        SHIPPED["spo2-low"],
        SHIPPED["glucose-very-low"].model_copy(update={"latched": True}),
        SHIPPED["glucose-low"].model_copy(update={"settle_s": 100.0}),
    ]
)
ROSTER = Roster.model_validate(
    {
        "team": "care", "members": ["anna", "ben"], "always_on_call": ["duty"],
        "escalation": {
            "high": [{"after_s": 60, "to": "team"}, {"after_s": 150, "to": "on-call"}],
            "medium": [{"after_s": 200, "to": "team"}],
        },
    }
)  # fmt: skip
VALUES = {"spo2": [80.0, 83.0, 86.0, 89.0, 91.0, 92.0, 97.0], "glucose": [50.0, 60.0, 69.0, 79.0, 90.0]}
STEP = {"spo2": 15.0, "glucose": 60.0}


def message(chance: random.Random, seq: int, span: int) -> Any:
    name = chance.choice(["spo2", "spo2", "glucose"])
    at = chance.randint(0, span) * STEP[name]
    fields: dict[str, Any] = {}
    kind = chance.randint(0, 9)
    if kind == 0:
        fields["corrects"] = Corrects(epoch="e1", seq=chance.randrange(seq + 2), index=0)
    elif kind == 1:
        fields["corrects"] = Corrects(epoch="e1", seq=chance.randrange(seq + 2), index=0, retract=True)
    return given(reading(name, at, chance.choice(VALUES[name]), 0, **fields), seq=seq)


def fresh() -> Engine:
    made = Engine(BOOK, "care")
    made.roster_changed("care", ROSTER)
    return made


def restarted(old: Engine, durable: dict[str, bytes]) -> Engine:
    durable.update(old.dirty())
    new = fresh()
    for name, packed in durable.items():
        new.load(name, packed)
    assert new.recheck(0) == []
    return new


def known(subject: Engine) -> list[tuple[object, ...]]:
    return sorted(
        (rule, a.onset, a.end, a.closed, a.acknowledged_by, a.level, a.silenced_until,
         a.suppressed_by if a.state == "raised" else "")
        for rule, alerts in subject._patient("p1").known.items() for a in alerts if a.state != "retracted"
    )  # fmt: skip


def give(subject: Engine, name: str, action: str, rule: str, onset: int, until: int, at: int) -> tuple[Any, bool]:
    more: dict[str, Any] = {"until": when(until), "reason": "r"} if action == "silence" else {}
    command = Command(
        command_id=f"command-{name}", alert_id=alert_id("p1", rule, onset), patient="p1", who="anna",
        action=action, at=when(at), **more,
    )  # type: ignore[arg-type]  # fmt: skip
    events, reply = subject.command(command, at)
    return events, reply.outcome == "done"


@settings(max_examples=RUNS, deadline=None)
@forall(st.integers(0, 1 << 40), st.integers(1, 30))
def test_after_each_step_the_engine_knows_what_the_reference_knows(seed: int, count: int) -> None:
    chance = random.Random(seed)
    span = chance.choice([6, 12, 24])
    world = World(list(BOOK.rules.values()), ROSTER)
    subject, durable = fresh(), dict[str, bytes]()
    events: list[AlertEvent] = []
    seen: list[Any] = []
    clock = 0.0
    for seq in range(count):
        kind = chance.random()
        if kind < 0.55:
            record = message(chance, seq, span)
            seen.append(record)
            world.take(record)
            events += subject.take(record, us(clock))
        elif kind < 0.8:
            clock += chance.choice([5, 40, 90, 300])
            world.tick(us(clock))
            events += subject.tick(us(clock), us(clock))
        else:
            alerts = [(rule, onset) for rule, found in world.alerts.items() for onset in found] or [("spo2-low", 0)]
            rule, onset = chance.choice(alerts)
            action = chance.choice(["acknowledge", "silence", "unsilence"])
            given_ = (str(chance.randrange(seq + 1)), action, rule, onset)
            until = us(clock + chance.choice([-10, 50, 200]))
            wanted = world.command(*given_, "anna", until, us(clock))
            told, obeyed = give(subject, *given_, until, us(clock))
            events += told
            assert obeyed == wanted
        if seen and chance.random() < 0.3:
            assert subject.take(chance.choice(seen), us(clock)) == [], "a repeat says nothing"
        if chance.random() < 0.15:
            # The clock is not in the memory: it is the next tick that tells the time.
            subject, now = restarted(subject, durable), subject.now
            events += subject.tick(now, now)
            world.tick(now)
        assert known(subject) == world.standing()
    check_numbers(events)


def check_numbers(events: list[AlertEvent]) -> None:
    """Every step is told once, in order, and the story of each alert holds together."""
    last: dict[str, AlertEvent] = {}
    for event in events:
        before = last.get(event.alert_id)
        assert event.number == (before.number if before else 0) + 1
        if event.happened in ("acknowledged", "escalated", "suppressed", "again"):
            assert before is not None and before.state != "retracted"
        if event.happened == "escalated" and before is not None:
            assert event.escalation_level > before.escalation_level
        assert not (event.notify and (event.suppressed_by or event.acknowledged_by or event.silenced_until))
        last[event.alert_id] = event
    assert len({event.event_id for event in events}) == len(events)
    standing = [e for e in last.values() if not e.closed and e.cleared_at is None]
    assert len({e.rule for e in standing}) == len(standing), "two open alerts of one rule"
