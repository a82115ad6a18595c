"""NEWS2 alerts in any order, with repeats and restarts: those of a naive score that sees everything at once."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from tests.alerts.feeding import given, reading, us
from vitalgate.alerts import news2, rules
from vitalgate.alerts.compiling import NEWS2_INPUTS
from vitalgate.alerts.engine import Engine

SHIPPED = rules.load().rules
BOOK = rules.Book([SHIPPED[name] for name in ("news2-high", "news2-medium", "news2-red", "glucose-high-again")])
VALUES: dict[str, list[float]] = {
    "respiration_rate": [8, 10, 16, 22, 25], "spo2": [83, 90, 93, 95, 97], "bp_systolic": [85, 95, 105, 130, 230],
    "pulse_rate": [38, 45, 70, 100, 120, 140], "temperature": [34.5, 35.5, 37.0, 38.5, 39.5],
    "glucose": [100.0, 251.0, 300.0],
}  # fmt: skip
CODES = {"oxygen": ["air", "oxygen"], "consciousness": ["A", "A", "C"]}
HOURS = {key.removeprefix("reading/"): hours for _, key, hours in NEWS2_INPUTS}


def story(chance: random.Random, count: int) -> list[Any]:
    names = [*VALUES, *CODES]
    found = []
    taken = set()
    for seq in range(count):
        name = chance.choice(names)
        at = chance.randint(0, 60) * 1800
        if (name, at) in taken:
            continue
        taken.add((name, at))
        if name in CODES:
            made = reading(name, at, None, value_code=chance.choice(CODES[name]))
        else:
            made = reading(name, at, chance.choice(VALUES[name]))
        found.append(given(made, seq=seq))
    return found


def engine_of(scale: float) -> Engine:
    made = Engine(BOOK, "care")
    if scale == 2:
        made.patient_changed("p1", "", {"_facts": {"spo2_scale": 2}}, 0)
    return made


def alerts(subject: Engine) -> list[tuple[str, int, int | None]]:
    subject.tick(us(40 * 3600), us(40 * 3600))
    return [(rule, onset, end) for rule, onset, state, end in subject.alerts("p1") if state != "retracted"]


def naive(inputs: list[Any], scale: int) -> list[tuple[str, int, int | None]]:
    """The score at every moment at which it can change, from single values."""
    series: dict[str, list[tuple[int, float]]] = {}
    for record in inputs:
        one = record.message.readings[0]
        value = one.value_num if one.value_num is not None else float({"air": 0, "A": 0}.get(one.value_code, 1))
        series.setdefault(one.metric, []).append((one.time_us, value))
    series.pop("glucose", None)
    for values in series.values():
        values.sort()
    moments = sorted({t for values in series.values() for t, _ in values})
    moments += [t + round(HOURS[name] * 3.6e9) for name, values in series.items() for t, _ in values]
    found: list[tuple[str, int, int | None]] = []
    for name in ("news2-high", "news2-medium", "news2-red"):
        condition: Any = BOOK.rules[name].when[0]
        onset: int | None = None
        for moment in sorted(set(moments)):
            fresh: dict[str, float | None] = {}
            ever: dict[str, float | None] = {}
            for metric, values in series.items():
                past = [(t, v) for t, v in values if t <= moment]
                if past:
                    parameter = "pulse" if metric == "pulse_rate" else metric
                    ever[parameter] = past[-1][1]
                    if moment < past[-1][0] + HOURS[metric] * 3.6e9:
                        fresh[parameter] = past[-1][1]
            # Whether on oxygen is the newest there is, for a score that is a lower bound and for one that stands.
            a, b = news2.score(fresh, scale), news2.score(ever, scale)
            bad = bool(a.red) if condition.red else a.total >= condition.limit
            bad = bad and 7 - len(a.missing) >= condition.inputs
            well = not b.red if condition.red else b.total <= condition.clear
            if onset is None and bad:
                onset = moment
            elif onset is not None and well and not bad:
                found.append((name, onset, moment))
                onset = None
        if onset is not None:
            found.append((name, onset, None))
    return sorted(found)


@settings(max_examples=150, deadline=None)
@forall(st.integers(0, 1 << 40), st.integers(1, 60), st.sampled_from([1, 2]))
def test_as_the_naive_score_says_in_any_order(seed: int, count: int, scale: int) -> None:
    chance = random.Random(seed)
    inputs = story(chance, count)
    arrivals = inputs + chance.sample(inputs, k=len(inputs) // 4)
    if chance.random() < 0.7:
        chance.shuffle(arrivals)
    else:
        arrivals.sort(key=lambda record: record.message.readings[0].time_us)
    subject = engine_of(scale)
    durable: dict[str, bytes] = {}
    for record in arrivals:
        subject.take(record, 0)
        if chance.random() < 0.1:
            durable.update(subject.dirty())
            subject = engine_of(scale)
            for name, packed in durable.items():
                subject.load(name, packed)
    got = alerts(subject)
    assert [one for one in got if one[0] != "glucose-high-again"] == naive(inputs, scale)
    in_order = engine_of(scale)
    for record in sorted(inputs, key=lambda record: record.message.readings[0].time_us):
        in_order.take(record, 0)
    assert got == alerts(in_order)
