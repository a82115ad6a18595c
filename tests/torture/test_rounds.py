"""A short torture: an undisturbed round, and one with the database away, then processes killed. Correctness only."""

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


#: Draws what is wanted here: the database away while an alert falls due and all who make alerts live; nine of our
#: processes killed at once when it is back.
SEED = "1115"


@pytest.mark.slow
@pytest.mark.timeout(900)  # some eighty seconds where nothing else runs
def test_without_a_database_and_then_killed_nothing_is_lost_or_changed(tmp_path: Path) -> None:
    try:
        java(), executable()
    except PartError as error:
        pytest.skip(f"a part is missing on this machine: {error}")
    report = tmp_path / "reliability.md"
    status, text = torture(
        tmp_path / "state", "--faults", "database-away+kill-several", "--seed", SEED, "--rounds", "1", "--json",
        "--report", str(report),
    )  # fmt: skip
    found = json.loads(text)
    assert status == 0, [one["wrong"] for one in found["results"]]
    assert (found["rounds"], found["good"]) == (1, 1)
    assert (found["lost"], found["duplicates"], found["differences"]) == (0, 0, 0)
    (one,) = found["results"]
    assert one["sent"] > 300
    assert one["faults"] == ["database-away", "kill-several"]
    assert one["notes"]["alerts told while the database was away"] > 0
    told = "\n".join(one["log"])
    assert "kill -9 recorder without the database" in told
    assert "kill -9 registrar, handover, archiver, gateway, recorder, analysis, alerting, auditor, intake" in told
    assert "1 rounds, 1 of them without fault" in report.read_text(encoding="utf-8")
