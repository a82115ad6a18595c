"""Items of a device out of the tables again, as the messages they were."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from vitalgate.config.settings import DatabaseSettings
from vitalgate.devices.records import Corrects, Message
from vitalgate.storage import moves
from vitalgate.storage.connect import connect
from vitalgate.storage.moves import items
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.registry import NewDevice, Registry
from vitalgate.storage.repack import run
from vitalgate.storage.times import moment
from vitalgate.storage.work import identify

START, STOP = moment(T0), moment(T0 + 3600 * SECOND)
FIELDS = ("device", "leaf", "offset", "received_us", "trace", "epoch", "seq", "epoch_no", "order", "skew_s")


def _all(database: DatabaseSettings, *, stop: object = STOP) -> list[Message]:
    return [message for batch in items(database, "ox-1", START, stop) for message in batch]  # type: ignore[arg-type]


def test_readings_come_back_as_they_were(recorder: Recorder, database: DatabaseSettings) -> None:
    with Registry(database) as registry:
        registry.add_device(NewDevice("ox-1", "pulse-oximeter", "x"))
    log = Log()
    sent = [
        log.message(
            seq=1,
            readings=[
                reading(97, group="g", context={"a": "b"}, flags=["motion"], unusual=True),
                reading(
                    5.5,
                    item=1,
                    metric="glucose",
                    unit="mmol/L",
                    value_sent=99.0,
                    unit_sent="mg/dL",
                    site="arm",
                    index=2,
                ),
                reading(None, item=2, metric="consciousness", unit="", value_code="A", time_sent_us=T0 + 7 * SECOND),
            ],
        ),
        log.message(readings=[reading(80, time_us=T0 + SECOND, comparator="<")]),
    ]
    recorder.apply(log.batch(*sent))
    found = _all(database)
    for before, after in zip(sent, found, strict=True):
        assert [getattr(after, name) for name in FIELDS] == [getattr(before, name) for name in FIELDS]
        assert sorted(after.readings, key=lambda r: r.item) == before.readings
        assert identify(after) == identify(before), "alerts name it as evidence"
    assert found[0].device_kind == "pulse-oximeter"
    assert _all(database, stop=START) == []


def test_versions_and_retractions_come_too(recorder: Recorder, database: DatabaseSettings) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=1, readings=[reading(97)])))
    recorder.apply(log.batch(log.message(seq=2, readings=[reading(95)])))
    recorder.apply(
        log.batch(log.message(seq=3, readings=[reading(96, time_us=T0 + SECOND, corrects=Corrects("e1", 2, 0))]))
    )
    told = [
        (m.seq, r.value_num, r.time_us - T0, bool(r.corrects and r.corrects.retract))
        for m in _all(database)
        for r in m.readings
    ]
    assert told == [(1, 97.0, 0, False), (2, 95.0, 0, False), (3, None, 0, True), (3, 96.0, SECOND, False)]


def test_blocks_come_back_also_from_joined_rows(recorder: Recorder, database: DatabaseSettings) -> None:
    log = Log()
    sent = [log.message(seq=n, waveforms=[waveform(range(n, n + 250), first=250 * n)]) for n in range(1, 9)]
    recorder.apply(log.batch(*sent))
    recorder.mark_published(0, 7)
    recorder.flush_published()
    hot = _all(database)
    with connect(database, "test", autocommit=True) as connection:
        assert run(connection, STOP + timedelta(days=9999), idle_before=STOP + timedelta(days=9999)).rows_before == 8
    for found in (hot, _all(database)):
        assert [m.seq for m in found] == [m.seq for m in sent]
        for before, after in zip(sent, found, strict=True):
            mine, theirs = before.waveforms[0], after.waveforms[0]
            assert (theirs.first_sample, theirs.start_us, theirs.item) == (mine.first_sample, mine.start_us, mine.item)
            assert np.array_equal(np.frombuffer(theirs.samples, "<i4"), np.frombuffer(mine.samples, "<i4"))
    cut = _all(database, stop=moment(T0 + 4 * SECOND))
    assert [m.seq for m in cut] == [1, 2, 3]


def test_batches_are_bounded(recorder: Recorder, database: DatabaseSettings) -> None:
    log = Log()
    recorder.apply(
        log.batch(
            *(log.message(seq=n, readings=[reading(97, time_us=T0 + n)]) for n in range(1, 2 * moves.BATCH_ITEMS + 2))
        )
    )
    sizes = [sum(len(m.readings) for m in batch) for batch in items(database, "ox-1", START, STOP)]
    assert sizes == [moves.BATCH_ITEMS, moves.BATCH_ITEMS, 1]
