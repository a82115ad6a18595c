"""`vitalgate handover`: what a person types before anything is told to anybody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.handover.receiver import SECRET, receiver
from vitalgate.cli import cli
from vitalgate.handover.coverage import gaps
from vitalgate.handover.destinations import parse

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "secret").write_text(SECRET)

    def command(*arguments: str, text: str = "") -> Result:
        (tmp_path / "destinations.toml").write_text(text.replace("SECRET", f'{{ file = "{tmp_path / "secret"}" }}'))
        settings = ("--set", f"handover.destinations={tmp_path / 'destinations.toml'}", "--data", str(tmp_path / "no"))
        return CliRunner().invoke(cli, ["handover", *arguments, *settings])

    return command


def board(url: str, more: str = "") -> str:
    return f'[destination.board]\nwebhook = "{url}"\nsecret = SECRET\n{more}'


def test_list_shows_everything_but_secrets(run: Run) -> None:
    text = board("https://board.example/hush", 'teams = ["care"]\nquiet_hours = "22:00-07:00"\ndetail = "clinical"')
    shown = run("list", text=text)
    assert "board" in shown.output and "care" in shown.output and "clinical" in shown.output
    (row,) = json.loads(run("list", "--json", text=text).output)
    assert (row["kind"], row["priority"], row["quiet_hours"]) == ("webhook", "low", "22:00-07:00")
    assert "hush" not in shown.output + json.dumps(row) and SECRET not in shown.output + json.dumps(row)
    assert "No destinations" in run("list").output


def test_check_says_what_cannot_work(run: Run, tmp_path: Path) -> None:
    assert "all can be used" in run("check", "--offline", text=board("https://b.example/")).output
    (tmp_path / "secret").write_text("too short")
    wrong = run("check", "--offline", text=board("https://b.example/"))
    assert wrong.exit_code == 1 and "24 random ones" in str(wrong.output) and "too short" not in wrong.output
    assert run("check", "--offline", text="[destination.x]\n").exit_code == 2


def test_a_test_is_sent_and_its_failure_told(run: Run) -> None:
    with receiver() as there:
        assert "delivered" in run("test", "board", text=board(there.url)).output
        assert there.got[0].document["type"] == "test"
        there.status = 503
        failed = run("test", "board", text=board(there.url))
        assert failed.exit_code == 1 and "HTTP 503" in failed.output
        assert run("test", "nobody", text=board(there.url)).exit_code == 2


def test_gaps() -> None:
    book = parse(
        '[destination.a]\napprise = { env = "A" }\nteams = ["care"]\n'
        '[destination.b]\napprise = { env = "A" }\nclinician = "ben"\n'
        '[destination.c]\napprise = { env = "A" }\nclinician = "cleo"\nteams = ["cre"]\n'
        '[destination.d]\napprise = { env = "A" }\nclinician = "duty"\n'
    )
    people = {"ben": None, "cleo": frozenset({"night"})}
    found = gaps(book, {"care", "night"}, people)
    assert [any(word in line for line in found) for word in ("team night", "ben was revoked", "team cre", "duty")] == [
        True
    ] * 4
    assert not any("team care has no" in line for line in found)
    assert gaps(parse(""), set(), {}) == []
