"""Data that comes when its time was compressed long ago (on TimescaleDB; plain PostgreSQL compresses nothing)."""

from __future__ import annotations

import pytest

from tests.storage.builders import SECOND, T0, Log, reading
from tests.storage.conftest import Query
from tests.storage.test_archive import _alert, _block, _feature
from vitalgate.config.settings import DatabaseSettings
from vitalgate.devices.records import Corrects
from vitalgate.storage import ledger, maintenance
from vitalgate.storage.archive import Archive
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.times import moment

DAY = 86_400 * SECOND


def _compress(database: DatabaseSettings, query: Query) -> None:
    if database.timescale == "on":
        for (table,) in query("SELECT name FROM timed WHERE compressed"):
            query(f"SELECT compress_chunk(c, if_not_compressed => true) FROM show_chunks('{table}') c")
        rows = query(
            "SELECT count(*) FILTER (WHERE NOT is_compressed) FROM timescaledb_information.chunks"
            " WHERE hypertable_schema = %s AND hypertable_name = 'readings'",
            f"{database.db_schema}_data",
        )
        assert rows == [(0,)]


def _told(query: Query) -> list[tuple[object, ...]]:
    return query("SELECT time, version, value_num, current FROM readings ORDER BY time, version")


@pytest.fixture
def log(recorder: Recorder, database: DatabaseSettings, query: Query) -> Log:
    """A hundred readings, compressed."""
    log = Log()
    recorder.apply(
        log.batch(*(log.message(seq=n, readings=[reading(97, time_us=T0 + n * SECOND)]) for n in range(1, 101)))
    )
    _compress(database, query)
    return log


def test_late_readings(log: Log, recorder: Recorder, database: DatabaseSettings, query: Query) -> None:
    late = log.message(seq=101, readings=[reading(91, time_us=T0 + 500_000)])
    applied = recorder.apply(log.batch(late))
    assert applied.stored == 1
    assert _told(query)[0] == (moment(T0 + 500_000), 1, 91.0, True)
    assert len(_told(query)) == 101
    assert ledger.read(database).balanced


def test_repeats(log: Log, recorder: Recorder, database: DatabaseSettings, query: Query) -> None:
    again = log.message(seq=5, repeat=True, readings=[reading(97, time_us=T0 + 5 * SECOND)])
    other = log.message(seq=6, repeat=True, readings=[reading(96, time_us=T0 + 6 * SECOND)])
    applied = recorder.apply(log.batch(again, other))
    assert (applied.stored, applied.duplicate, applied.dead_lettered) == (0, 1, 1)
    assert ledger.read(database).balanced


def test_corrections(log: Log, recorder: Recorder, database: DatabaseSettings, query: Query) -> None:
    moved = reading(96, time_us=T0, corrects=Corrects("e1", 7, 0))
    taken_back = reading(None, time_us=T0, item=1, corrects=Corrects("e1", 8, 0, retract=True))
    changed = reading(95, time_us=T0 + 9 * SECOND, item=2)
    applied = recorder.apply(log.batch(log.message(seq=102, readings=[moved, taken_back, changed])))
    assert (applied.stored, applied.derived) == (3, 1)
    by_time = {(row[0], row[1]): row[2:] for row in _told(query)}
    assert by_time[moment(T0), 1] == (96.0, True)
    for second, value in ((7, None), (8, None), (9, 95.0)):
        at = moment(T0 + second * SECOND)
        assert (by_time[at, 1], by_time[at, 2]) == ((97.0, False), (value, True))
    assert ledger.read(database).balanced


def test_a_message_that_fills_a_gap_in_the_order(
    log: Log, recorder: Recorder, database: DatabaseSettings, query: Query
) -> None:
    recorder.apply(log.batch(log.message(seq=110, readings=[reading(97, time_us=T0 + SECOND)])))
    _compress(database, query)
    recorder.apply(log.batch(log.message(seq=105, readings=[reading(80, time_us=T0 + SECOND)])))
    assert [row[2:] for row in _told(query)[:3]] == [(97.0, False), (80.0, False), (97.0, True)]
    assert ledger.read(database).balanced


def test_results_of_a_higher_revision(database: DatabaseSettings, query: Query) -> None:
    archive = Archive(database)
    archive.beats([_block(0, 1, [100, 300]), _block(1, 1, [2600])])
    archive.features([_feature("heart_rate", 1, 60.0), _feature("rr_mean", 1, 1000.0)])
    archive.alerts([_alert("raised", 1)])
    _compress(database, query)
    assert archive.beats([_block(0, 2, [104])]) == 1
    assert archive.beats([_block(1, 1, [2600])]) == 0
    assert archive.features([_feature("heart_rate", 2, 61.0)]) == 1
    assert archive.alerts([_alert("raised", 1), _alert("cleared", 2)]) == 1
    archive.close()
    assert query("SELECT sample FROM v.beats ORDER BY 1") == [(104,), (2600,)]
    assert query("SELECT name, value FROM v.features ORDER BY 1") == [("heart_rate", 61.0), ("rr_mean", 1000.0)]
    assert query("SELECT state FROM v.alerts") == [("cleared",)]


def test_retention_of_compressed_chunks(log: Log, database: DatabaseSettings, query: Query) -> None:
    settings = database.model_copy(update={"retention_days": 30})
    assert maintenance.run(settings, moment(T0 + 60 * DAY)).dropped["readings"] == 100
    found = ledger.read(database)
    assert (found.dropped, found.balanced) == (100, True)


def test_the_servers_policies_follow_the_settings(database: DatabaseSettings, query: Query) -> None:
    if database.timescale == "off":
        return  # plain PostgreSQL has no policies: `maintenance.run` does it all
    jobs = "SELECT hypertable_name, config->>'compress_after' FROM timescaledb_information.jobs WHERE proc_name = %s"
    here = " AND hypertable_schema = %s"
    schema = f"{database.db_schema}_data"
    found = dict(query(jobs + here, "policy_compression", schema))
    assert found["readings"] == "45 days"
    assert "waveforms" not in found, "their samples are packed by repacking"
    maintenance.run(database.model_copy(update={"compress_after_days": 60}))
    assert set(dict(query(jobs + here, "policy_compression", schema)).values()) == {"60 days"}
    views = query("SELECT count(*) FROM timescaledb_information.continuous_aggregates WHERE view_schema = %s", schema)
    assert views == [(2,)]
    jobs = "SELECT count(*) FROM timescaledb_information.jobs WHERE proc_name LIKE 'policy_refresh%%' AND %s = %s"
    assert query(jobs, 1, 1) == [(0,)], "aggregates are refreshed by the housekeeper, not a second time by the server"
