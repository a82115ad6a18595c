"""Every query in docs/queries.md runs, and the ones about data find it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.storage.builders import SECOND, Log, reading
from tests.storage.conftest import Query
from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.registry import NewDevice, Registry

QUERIES = re.findall(r"```sql\n(.*?)```", (Path(__file__).parents[2] / "docs/queries.md").read_text(), re.S)


@pytest.fixture
def filled(database: DatabaseSettings, recorder: Recorder) -> None:
    with Registry(database) as registry:
        registry.add_patient("p-001", "Europe/Berlin", "care")
        registry.add_device(NewDevice("ox-1", "pulse-oximeter", "hash"))
        registry.assign("ox-1", "p-001", datetime.now(UTC) - timedelta(days=1))
    now_us = int((datetime.now(UTC) - timedelta(minutes=5)).timestamp()) * SECOND
    log = Log()
    values = [(now_us, 97.0), (now_us + SECOND, 96.0), (now_us + SECOND, 95.0)]  # the last corrects the one before
    messages = [
        log.message("ox-1", seq, readings=[reading(value, time_us=time)], received_us=now_us + 2 * SECOND)
        for seq, (time, value) in enumerate(values, 1)
    ]
    recorder.apply(log.batch(*messages))


def test_there_are_queries() -> None:
    assert len(QUERIES) >= 7


@pytest.mark.usefixtures("filled")
def test_all_queries_run_and_answer(query: Query) -> None:
    answers = [query(text.replace("vitalgate.", "v.").replace("%", "%%")) for text in QUERIES]
    assert [row[2] for row in answers[0]] == [97.0, 95.0]
    assert [(row[2], row[3], row[5]) for row in answers[1]] == [(1, 96.0, False), (2, 95.0, True)]
