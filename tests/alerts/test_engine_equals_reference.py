"""Whatever the order, the repeats, the corrections and the restarts: the alerts are those of the reference model."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from tests.alerts import reference
from tests.alerts.feeding import Corrects, engine, feature, given, reading, take_feature, us
from vitalgate.alerts import rules, track
from vitalgate.alerts.engine import Engine
from vitalgate.alerts.events import AlertEvent
from vitalgate.devices.records import PatientInput

RULES = ("spo2-low", "spo2-critical", "blood-pressure-crisis", "glucose-low", "weight-gain")
VALUES = {
    "spo2": [80.0, 83.0, 86.0, 89.0, 90.0, 91.0, 92.0, 97.0],
    "bp_systolic": [120.0, 170.0, 175.0, 180.0, 200.0],
    "bp_diastolic": [80.0, 112.0, 120.0],
    "glucose": [60.0, 69.0, 70.0, 79.0, 80.0],
    "weight": [80.0, 80.6, 81.4, 82.0, 82.6, 83.1],
}
STEP = {"spo2": 10.0, "bp_systolic": 60.0, "bp_diastolic": 60.0, "glucose": 60.0, "weight": 43200.0}
BOOK = rules.load()


def make_messages(chance: random.Random, count: int) -> list[PatientInput]:
    """Messages of three devices, the third without numbering, with corrections of all kinds."""
    found: list[PatientInput] = []
    metric = chance.choice(sorted(VALUES))
    span = chance.choice([4, 12, 24])
    for seq in range(count):
        device = chance.choice(["d1", "d1", "d1", "d2", "d3"])
        readings = []
        for item in range(chance.randint(1, 2)):
            name = metric if chance.random() < 0.8 else chance.choice(sorted(VALUES))
            at = chance.randint(0, span) * STEP[name]
            fields: dict[str, Any] = {}
            kind = chance.randint(0, 11) if device != "d3" else 99
            message = {"epoch": "e1", "seq": chance.randrange(count + 1), "index": chance.randint(0, 1)}
            if kind == 0:
                fields["corrects"] = Corrects(**message)
            elif kind == 1:
                fields["corrects"] = Corrects(time_us=us(chance.randint(0, span) * STEP[name]))
            elif kind == 2:
                fields["corrects"] = Corrects(**message, retract=True)
            value = chance.choice(VALUES[name]) if chance.random() < 0.95 else None
            readings.append(reading(name, at, value, item, **fields))
        found.append(given(*readings, device=device, seq=seq, epoch_no=0 if device == "d3" else 1))
    return found


def restarted(old: Engine, durable: dict[str, bytes]) -> Engine:
    durable.update(old.dirty())
    new = engine(*RULES)
    for name, packed in durable.items():
        new.load(name, packed)
    return new


def known(subject: Engine) -> list[tuple[str, int, int | None]]:
    return sorted((rule, onset, end) for rule, onset, state, end in subject.alerts("p1") if state != "retracted")


def expected(inputs: list[PatientInput]) -> list[tuple[str, int, int | None]]:
    samples = reference.standing(inputs)
    return sorted((name, onset, end) for name in RULES for onset, end in reference.intervals(BOOK.rules[name], samples))


def check_story(events: list[AlertEvent], subject: Engine) -> None:
    """The events, read one by one, never have two open alerts of a rule, and lead to what is known."""
    open_now: dict[str, str] = {}
    last: dict[str, AlertEvent] = {}
    for event in events:
        before = last.get(event.alert_id)
        assert event.number == (before.number if before else 0) + 1
        if event.happened in ("raised", "again"):
            # Only what is over already, and said so, may be told beside an open alert.
            over = event.hindsight and any(e.number == event.number + 1 for e in events if e.alert_id == event.alert_id)
            assert event.rule not in open_now or over, f"two open alerts of {event.rule}"
            open_now.setdefault(event.rule, event.alert_id)
        elif event.state in ("cleared", "closed", "retracted") and open_now.get(event.rule) == event.alert_id:
            del open_now[event.rule]
        last[event.alert_id] = event
    assert len({event.event_id for event in events}) == len(events)
    told = sorted((e.rule, e.onset, e.cleared_at) for e in last.values() if e.state != "retracted")
    assert len(told) == len(known(subject))


@settings(max_examples=800, deadline=None)
@forall(st.integers(0, 1 << 40), st.integers(1, 40))
def test_any_order_repeats_and_restarts(seed: int, count: int) -> None:
    chance = random.Random(seed)
    inputs = make_messages(chance, count)
    arrivals = inputs + chance.sample(inputs, k=len(inputs) // 3)
    chance.shuffle(arrivals)
    # Of messages without numbering the log decides the order: it is the offset.
    subject = engine(*RULES)
    durable: dict[str, bytes] = {}
    events: list[AlertEvent] = []
    for record in arrivals:
        events += subject.take(record, us(0))
        if chance.random() < 0.1:
            subject = restarted(subject, durable)
    assert known(subject) == expected(inputs)
    check_story(events, subject)


@settings(max_examples=40, deadline=None)
@forall(st.integers(0, 1 << 40), st.integers(1, 40))
def test_long_stretch_in_order_is_exact_beyond_the_samples_kept(seed: int, count: int) -> None:
    chance = random.Random(seed)
    runs = [(chance.choice([86.0, 89.0, 91.0, 93.0, 97.0]), chance.randint(1, 60)) for _ in range(count)]
    subject = engine(*RULES)
    durable: dict[str, bytes] = {}
    inputs = []
    at = 0
    for value, length in runs:
        for _ in range(length):
            at += 3
            inputs.append(given(reading("spo2", at, value), seq=at))
            subject.take(inputs[-1], us(at))
        subject = restarted(subject, durable)
    wanted = expected(inputs)
    assert known(subject)[-20:] == wanted[-20:]
    assert len(subject._patient("p1").series["reading/spo2"].main) <= track.FOLD_AT


@settings(max_examples=300, deadline=None)
@forall(st.integers(0, 1 << 40), st.integers(0, 25))
def test_rhythm_events_in_any_order(seed: int, count: int) -> None:
    chance = random.Random(seed)
    places = chance.sample(range(41), k=count)
    found = [(k, chance.randint(0, 2), chance.choice([2.2, 3.0, 3.4])) for k in places]
    gone = set(chance.sample(range(41), k=chance.randint(0, 20)))
    records = [feature("event.pause", 45.0 * k, 45.0 * k + length, value) for k, length, value in found]
    records += [
        feature("event.pause", 45.0 * k, 45.0 * k + length, value, revision=2, withdrawn=True)
        for k, length, value in found if k in gone
    ]  # fmt: skip
    records += chance.sample(records, k=len(records) // 2)
    chance.shuffle(records)
    subject = engine("pause")
    durable: dict[str, bytes] = {}
    events: list[AlertEvent] = []
    clock = 0.0
    for record in records:
        events += take_feature(subject, record)
        if chance.random() < 0.2:
            clock += chance.random() * 400
            events += subject.tick(us(clock), us(clock))
        if chance.random() < 0.1:
            durable.update(subject.dirty())
            subject = engine("pause")
            for name, packed in durable.items():
                subject.load(name, packed)
    events += subject.tick(us(86400 * 2), us(86400 * 2))
    samples = [(us(45.0 * k), us(45.0 * k + n), value) for k, n, value in found if k not in gone]
    wanted = reference.intervals(BOOK.rules["pause"], {"event.pause": samples})
    assert known(subject) == [("pause", onset, end) for onset, end in wanted]
    check_story(events, subject)
