"""Scenario files: the shipped ones are sound, a wrong one is told what is wrong, and outcomes are judged."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vitalgate.devices import catalogue
from vitalgate.devices.reasons import Reason
from vitalgate.simulators import scenario as scenarios
from vitalgate.simulators.outcome import Alert, judge
from vitalgate.simulators.reckoning import Reckoning
from vitalgate.simulators.scenario import ScenarioError, check, load, shipped

KINDS = catalogue.load()
RULES = Path(scenarios.__file__).parents[1] / "alerts" / "rules"
ASKED_FOR = {
    "stable", "sepsis", "af-onset", "bradycardia-pauses", "heart-failure", "hypoglycaemia", "sensor-off",
    "flaky-network", "offline-hours", "clock-skew", "corrections", "duplicates", "garbage", "handed-over",
}  # fmt: skip
START = 1_790_000_000.0


def test_all_scenarios_are_there() -> None:
    assert set(shipped()) >= ASKED_FOR


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_scenario_is_sound_and_names_rules_that_exist(name: str) -> None:
    scenario = load(name, KINDS.kinds)
    assert scenario.name == name
    for alert in scenario.expect.alerts:
        rule = tomllib.loads((RULES / f"{alert.rule}.toml").read_text())
        assert rule["priority"] == alert.priority
        assert 0 <= alert.onset <= scenario.seconds
    reasons = {each.value for each in Reason}
    assert set(scenario.expect.dead_lettered) <= reasons
    assert scenario.seconds / scenario.speed <= 100, "a scenario takes a person's time"


def test_every_kind_is_in_a_scenario() -> None:
    used = {device.kind for name in shipped() for p in load(name).patients for device in p.devices}
    assert used == set(KINDS.kinds)


GOOD: dict[str, Any] = {
    "name": "x", "title": "x", "seconds": 10, "patients": [{"name": "a", "devices": ["scale"]}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"patients": []}, "patients: List should have at least 1 item"),
        ({"seconds": -1}, "seconds: Input should be greater than 0"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"patients": [{"name": "a", "devices": ["toaster"]}]}, "no device kind toaster; there are"),
        ({"patients": [{"name": "a", "devices": ["scale", "scale"]}]}, "two devices called scale; give one a `name`"),
        ({"patients": [{"name": "a", "body": {"wings": 2}}]}, "a body has no wings; it has age"),
        (
            {"patients": [{"name": "a", "changes": [{"what": "mood", "set": [[0, 1]]}]}]},
            "'mood' cannot be changed; one of heart_rate",
        ),
        (
            {"patients": [{"name": "a", "changes": [{"what": "spo2"}]}]},
            "the change of spo2 needs either `set` or `add`",
        ),
        (
            {"patients": [{"name": "a", "changes": [{"what": "spo2", "set": [[5, 1], [0, 1]]}]}]},
            "in order of time",
        ),
        ({"events": [{"at": 1, "device": "z", "do": "offline", "seconds": 1}]}, "patient 'z'; there are a"),
        ({"events": [{"at": 1, "device": "a/ecg", "do": "offline", "seconds": 1}]}, "no device 'ecg'; it has scale"),
        ({"events": [{"at": 1, "device": "a", "do": "offline"}]}, "offline at 1.0 needs `seconds` above 0"),
        ({"events": [{"at": 1, "device": "a", "do": "correct"}]}, "needs either `value` or `change`"),
        ({"events": [{"at": 1, "device": "a", "do": "garbage"}]}, "needs `what`"),
        ({"events": [{"at": 1, "device": "a", "do": "hand-over", "to": "q"}]}, "no patient 'q'; there are a"),
        (
            {"expect": {"alerts": [{"patient": "q", "rule": "r", "priority": "low", "onset": 1}]}},
            "expect.alerts: no patient 'q'",
        ),
    ],
)
def test_a_wrong_scenario_is_told_what_is_wrong(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        check({**GOOD, **change}, "mine.toml", KINDS.kinds)
    assert "mine.toml is not a usable scenario" in str(caught.value)
    assert told in str(caught.value)


def test_a_file_runs_by_its_path_and_a_missing_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\ntitle = "Mine"\nseconds = 5\n[[patients]]\nname = "a"\ndevices = ["scale"]\n')
    assert load(str(path), KINDS.kinds).title == "Mine"
    with pytest.raises(ScenarioError, match="neither a file nor one of af-onset"):
        load("nonsense")
    path.write_text("name = ")
    with pytest.raises(ScenarioError, match="cannot be read as TOML"):
        load(str(path))


def _alert(rule: str, onset: float, state: str = "raised", priority: str = "high", patient: str = "p-a") -> Alert:
    return Alert(f"{rule}-{onset}", patient, rule, priority, START + onset, state, False)


def _judged(raised: list[Alert], found: Reckoning | None = None, **expect: Any) -> list[str]:
    scenario = check({**GOOD, "expect": expect}, "x")
    return judge(scenario, {"p-a": "a"}, START, raised, found or Reckoning())


def test_outcomes_are_judged() -> None:
    wanted = [{"patient": "a", "rule": "spo2-critical", "priority": "high", "onset": 20}]
    assert _judged([_alert("spo2-critical", 24.9)], alerts=wanted) == []
    assert "5.1 s from 20 s" in _judged([_alert("spo2-critical", 25.1)], alerts=wanted)[0]
    assert "was not raised" in _judged([], alerts=wanted)[0]
    assert "priority low" in _judged([_alert("spo2-critical", 20, priority="low")], alerts=wanted)[0]
    assert "is retracted, expected not retracted" in _judged(
        [_alert("spo2-critical", 20, "retracted")], alerts=wanted
    )[0]  # fmt: skip
    assert "was not expected" in _judged([_alert("spo2-critical", 20), _alert("pause", 3)], alerts=wanted)[0]
    assert _judged([_alert("pause", 3)], other_alerts=True) == []
    open_end = [{**wanted[0], "cleared": True}]
    assert "expected cleared" in _judged([_alert("spo2-critical", 20)], alerts=open_end)[0]


def test_counts_are_judged() -> None:
    assert _judged([], Reckoning(duplicate=3, resent=3), duplicate=0) == []
    assert "2 duplicates beside 1" in _judged([], Reckoning(duplicate=3, resent=1), duplicate=0)[0]
    dead = Reckoning(dead_by_reason=Counter({"schema": 2}))
    assert "dead letters schema 2, not none" in _judged([], dead)[0]
    assert _judged([], dead, dead_lettered={"schema": 2}) == []
    assert "1 further versions, not 2" in _judged([], Reckoning(versions=1), versions=2)[0]
    assert "nowhere" in _judged([], Reckoning(lost=1, wrong=["lost: it"]))[0]
    assert "open gap" in _judged([], Reckoning(gaps=1))[0]
