"""Every shipped rule fires, stays quiet and keeps its boundaries as its vectors say."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from vitalgate.alerts import rules, vectors
from vitalgate.alerts.conditions import Day, Event, Flagged, Score, Silent, Threshold, Trend
from vitalgate.alerts.rule import ORDER

FOLDER = files("vitalgate.alerts") / "rules"


def beside(rule: Any) -> list[vectors.Vector]:
    return vectors.parse((FOLDER / f"{rule.id}.vectors.toml").read_text(encoding="utf-8"))


def every_vector() -> list[Any]:
    return [
        pytest.param(rule, vector, id=f"{rule.id}: {vector.name}")
        for rule in rules.shipped() for vector in beside(rule)
    ]  # fmt: skip


@pytest.mark.parametrize(("rule", "vector"), every_vector())
def test_vector(rule: Any, vector: vectors.Vector) -> None:
    assert vectors.come_of(rule, vector) == vector.expect


@pytest.mark.parametrize("rule", rules.shipped(), ids=lambda rule: rule.id)
def test_rule_has_vectors_of_every_kind(rule: Any) -> None:
    assert vectors.faults(rule, beside(rule)) == []


def test_a_wrong_vector_is_a_fault() -> None:
    rule = next(rule for rule in rules.shipped() if rule.id == "spo2-critical")
    wrong = [v.model_copy(update={"expect": [[1.0]]}) for v in beside(rule)]
    assert len(vectors.faults(rule, wrong)) >= len(wrong)
    assert "no vector is quiet" in vectors.faults(rule, [v for v in beside(rule) if v.kind != "quiet"])[0]


def test_file_names_are_rule_ids() -> None:
    names = {item.name for item in FOLDER.iterdir()}
    assert names == {f"{rule.id}{end}" for rule in rules.shipped() for end in (".toml", ".vectors.toml")}


def test_thirty_rules_and_every_class_of_condition() -> None:
    shipped = rules.shipped()
    assert len(shipped) >= 30
    classes = {type(condition) for rule in shipped for condition in rule.when}
    assert classes == {Threshold, Trend, Event, Flagged, Silent, Score, Day}
    assert any(rule.combine == "all" for rule in shipped) and any(rule.latched for rule in shipped)
    assert {rule.kind for rule in shipped} == {"physiological", "technical"}


def test_suppressed_rules_exist_and_are_of_no_higher_priority() -> None:
    known = {rule.id: rule for rule in rules.shipped()}
    for rule in known.values():
        for name in rule.suppresses:
            assert name in known, f"{rule.id} suppresses {name}, which is no rule"
            assert ORDER[known[name].priority] <= ORDER[rule.priority], f"{rule.id} suppresses {name}"
