"""The recorder's account: offsets, refusals, what was published, two recorders on one partition."""

from __future__ import annotations

import orjson
import pytest

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from tests.storage.conftest import Query
from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.devices.records import Dead
from vitalgate.storage import ledger
from vitalgate.storage.errors import StorageError
from vitalgate.storage.recorder import Recorder


def _values(query: Query) -> list[float]:
    return [value for (value,) in query("SELECT value_num FROM readings ORDER BY time, version")]


def test_offsets_that_never_come_are_told_and_may_come_late(
    recorder: Recorder, query: Query, database: DatabaseSettings
) -> None:
    log = Log()
    first = log.batch(log.message(seq=1, readings=[reading(97)]))
    missing = [log.message(seq=n, readings=[reading(97, time_us=T0 + n * SECOND)]) for n in (2, 3, 4)]
    last = log.batch(log.message(seq=5, readings=[reading(97, time_us=T0 + 5 * SECOND)]))
    recorder.apply(first)
    assert recorder.apply(last).holes == [(1, 3)]
    found = ledger.read(database)
    assert (found.lost, found.balanced) == (3, False)
    late = recorder.apply(log.batch(*missing[:2], missing[2]))
    assert late.stored == 3
    assert ledger.read(database).balanced
    assert recorder.apply(log.batch(*missing)).stored == 0
    assert recorder.high_water(0) == 4


def test_a_batch_must_hold_all_its_offsets(recorder: Recorder) -> None:
    log = Log()
    messages = [log.message(seq=n, readings=[reading(97)]) for n in (1, 2, 3)]
    with pytest.raises(StorageError, match=r"offsets 0 to 2 \(3\) but holds 2"):
        recorder.apply(log.batch(messages[0], messages[2]))


def test_what_the_database_refuses_does_not_hold_up_the_rest(
    recorder: Recorder, query: Query, database: DatabaseSettings
) -> None:
    log = Log()
    applied = recorder.apply(
        log.batch(
            log.message(seq=1, readings=[reading(97)]),
            log.message(seq=2, readings=[reading(96, time_us=T0 + 1, context={"note": "a\0b"})]),
            log.message("nul\0device", seq=3, readings=[reading(96)]),
            log.message(seq=4, readings=[reading(96, index=2**40)]),
            log.message(seq=5, waveforms=[waveform([1], rate=250, start_us=2**62)]),
            log.message(seq=6, readings=[reading(95, time_us=T0 + 2)]),
        )
    )
    assert (applied.stored, applied.dead_lettered) == (2, 4)
    assert applied.reasons == {"storage_refused": 4}
    assert query("SELECT count(*) FROM readings") == [(2,)]
    assert ledger.read(database).balanced


def test_a_refused_item_keeps_its_original_bytes(database: DatabaseSettings, query: Query) -> None:
    log = Log()
    message = log.message(seq=1, readings=[reading(96, index=2**40)])
    with Recorder(
        database, KafkaSettings(), fetch_raw=lambda partition, offset: b"raw %d-%d" % (partition, offset)
    ) as made:
        made.apply(log.batch(message))
    assert query("SELECT payload FROM v.dead_letters") == [(b"raw 0-0",)]


def test_only_what_the_database_finds_is_searched_for(
    recorder: Recorder, query: Query, monkeypatch: pytest.MonkeyPatch, database: DatabaseSettings
) -> None:
    """A fault that only the server sees: the offending message is found by halving."""
    query("ALTER TABLE readings ADD CONSTRAINT test_only CHECK (value_num IS DISTINCT FROM 66.6)")
    try:
        log = Log()
        messages = [
            log.message(seq=n, readings=[reading(66.6 if n in (3, 8) else 97.0, time_us=T0 + n)]) for n in range(1, 11)
        ]
        applied = recorder.apply(log.batch(*messages))
    finally:
        query("ALTER TABLE readings DROP CONSTRAINT test_only")
    assert (applied.stored, applied.dead_lettered) == (8, 2)
    assert {orjson.loads(p.value)["seq"] for p in applied.dead} == {3, 8}
    assert ledger.read(database).balanced


def test_unpublished_ranges_are_made_again_from_the_tables(recorder: Recorder) -> None:
    log = Log()
    batches = [
        log.batch(
            log.message(seq=1, readings=[reading(97, context={"a": "b"}), reading(60, item=1, metric="pulse_rate")]),
            log.message(seq=2, waveforms=[waveform([5, 6, 7], flags=["lead_off"])]),
        ),
        log.batch(
            log.message(seq=5, readings=[reading(97)]),
            log.message(seq=4, readings=[reading(95)]),
            log.message(seq=5, repeat=True, readings=[reading(99)]),
        ),
    ]
    for batch in batches:
        live = recorder.apply(batch)
        again = list(recorder.unpublished(0))[-1]
        assert [_sorted(p.value) for p in again.public_readings] == [_sorted(p.value) for p in live.public_readings]
        assert again.public_waveforms == live.public_waveforms
        assert again.dead == live.dead
    recorder.mark_published(0, 1)
    recorder.flush_published()
    assert [a.first for a in recorder.unpublished(0)] == [2]
    recorder.mark_published(0, 4)
    recorder.apply(log.batch(log.message(seq=9, readings=[reading(50)])))
    assert [a.first for a in recorder.unpublished(0)] == [5]


def _sorted(value: bytes) -> dict[str, object]:
    document = orjson.loads(value)
    document["readings"].sort(key=orjson.dumps)
    return dict(document)


def test_two_recorders_on_one_partition_do_not_apply_twice(database: DatabaseSettings, query: Query) -> None:
    log = Log()
    one = log.batch(log.message(seq=1, readings=[reading(97)]))
    two = log.batch(log.message(seq=2, readings=[reading(96)]))
    three = log.batch(log.message(seq=3, readings=[reading(96)]))
    with Recorder(database, KafkaSettings()) as old, Recorder(database, KafkaSettings()) as new:
        old.apply(one)
        new.apply(two)
        assert old.apply(two).skipped == 1
        applied = old.apply(three)
    assert (applied.stored, applied.duplicate) == (0, 1)
    assert _values(query) == [97.0, 96.0]


def test_a_row_deleted_by_hand_unbalances_the_ledger(
    recorder: Recorder, query: Query, database: DatabaseSettings
) -> None:
    log = Log()
    recorder.apply(
        log.batch(
            *(log.message(seq=n, readings=[reading(97, time_us=T0 + n)]) for n in range(1, 4)),
            log.message(seq=5, dead=[Dead(0, "schema", "x")], payload=b"x"),
        )
    )
    assert ledger.read(database).balanced
    query("DELETE FROM readings WHERE seq = 2")
    found = ledger.read(database)
    assert (found.lost, found.balanced) == (1, False)
    assert "stored" in found.faults[0]
    query("DELETE FROM dead_letters")
    assert ledger.read(database).lost == 2
