"""One batch after another into real tables: counts, versions, ledger."""

from __future__ import annotations

import pytest

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from tests.storage.conftest import Query
from vitalgate.config.settings import DatabaseSettings
from vitalgate.devices.public import DeadLetter, DeviceReadings, DeviceWaveform
from vitalgate.devices.records import Corrects, Dead, Status
from vitalgate.storage import ledger
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
    assert query("SELECT DISTINCT unit FROM v.readings") == [("%",)]  # as if they had come in order
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
