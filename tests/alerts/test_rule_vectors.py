"""Every shipped rule fires, stays quiet and keeps its boundaries as its vectors say."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

import pytest

from tests.alerts.feeding import T0, S, engine, feature, given, reading, take_feature, us
from vitalgate.alerts import rules

FOLDER = files("vitalgate.alerts") / "rules"


def vectors() -> list[Any]:
    found = []
    for rule in rules.shipped():
        document = tomllib.loads((FOLDER / f"{rule.id}.vectors.toml").read_text(encoding="utf-8"))
        found += [pytest.param(rule.id, vector, id=f"{rule.id}: {vector['name']}") for vector in document["vector"]]
    return found


def samples(vector: dict[str, Any]) -> list[tuple[float, str, float, float]]:
    """(time, key, value, end) in order of time."""
    found: list[tuple[float, str, float, float]] = []
    for run in vector["runs"]:
        for at, value in run.get("points", []):
            found.append((at, run["key"], value, at))
        for start, end, value in run.get("events", []):
            found.append((start, run["key"], value, end))
        if "every" in run:
            at = run["first"]
            while at <= run["last"]:
                found.append((at, run["key"], run["value"], at))
                at += run["every"]
    return sorted(found)


@pytest.mark.parametrize(("rule", "vector"), vectors())
def test_vector(rule: str, vector: dict[str, Any]) -> None:
    subject = engine(rule)
    for number, (at, key, value, end) in enumerate(samples(vector)):
        source, _, name = key.partition("/")
        if source == "reading":
            subject.take(given(reading(name, at, value), seq=number), us(at))
        else:
            take_feature(subject, feature(name, at, end, value))
    subject.tick(us(40 * 86400), us(40 * 86400))
    told = [
        [(onset - T0) / S] if end is None else [(onset - T0) / S, (end - T0) / S]
        for _, onset, state, end in subject.alerts("p1")
        if state != "retracted"
    ]
    assert told == vector["expect"]


@pytest.mark.parametrize("rule", rules.shipped(), ids=lambda rule: rule.id)
def test_rule_has_vectors_of_every_kind(rule: Any) -> None:
    document = tomllib.loads((FOLDER / f"{rule.id}.vectors.toml").read_text(encoding="utf-8"))
    assert {vector["kind"] for vector in document["vector"]} == {"firing", "quiet", "boundary"}
    for vector in document["vector"]:
        assert bool(vector["expect"]) or vector["kind"] != "firing"
        assert not vector["expect"] or vector["kind"] != "quiet"


def test_file_names_are_rule_ids() -> None:
    names = {item.name for item in FOLDER.iterdir()}
    assert names == {f"{rule.id}{end}" for rule in rules.shipped() for end in (".toml", ".vectors.toml")}
