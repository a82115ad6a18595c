"""`vitalgate rules` and `vitalgate alerts` as people type them, as far as no running system is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.alerts.feeding import us
from vitalgate.alerts.events import when
from vitalgate.cli import cli

ROSTER = """
team = "care"
members = ["anna"]
always_on_call = ["duty"]
[escalation]
high = [{ after_s = 60, to = "team" }, { after_s = 120, to = "on-call" }]
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def history(tmp_path: Path) -> Path:
    file = tmp_path / "history.jsonl"
    lines: list[dict[str, Any]] = [
        {"patient": "p1", "metric": "spo2", "time": when(us(60 * k)).isoformat(), "value": 80 if 10 <= k < 15 else 97}
        for k in range(100)
    ]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


def test_rules_are_listed_and_hold() -> None:
    rows = json.loads(run("rules", "list", "--json").output)
    assert len(rows) >= 30 and {"id", "version", "priority", "source", "sign_off", "rationale"} <= rows[0].keys()
    listed = run("rules", "list", "--priority", "high").output
    assert "asystole" in listed and "latched" in listed and "spo2-low " not in listed
    checked = run("rules", "check")
    assert checked.exit_code == 0 and checked.output.endswith(" 0 faults\n")


def test_a_rule_file_with_faults_is_told_and_fails(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("id = 'x'")
    done = run("rules", "check", str(tmp_path))
    assert done.exit_code == 1 and "x.toml" in done.output


def test_simulation_of_a_file(history: Path) -> None:
    told = json.loads(run("rules", "simulate", "spo2-critical", "--on", str(history), "--json").output)
    assert (told["count"], told["samples"], told["patients"]) == (1, 100, 1)
    assert told["alerts"][0]["onset"].startswith(when(us(600)).isoformat()[:19])
    assert (
        json.loads(run("rules", "simulate", "spo2-critical", "--on", str(history), "--limit", "75", "--json").output)[
            "count"
        ]
        == 0
    )
    shown = run("rules", "simulate", "spo2-critical", "--on", str(history)).output
    assert "spo2-critical: 1 alerts of 1 patients in 1.0 patient-days (1.00 a patient and day)" in shown


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("rules", "simulate", "spo2-critical", "--on", "nowhere"), "neither `database` nor a file"),
        (("rules", "simulate", "no-rule", "--on", "database"), "neither a rule in force nor a file"),
        (("rules", "simulate", "spo2-low", "--on", "database", "--limit", "-3", "--clear", "1"), "never fire"),
        (("rules", "set", "p1", "no-rule", "--limit", "3", "--reason", "x"), "there is no rule"),
        (("rules", "set", "p1", "spo2-low", "--reason", "x"), "nothing is changed"),
        (("alerts", "silence", "abc", "--reason", "x"), "one of --minutes and --until"),
        (("alerts", "history"), "give an alert or --patient"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], why: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2 and why in done.output, done.output


def test_a_line_that_is_no_sample_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(
        '{"patient": "p1", "metric": "spo2", "time": "2026-01-01T00:00:00Z", "value": 97}\n{"patient": 3}\n'
    )
    done = run("rules", "simulate", "spo2-low", "--on", str(file))
    assert done.exit_code == 1 and "line 2" in done.output


def test_a_roster_is_checked_before_it_is_set(tmp_path: Path) -> None:
    file = tmp_path / "roster.toml"
    file.write_text(ROSTER)
    assert run("alerts", "roster", "set", str(file), "--check").output == "care: good.\n"
    file.write_text(ROSTER.replace("after_s = 120", "after_s = 30"))
    done = run("alerts", "roster", "set", str(file), "--check")
    assert done.exit_code == 2 and "must rise" in done.output
