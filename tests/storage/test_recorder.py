"""One batch after another into real tables: counts, versions, ledger."""

from __future__ import annotations

import orjson
import pytest

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from tests.storage.conftest import Query
from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.devices.public import DeadLetter, DeviceReadings, DeviceWaveform
from vitalgate.devices.records import Corrects, Dead, Status
from vitalgate.storage import ledger
from vitalgate.storage.errors import StorageError
from vitalgate.storage.recorder import Recorder


def _versions(query: Query, metric: str = "spo2", time_us: int = T0) -> list[tuple[object, ...]]:
    return query(
        "SELECT version, value_num, current, retracted FROM readings WHERE metric = %s"
        " AND time = timestamptz 'epoch' + %s * interval '1 microsecond' ORDER BY version",
        metric,
        time_us,
    )


def test_new_readings_are_stored_once(recorder: Recorder, query: Query, database: DatabaseSettings) -> None:
    log = Log()
    batch = log.batch(
        log.message(seq=1, readings=[reading(97), reading(61, item=1, metric="pulse_rate", unit="/min")]),
        log.message(seq=2, readings=[reading(96, time_us=T0 + SECOND)]),
    )
    applied = recorder.apply(batch)
    assert (applied.stored, applied.duplicate, applied.dead_lettered) == (3, 0, 0)
    again = recorder.apply(batch)
    assert (again.stored, again.skipped, again.public_readings) == (0, 2, [])
    assert query("SELECT count(*) FROM readings") == [(3,)]
    assert ledger.read(database).balanced


def test_public_records_follow_their_models(recorder: Recorder) -> None:
    log = Log()
    applied = recorder.apply(
        log.batch(
            log.message(seq=1, readings=[reading(97, context={"finger": "left-index"}, flags=["motion"], group="g1")]),
            log.message(seq=2, waveforms=[waveform([1, 2, 3], missing=[(0, 1)])]),
            log.message(seq=3, readings=[reading(None, time_us=T0 + 1, absent="not-performed")]),
        )
    )
    first = DeviceReadings.model_validate_json(applied.public_readings[0].value)
    assert first.readings[0].context == {"finger": "left-index"}
    assert first.readings[0].flags == ["motion"]
    assert (first.readings[0].version, first.readings[0].current) == (1, True)
    block = DeviceWaveform.model_validate_json(applied.public_waveforms[0].value)
    assert (block.samples, block.missing, block.rate) == ([1, 2, 3], [(0, 1)], "250/1")


def test_a_correction_is_the_next_version(recorder: Recorder, query: Query) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=1, readings=[reading(97)])))
    applied = recorder.apply(log.batch(log.message(seq=2, readings=[reading(95)])))
    assert (applied.stored, applied.versions) == (1, 1)
    assert _versions(query) == [(1, 97.0, False, False), (2, 95.0, True, False)]
    entries = DeviceReadings.model_validate_json(applied.public_readings[0].value).readings
    assert [(e.version, e.current, e.value) for e in entries] == [(2, True, 95.0), (1, False, 97.0)]


def test_going_back_to_an_earlier_value_is_a_version_too(recorder: Recorder, query: Query) -> None:
    log = Log()
    recorder.apply(log.batch(*(log.message(seq=n, readings=[reading(v)]) for n, v in ((1, 97), (2, 95), (3, 97)))))
    assert [row[1] for row in _versions(query)] == [97.0, 95.0, 97.0]


def test_a_late_message_takes_its_place_in_the_devices_order(
    recorder: Recorder, query: Query, database: DatabaseSettings
) -> None:
    log = Log()
    for seq, value in ((1, 97), (4, 97), (2, 95), (3, 96)):
        recorder.apply(log.batch(log.message(seq=seq, readings=[reading(value)])))
    assert _versions(query) == [
        (1, 97.0, False, False),
        (2, 95.0, False, False),
        (3, 96.0, False, False),
        (4, 97.0, True, False),
    ]
    found = ledger.read(database)
    assert (found.received, found.stored, found.duplicate, found.balanced) == (4, 4, 0, True)


def test_a_resent_message_is_a_duplicate(recorder: Recorder, database: DatabaseSettings) -> None:
    log = Log()
    items = [reading(97), reading(60, item=1, metric="pulse_rate")]
    recorder.apply(log.batch(log.message(seq=1, readings=items)))
    applied = recorder.apply(log.batch(log.message(seq=1, readings=items, repeat=True)))
    assert (applied.stored, applied.duplicate) == (0, 2)
    assert ledger.read(database).balanced


def test_a_resent_message_under_another_skew_is_still_a_duplicate(recorder: Recorder, query: Query) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=1, readings=[reading(97, time_us=T0, time_sent_us=T0 + 60 * SECOND)])))
    applied = recorder.apply(
        log.batch(
            log.message(seq=1, repeat=True, readings=[reading(97, time_us=T0 - SECOND, time_sent_us=T0 + 60 * SECOND)])
        )
    )
    assert (applied.stored, applied.duplicate, applied.dead_lettered) == (0, 1, 0)


@pytest.mark.parametrize("changed", [{"value": 90}, {"time_us": T0 + 5 * SECOND}])
def test_a_number_used_again_for_something_else_is_refused(
    recorder: Recorder, query: Query, changed: dict[str, float], database: DatabaseSettings
) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=1, readings=[reading(97)])))
    fields = {"value": 97, **changed}
    applied = recorder.apply(log.batch(log.message(seq=1, repeat=True, readings=[reading(**fields)])))
    assert (applied.stored, applied.dead_lettered, applied.reasons) == (0, 1, {"sequence_reused": 1})
    assert DeadLetter.model_validate_json(applied.dead[0].value).reason == "sequence_reused"
    assert len(_versions(query)) == 1
    assert ledger.read(database).balanced


def test_a_number_used_again_within_one_batch_is_refused(recorder: Recorder, database: DatabaseSettings) -> None:
    log = Log()
    applied = recorder.apply(
        log.batch(
            log.message(seq=1, readings=[reading(97)]),
            log.message(seq=1, repeat=True, readings=[reading(96, time_us=T0 + SECOND)]),
        )
    )
    assert (applied.stored, applied.dead_lettered) == (1, 1)
    assert ledger.read(database).balanced


def test_without_numbers_any_earlier_value_is_a_duplicate(recorder: Recorder, query: Query) -> None:
    log = Log()
    applied = [recorder.apply(log.batch(log.message(readings=[reading(value)]))) for value in (97, 95, 97)]
    assert [(a.stored, a.duplicate) for a in applied] == [(1, 0), (1, 0), (0, 1)]
    assert [row[1] for row in _versions(query)] == [97.0, 95.0]


def test_a_correction_that_moves_the_time_takes_the_old_one_back(
    recorder: Recorder, query: Query, database: DatabaseSettings
) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=1, readings=[reading(97)])))
    moved = log.message(seq=2, readings=[reading(97, time_us=T0 + SECOND, corrects=Corrects("e1", 1, 0))])
    applied = recorder.apply(log.batch(moved))
    assert (applied.stored, applied.derived) == (1, 1)
    assert _versions(query) == [(1, 97.0, False, False), (2, None, True, True)]
    assert _versions(query, time_us=T0 + SECOND) == [(1, 97.0, True, False)]
    assert query("SELECT value FROM v.readings_current") == [(97.0,)]
    assert ledger.read(database).balanced


@pytest.mark.parametrize("by", ["item", "time"])
@pytest.mark.parametrize("first", [False, True])
def test_a_correction_that_moves_the_time_may_come_in_the_same_batch(
    recorder: Recorder, query: Query, database: DatabaseSettings, by: str, first: bool
) -> None:
    log = Log()
    corrects = Corrects("e1", 1, 0) if by == "item" else Corrects(time_us=T0)
    offsets = {}
    for seq in (2, 1) if first else (1, 2):
        item = reading(97) if seq == 1 else reading(97, time_us=T0 + SECOND, corrects=corrects)
        offsets[seq] = log.message(seq=seq, readings=[item])
    applied = recorder.apply(log.batch(*sorted(offsets.values(), key=lambda message: message.offset)))
    assert (applied.stored, applied.derived, applied.dead_lettered) == (2, 1, 0)
    assert _versions(query) == [(1, 97.0, False, False), (2, None, True, True)]
    assert query("SELECT value FROM v.readings_current") == [(97.0,)]
    assert ledger.read(database).balanced


def test_a_retraction_is_the_last_version(recorder: Recorder, query: Query, database: DatabaseSettings) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=1, readings=[reading(97)])))
    corrects = Corrects(time_us=T0, retract=True)
    applied = recorder.apply(log.batch(log.message(seq=2, readings=[reading(None, corrects=corrects)])))
    assert (applied.stored, applied.derived) == (1, 0)
    assert _versions(query)[-1] == (2, None, True, True)
    assert query("SELECT count(*) FROM v.readings_current") == [(0,)]
    assert ledger.read(database).balanced


@pytest.mark.parametrize("retract", [True, False])
def test_a_correction_may_come_before_what_it_corrects(
    recorder: Recorder, query: Query, database: DatabaseSettings, retract: bool
) -> None:
    log = Log()
    corrects = Corrects("e1", 1, 0, retract=retract)
    item = reading(None if retract else 95, time_us=T0 + SECOND, corrects=corrects)
    recorder.apply(log.batch(log.message(seq=2, readings=[item])))
    assert ledger.read(database).balanced
    recorder.apply(log.batch(log.message(seq=1, readings=[reading(97)])))
    assert _versions(query) == [(1, 97.0, False, False), (2, None, True, True)]
    assert query("SELECT count(*) FROM pending_corrections") == [(0,)]
    assert ledger.read(database).balanced


def test_a_waiting_correction_of_the_same_time_takes_nothing_back(recorder: Recorder, query: Query) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=2, readings=[reading(95, corrects=Corrects("e1", 1, 0))])))
    recorder.apply(log.batch(log.message(seq=1, readings=[reading(97)])))
    assert _versions(query) == [(1, 97.0, False, False), (2, 95.0, True, False)]


def test_statuses_and_dead_letters_are_items(recorder: Recorder, query: Query, database: DatabaseSettings) -> None:
    log = Log()
    status = Status(0, "online", T0, 88.0, "1.2", "S1", {"rssi": "-60"})
    refused = Dead(1, "out_of_range", "spo2 140 % is above 100 %")
    applied = recorder.apply(
        log.batch(
            log.message(seq=1, status=status),
            log.message(seq=2, readings=[reading(97)], dead=[refused], payload=b"bad"),
            log.message(seq=3, status=status),
            log.message(seq=4, dead=[refused], payload=b"bad"),
            log.message("other", seq=4, dead=[refused], payload=b"bad"),
        )
    )
    assert (applied.stored, applied.duplicate, applied.dead_lettered) == (2, 2, 2)
    assert query("SELECT device_id, seen, payload FROM v.dead_letters ORDER BY 1") == [
        ("other", 1, b"bad"),
        ("ox-1", 2, b"bad"),
    ]
    assert ledger.read(database).balanced


def test_a_replay_resolves_its_dead_letter_once(recorder: Recorder, query: Query, database: DatabaseSettings) -> None:
    log = Log()
    dead = [Dead(-1, "unknown_device", "no device")]
    recorder.apply(log.batch(log.message(dead=dead, payload=b"early")))
    ((identity,),) = query("SELECT id FROM dead_letters")
    failed = recorder.apply(log.batch(log.message(dead=dead, payload=b"early", replay_of=identity)))
    assert (failed.duplicate, failed.dead_lettered) == (1, 0)
    assert query("SELECT resolved_at IS NULL FROM dead_letters") == [(True,)]
    worked = recorder.apply(log.batch(log.message(readings=[reading(97)], payload=b"early", replay_of=identity)))
    assert worked.stored == 1
    assert query("SELECT resolved_at IS NOT NULL FROM dead_letters") == [(True,)]
    twice = recorder.apply(log.batch(log.message(readings=[reading(97)], payload=b"early", replay_of=identity)))
    assert (twice.stored, twice.duplicate) == (0, 1)
    assert ledger.read(database).balanced


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
    assert [row[1] for row in _versions(query)] == [97.0, 96.0]


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


def test_a_retraction_of_a_later_time_does_not_hide_it(
    recorder: Recorder, query: Query, database: DatabaseSettings
) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=1, readings=[reading(97)])))
    later = T0 + 60 * SECOND
    taken_back = reading(None, corrects=Corrects(time_us=later, retract=True))
    recorder.apply(log.batch(log.message(seq=3, readings=[taken_back])))
    applied = recorder.apply(log.batch(log.message(seq=2, readings=[reading(95, time_us=later)])))
    assert (applied.stored, applied.dead_lettered) == (1, 0)
    assert _versions(query, time_us=later) == [(1, 95.0, False, False), (2, None, True, True)]
    assert ledger.read(database).balanced
