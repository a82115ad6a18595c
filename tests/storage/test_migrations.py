"""The runner: twice, at once, in both forms, and what it refuses."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tests.storage.conftest import Query, drop
from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import migrate as runner
from vitalgate.storage.errors import StorageError, TransientDatabaseError
from vitalgate.storage.migrate import Migration, migrate, migrations


@pytest.fixture
def fresh(dsn: str) -> Iterator[DatabaseSettings]:
    """A deployment of its own that nobody has migrated."""
    settings = DatabaseSettings(dsn=dsn, db_schema=f"vgt_fresh_{os.getpid()}", timescale="off")
    drop(dsn, settings.db_schema)
    yield settings
    drop(dsn, settings.db_schema)


def test_four_runners_at_once_apply_each_migration_once(fresh: DatabaseSettings) -> None:
    start = threading.Barrier(4)

    def one() -> list[str]:
        start.wait()
        return migrate(fresh).applied

    with ThreadPoolExecutor(4) as pool:
        applied = [run.result() for run in [pool.submit(one) for _ in range(4)]]
    assert sorted(map(len, applied)) == [0, 0, 0, len(migrations())]
    assert migrate(fresh).applied == []
    _changed_migration_is_refused(fresh)
    _newer_database_is_refused(fresh)
    _other_form_is_refused(fresh)


def _changed_migration_is_refused(settings: DatabaseSettings) -> None:
    with psycopg.connect(settings.dsn, autocommit=True) as connection:
        table = f"{settings.db_schema}_data.migrations"
        connection.execute(f"UPDATE {table} SET checksum = 'x' || checksum WHERE number = 2")
        with pytest.raises(StorageError, match=r"0002_facts was applied with checksum .* must not change"):
            migrate(settings)
        connection.execute(f"UPDATE {table} SET checksum = substr(checksum, 2) WHERE number = 2")


def _newer_database_is_refused(settings: DatabaseSettings) -> None:
    with psycopg.connect(settings.dsn, autocommit=True) as connection:
        table = f"{settings.db_schema}_data.migrations"
        connection.execute(f"INSERT INTO {table} VALUES (999, 'later', 'x', now(), 1)")
        with pytest.raises(StorageError, match=r"0999_later, which this version does not know"):
            migrate(settings)
        connection.execute(f"DELETE FROM {table} WHERE number = 999")


def _other_form_is_refused(settings: DatabaseSettings) -> None:
    other = settings.model_copy(update={"timescale": "on"})
    with pytest.raises(StorageError, match=r"timescale=on but the tables .* are plain"):
        migrate(other)


def test_a_migration_that_fails_leaves_nothing(fresh: DatabaseSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = migrations()[0], Migration(2, "bad", "CREATE TABLE {data}.half (a int); SELECT 1/0;", "x")
    monkeypatch.setattr(runner, "migrations", lambda: [good, bad])
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(fresh)
    with psycopg.connect(fresh.dsn) as connection:
        rows = connection.execute(f"SELECT number FROM {fresh.db_schema}_data.migrations").fetchall()
        half = connection.execute("SELECT to_regclass(%s)", (f"{fresh.db_schema}_data.half",)).fetchone()
    assert rows == [(1,)]
    assert half == (None,)


def test_a_server_that_is_away_is_a_passing_fault() -> None:
    with pytest.raises(TransientDatabaseError):
        migrate(DatabaseSettings(dsn="host=127.0.0.1 port=1 dbname=nowhere connect_timeout=2"))


def test_no_connection_string_says_what_to_set() -> None:
    with pytest.raises(StorageError, match=r"VITALGATE_DATABASE_DSN"):
        migrate(DatabaseSettings(dsn=""))


def test_timescale_cannot_be_had_where_it_is_not(fresh: DatabaseSettings, no_timescale: str) -> None:
    wanted = fresh.model_copy(update={"timescale": "on"})
    if not no_timescale:
        assert migrate(wanted).form == "timescale"
    else:
        with pytest.raises(StorageError, match=r"timescale=on but .* set it to auto"):
            migrate(wanted)
        assert migrate(fresh.model_copy(update={"timescale": "auto"})).form == "plain"


def test_every_table_over_time_is_cut_by_time(database: DatabaseSettings, query: Query) -> None:
    tables = {name for (name,) in query("SELECT name FROM timed")}
    wanted = {
        "readings",
        "waveforms",
        "device_status",
        "beats",
        "beat_blocks",
        "features",
        "alert_events",
        "audit_events",
    }
    assert wanted <= tables
    if database.timescale == "on":
        found = query(
            "SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_schema = %s",
            f"{database.db_schema}_data",
        )
        assert wanted <= {name for (name,) in found}
        return
    for table in wanted:
        found = query(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = %s::regclass",
            table,
        )
        assert (f"{table}_default",) in found
        assert len(found) > 5


def test_partitions_reach_into_the_future(database: DatabaseSettings, query: Query) -> None:
    if database.timescale == "on":
        return  # chunks appear by themselves
    later = datetime.now(UTC) + timedelta(days=database.chunk_days * 2)
    query("INSERT INTO device_status VALUES (%s, 'd', 'x', 'online', 1, '', '', '{}', '', 1, now(), NULL, 0, 0)", later)
    assert query("SELECT tableoid::regclass::text LIKE '%%default' FROM device_status") == [(False,)]


def test_the_audit_trail_only_grows(database: DatabaseSettings, query: Query) -> None:
    query(
        "INSERT INTO audit_events VALUES (now(), 1, 'e', 'who', 'did', 'thing', '1', '', 'ok', false, 0, NULL, 'h',"
        " '{}')"
    )
    with pytest.raises(psycopg.Error, match=r"append-only|permission denied"):
        query("UPDATE audit_events SET who = 'nobody'")
    with pytest.raises(psycopg.Error, match=r"append-only|permission denied"):
        query("DELETE FROM audit_events")
    with pytest.raises(psycopg.Error, match=r"append-only|permission denied"):
        query("TRUNCATE audit_events")
    assert query("SELECT who FROM v.audit_events") == [("who",)]
