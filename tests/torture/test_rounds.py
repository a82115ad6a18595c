"""A short torture: an undisturbed round, one with processes killed, one with the database away. Correctness only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vitalgate.local.errors import PartError
from vitalgate.local.kafka import java
from vitalgate.local.mosquitto import executable


def torture(state: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "vitalgate.cli", "torture", "--state", str(state), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout or done.stderr


def test_every_fault_is_explained(tmp_path: Path) -> None:
    status, text = torture(tmp_path, "--list")
    assert status == 0
    assert "kill-gateway" in text
    assert "must hold: lost 0" in text
    status, text = torture(tmp_path, "--faults", "rain")
    assert status == 2
    assert "no fault 'rain'" in text


@pytest.mark.slow
@pytest.mark.timeout(900)  # some two and a half minutes where nothing else runs
def test_killed_and_without_a_database_nothing_is_lost_or_changed(tmp_path: Path) -> None:
    try:
        java(), executable()
    except PartError as error:
        pytest.skip(f"a part is missing on this machine: {error}")
    report = tmp_path / "reliability.md"
    status, text = torture(
        tmp_path / "state", "--faults", "kill-several+kill-gateway,database-away", "--rounds", "2", "--json",
        "--report", str(report),
    )  # fmt: skip
    found = json.loads(text)
    assert status == 0, [one["wrong"] for one in found["results"]]
    assert (found["rounds"], found["good"]) == (2, 2)
    assert (found["lost"], found["duplicates"], found["differences"]) == (0, 0, 0)
    assert all(one["sent"] > 300 for one in found["results"])
    assert {name for one in found["results"] for name in one["faults"]} == {
        "kill-several", "kill-gateway", "database-away",
    }  # fmt: skip
    assert "2 rounds, 2 of them without fault" in report.read_text(encoding="utf-8")
