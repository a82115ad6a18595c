"""Samples are read from the database only when the recorder has stored all that had been handed out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from tests.storage.builders import T0, Log, waveform
from tests.storage.conftest import drop
from tests.stream.stream_probe import MakeSettings
from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.storage.migrate import migrate
from vitalgate.storage.recorder import Recorder
from vitalgate.stream.analysis import Analysis
from vitalgate.stream.analysis_core import Job
from vitalgate.stream.analysis_history import History
from vitalgate.stream.analysis_line import Key
from vitalgate.stream.errors import TransientError
from vitalgate.stream.recorded import Recorded

KEY = Key("p1", "patch", "ecg.II", "r1", 250, 1)


class _Registry:
    """Everything is the one patient's."""

    def patient_at(self, device: str, time_us: int) -> str:
        return "p1"


@pytest.fixture
def settings(make_settings: MakeSettings, dsn: str) -> Iterator[Settings]:
    """A deployment with one partition of device.raw in use, and its database."""
    schema = f"vgr_{os.getpid()}"
    made = make_settings(topics.RAW, database__dsn=dsn, database__db_schema=schema, database__timescale="off")
    migrate(made.database)
    yield made
    drop(dsn, schema)


def _raw(settings: Settings, partition: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    for _ in range(count):
        producer.produce(topics.full(topics.RAW, settings.kafka), b"{}", partition=partition)
    assert producer.flush(10) == 0


def _analysis(settings: Settings) -> Analysis:
    worker = Analysis()
    worker.recorded = Recorded(settings)
    worker.history = History(settings.database, _Registry())  # type: ignore[arg-type]  # all that it asks of one
    worker.awaited, worker.history_again = {}, 0.0
    return worker


def test_old_samples_wait_for_a_recorder_that_is_behind(settings: Settings) -> None:
    log = Log(partition=2)
    packets = [
        log.message("patch", n + 1, waveforms=[waveform(range(250), first=250 * n)], received_us=T0) for n in range(3)
    ]
    _raw(settings, 2, 2)
    worker = _analysis(settings)
    job = Job(KEY, range(1), range(1), 0, 500, complete=False)

    def read() -> list[tuple[int, int]] | None:
        worker.recorded.begin_round()
        found = asyncio.run(worker._history(job))
        return None if found is None else [(packet.first, packet.stop) for packet in found]

    with Recorder(settings.database, settings.kafka) as recorder:
        assert read() is None, "nothing is stored"
        recorder.apply(log.batch(packets[0]))
        assert read() is None, "half of it would be taken for all of it"
        _raw(settings, 2, 1)  # what comes later is in memory: it need not be waited for
        recorder.apply(log.batch(packets[1]))
        assert read() == [(0, 250), (250, 500)]
        worker.awaited.clear()  # as when the line has been worked out, and packets have left memory
        assert read() is None
        recorder.apply(log.batch(packets[2]))
        assert read() == [(0, 250), (250, 500)]


def test_answers_hold_for_one_round(settings: Settings) -> None:
    recorded = Recorded(settings)
    assert recorded.ends() == {}
    _raw(settings, 1, 1)
    assert recorded.ends() == {}
    recorded.begin_round()
    assert recorded.ends() == {1: 1}
    assert not recorded.covers({1: 1}) and recorded.covers({}) and recorded.covers({3: 0})


def test_a_topic_or_database_that_is_away_is_asked_again(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"prefix": "nothing-here."})})
    with pytest.raises(TransientError, match="nothing-here"):
        Recorded(elsewhere).ends()
    nowhere = settings.database.model_copy(update={"dsn": "host=127.0.0.1 port=1 connect_timeout=2"})
    away = settings.model_copy(update={"database": nowhere})
    with pytest.raises(TransientError):
        Recorded(away).covers({0: 1})
    worker = _analysis(away)
    _raw(away, 0, 1)
    assert asyncio.run(worker._history(Job(KEY, range(1), range(1), 0, 500, complete=False))) is None
    assert worker.history_again > 0
