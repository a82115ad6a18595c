"""Aggregates, retention, a short ledger, partitions: what keeps the tables true and small over time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from tests.storage.conftest import Query
from vitalgate.config.settings import DatabaseSettings
from vitalgate.devices.records import Corrects, Dead, Status
from vitalgate.storage import aggregates, ledger, maintenance
from vitalgate.storage.housekeeper import Housekeeper
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.registry import NewDevice, Registry
from vitalgate.storage.times import moment

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: A whole UTC day within reach of T0.
MIDNIGHT = (T0 // DAY) * DAY
NOW = moment(T0 + 10 * DAY)


@pytest.fixture
def patients(database: DatabaseSettings) -> Iterator[Registry]:
    """Two patients in different zones; the device is the first one's, from long ago."""
    with Registry(database) as registry:
        registry.add_patient("berlin", "Europe/Berlin", "care")
        registry.add_patient("kathmandu", "Asia/Kathmandu", "care")
        registry.add_device(NewDevice("ox-1", "pulse-oximeter", "x"))
        registry.assign("ox-1", "berlin", moment(MIDNIGHT - 30 * DAY))
        yield registry


def _feed(recorder: Recorder, log: Log, values: dict[int, float], received_us: int | None = None) -> None:
    messages = [
        log.message(seq=log.next + 1, readings=[reading(v, time_us=us)], received_us=received_us or us + SECOND)
        for us, v in values.items()
    ]
    applied = recorder.apply(log.batch(*messages))
    recorder.mark_published(0, applied.last)
    recorder.flush_published()


def _refresh(database: DatabaseSettings, after: int = DAY) -> None:
    maintenance.run(database, moment(T0 + after))


def test_minutes_and_hours_by_patient(
    patients: Registry, recorder: Recorder, database: DatabaseSettings, query: Query
) -> None:
    base = MIDNIGHT + 10 * HOUR
    _feed(recorder, Log(), {base: 90, base + 30 * SECOND: 94, base + MINUTE: 80, base + 50 * MINUTE: 70})
    _refresh(database)
    assert query(
        "SELECT time, n, mean, low, high FROM v.readings_by_minute WHERE patient_id = 'berlin' ORDER BY 1"
    ) == [
        (moment(base), 2, 92.0, 90.0, 94.0),
        (moment(base + MINUTE), 1, 80.0, 80.0, 80.0),
        (moment(base + 50 * MINUTE), 1, 70.0, 70.0, 70.0),
    ]
    assert query("SELECT time, n, mean, low, high FROM v.readings_by_hour") == [(moment(base), 4, 83.5, 70.0, 94.0)]


def test_only_what_stands_counts(
    patients: Registry, recorder: Recorder, database: DatabaseSettings, query: Query
) -> None:
    base = MIDNIGHT + 10 * HOUR
    log = Log()
    _feed(recorder, log, {base: 90, base + SECOND: 92, base + 2 * SECOND: 94})
    _refresh(database)
    correction = log.message(seq=90, readings=[reading(80, time_us=base)])
    retraction = reading(None, item=1, time_us=base + SECOND, corrects=Corrects(time_us=base + SECOND, retract=True))
    low = reading(20, item=2, time_us=base + 3 * SECOND, comparator="<")
    recorder.apply(log.batch(correction, log.message(seq=91, readings=[retraction, low])))
    _refresh(database)
    assert query("SELECT n, mean FROM v.readings_by_minute") == [(2, 87.0)]


def test_late_data_reaches_the_aggregates(
    patients: Registry, recorder: Recorder, database: DatabaseSettings, query: Query
) -> None:
    log = Log()
    base = MIDNIGHT + 10 * HOUR
    _feed(recorder, log, {base: 90})
    _refresh(database)
    _feed(recorder, log, {base + SECOND: 70, base - 9 * DAY: 60}, received_us=T0 + 9 * DAY)
    _refresh(database, 9 * DAY)
    rows = query("SELECT time, n FROM v.readings_by_hour ORDER BY 1")
    assert rows == [(moment(base - 9 * DAY), 1), (moment(base), 2)]
    assert query("SELECT count(*) FROM aggregates_dirty") == [(0,)]


def test_a_day_is_the_patients_own(
    patients: Registry, recorder: Recorder, database: DatabaseSettings, query: Query
) -> None:
    """Berlin is two hours ahead of UTC in October, Kathmandu 5:45, New York four behind."""
    times = {MIDNIGHT + 21 * HOUR + 50 * MINUTE: 90.0, MIDNIGHT + 22 * HOUR + 10 * MINUTE: 92.0}
    _feed(recorder, Log(), times)
    _refresh(database)
    today = moment(MIDNIGHT).date()
    by_day = "SELECT patient_id, day, time_zone, n, mean FROM v.readings_by_day ORDER BY day"
    assert query(by_day) == [
        ("berlin", today, "Europe/Berlin", 1, 90.0),
        ("berlin", today + timedelta(days=1), "Europe/Berlin", 1, 92.0),
    ]
    patients.move_patient("berlin", "America/New_York", moment(MIDNIGHT - DAY))
    assert query(by_day) == [("berlin", today, "America/New_York", 2, 91.0)]
    patients.assign("ox-1", "kathmandu", moment(MIDNIGHT - 30 * DAY))
    assert query(by_day) == [("kathmandu", today + timedelta(days=1), "Asia/Kathmandu", 2, 91.0)]


def test_a_bucket_in_which_the_device_changed_hands_is_divided(
    patients: Registry, recorder: Recorder, database: DatabaseSettings, query: Query
) -> None:
    base = MIDNIGHT + 10 * HOUR
    _feed(recorder, Log(), {base + n * 10 * SECOND: 90.0 + n for n in range(12)})
    _refresh(database)
    patients.assign("ox-1", "kathmandu", moment(base + 25 * SECOND))
    rows = query("SELECT patient_id, time, n, low, high FROM v.readings_by_minute ORDER BY 1, 2")
    assert rows == [
        ("berlin", moment(base), 3, 90.0, 92.0),
        ("kathmandu", moment(base), 3, 93.0, 95.0),
        ("kathmandu", moment(base + MINUTE), 6, 96.0, 101.0),
    ]
    assert query("SELECT patient_id, n FROM v.readings_by_hour ORDER BY 1") == [("berlin", 3), ("kathmandu", 9)]
    patients.assign("ox-1", None, moment(base + 65 * SECOND), moment(base + 85 * SECOND))
    assert query("SELECT patient_id, n FROM v.readings_by_hour ORDER BY 1") == [("berlin", 3), ("kathmandu", 7)]


def test_several_devices_of_a_patient_are_one_series(
    patients: Registry, recorder: Recorder, database: DatabaseSettings, query: Query
) -> None:
    base = MIDNIGHT + 10 * HOUR
    patients.add_device(NewDevice("ox-2", "pulse-oximeter", "x"))
    patients.assign("ox-2", "berlin", moment(MIDNIGHT - DAY))
    log = Log()
    recorder.apply(
        log.batch(
            *(
                log.message(device, 1, readings=[reading(value, time_us=base)], received_us=base + SECOND)
                for device, value in (("ox-1", 90), ("ox-2", 96))
            )
        )
    )
    _refresh(database)
    assert query("SELECT n, mean FROM v.readings_by_minute") == [(2, 93.0)]


def test_merged_stretches_cover_whole_buckets() -> None:
    at = [moment(MIDNIGHT + s * SECOND) for s in (5, 65, 70, 300, 301)]
    merged = aggregates.merged([(None, at[0], at[0]), (None, at[1], at[2]), ("d", at[3], at[4])], aggregates.MINUTE)
    assert merged == [
        (None, moment(MIDNIGHT), moment(MIDNIGHT + 2 * MINUTE)),
        ("d", moment(MIDNIGHT + 5 * MINUTE), moment(MIDNIGHT + 6 * MINUTE)),
    ]


def test_aggregates_can_be_off(database: DatabaseSettings, query: Query) -> None:
    from vitalgate.config.settings import KafkaSettings

    without = database.model_copy(update={"aggregates": False})
    with Recorder(without, KafkaSettings()) as recorder:
        _feed(recorder, Log(), {T0 - 20 * DAY: 90}, received_us=T0)
    assert query("SELECT count(*) FROM aggregates_dirty") == [(0,)]


def test_retention_drops_and_the_ledger_balances(recorder: Recorder, database: DatabaseSettings, query: Query) -> None:
    log = Log()
    old, new = T0, T0 + 60 * DAY
    for at in (old, new):
        applied = recorder.apply(
            log.batch(
                log.message(seq=log.next + 1, readings=[reading(97, time_us=at)], received_us=at),
                log.message(
                    seq=log.next + 1, waveforms=[waveform(range(9), first=log.next * 9, start_us=at)], received_us=at
                ),
                log.message(seq=log.next + 1, status=Status(0, "online", at), received_us=at),
                log.message(seq=log.next + 1, dead=[Dead(0, "schema", "x")], payload=str(at).encode(), received_us=at),
            )
        )
        recorder.mark_published(0, applied.last)
    recorder.flush_published()
    _refresh(database)
    assert query("SELECT count(*) >= 1 FROM readings_minute") == [(True,)]
    settings = database.model_copy(update={"retention_days": 30})
    report = maintenance.run(settings, moment(new + DAY))
    assert {name: report.dropped[name] for name in ("readings", "waveforms", "device_status", "dead_letters")} == {
        "readings": 1, "waveforms": 1, "device_status": 1, "dead_letters": 1,
    }  # fmt: skip
    assert query("SELECT time FROM readings") == [(moment(new),)]
    assert query("SELECT count(*) FROM readings_minute WHERE bucket < %s", moment(old + DAY)) == [(0,)]
    assert query("SELECT count(*) FROM payloads") == [(1,)]
    found = ledger.read(database)
    assert (found.received, found.dropped, found.balanced) == (8, 4, True)
    again = maintenance.run(settings, moment(new + DAY))
    assert again.dropped == {}


def test_nothing_is_dropped_by_default(recorder: Recorder, database: DatabaseSettings, query: Query) -> None:
    _feed(recorder, Log(), {T0 - 3650 * DAY: 90})
    assert maintenance.run(database, NOW).dropped == {}
    assert query("SELECT count(*) FROM readings") == [(1,)]


def test_the_ledger_gets_shorter_and_says_the_same(
    recorder: Recorder, database: DatabaseSettings, query: Query
) -> None:
    log = Log()
    for n in range(6):
        applied = recorder.apply(log.batch(log.message(seq=n, readings=[reading(97, time_us=T0 + n)])))
        if n != 3:
            recorder.mark_published(0, applied.last)
            recorder.flush_published()
    query("UPDATE ledger SET published = false WHERE first_offset = 3")
    before = ledger.read(database)
    report = maintenance.run(database, datetime.now(UTC) + timedelta(days=3))
    assert report.ledger == 5
    rows = query("SELECT first_offset, last_offset, items, published FROM ledger ORDER BY 1")
    assert rows == [(0, 2, 3, True), (3, 3, 1, False), (4, 5, 2, True)]
    assert ledger.read(database).document() == before.document()
    assert recorder.high_water(0) == 5


def test_one_run_at_a_time(database: DatabaseSettings) -> None:
    with psycopg.connect(database.dsn) as connection:
        connection.execute(
            "SELECT pg_advisory_lock(hashtextextended(%s, %s))", (f"{database.db_schema}_data", maintenance.LOCK)
        )
        assert not maintenance.run(database, NOW).ran


def test_the_housekeeper_goes_on_when_the_database_is_away(database: DatabaseSettings) -> None:
    away = database.model_copy(update={"dsn": "host=127.0.0.1 port=1 connect_timeout=1"})
    for settings in (database, away):
        keeper = Housekeeper(settings, every_s=0.01)
        keeper.start()
        deadline = time.monotonic() + 20
        while keeper.rounds < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        keeper.stop()
        assert keeper.rounds >= 3


def test_odd_times_wait_in_the_default_partition(recorder: Recorder, database: DatabaseSettings, query: Query) -> None:
    if database.timescale == "on":
        return  # a chunk for every time appears by itself
    far = T0 + 400 * DAY
    _feed(recorder, Log(), {far: 90, T0: 91})
    where = "SELECT tableoid::regclass::text FROM readings WHERE time > '2027-06-01'"
    assert query(where)[0][0].endswith("readings_default")
    report = maintenance.run(database, moment(far))
    assert any(name.startswith("readings_2027") for name in report.partitions)
    assert not query(where)[0][0].endswith("readings_default")
    for name in report.partitions:
        query(f'DROP TABLE "{name}"')
    assert query("SELECT value FROM v.readings") == [(91.0,)]
