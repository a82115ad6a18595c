"""A few of the randomised runs on the real processes; fifty are `make alertruns`."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.alerts.process_runs import Outcome, run, table, write

SEEDS = [random.randrange(1 << 30) for _ in range(2)]


def test_one_alert_for_each_cause_whatever_is_killed_and_moved(kafka_bootstrap: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        outcomes = list(pool.map(lambda seed: run(kafka_bootstrap, tmp_path / str(seed), seed), SEEDS))
    assert not [(one.seed, one.fault) for one in outcomes if one.fault]
    assert sum(one.kills + one.rebalances for one in outcomes) >= 2
    assert all(one.counts["records"] and one.counts["ticks"] for one in outcomes)


def test_the_table_goes_where_its_marks_are(tmp_path: Path) -> None:
    outcomes = [Outcome(1, {"records": 5}, kills=2, alerts=3), Outcome(2, {"records": 1}, fault="told twice")]
    assert "| exactly one alert for each cause, in | 1 of them |" in table(outcomes)
    assert "| records sent | 6 |" in table(outcomes)
    file = tmp_path / "doc.md"
    file.write_text("before\n<!-- process runs: begin -->\nstale\n<!-- process runs: end -->\nafter\n")
    write(file, outcomes)
    text = file.read_text()
    assert text.startswith("before\n<!-- process runs: begin -->\n\n| | |") and text.endswith("-->\nafter\n")
    assert "stale" not in text and "| runs, seeds | 2, 1 to 2 |" in text
    write(file, outcomes)
    assert file.read_text() == text, "again gives the same"
    file.write_text("nothing")
    with pytest.raises(SystemExit, match="no place for the table"):
        write(file, outcomes)
