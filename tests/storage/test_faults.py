"""The database goes away, is busy or is stopped in the middle: nothing half done, nothing twice."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from tests.storage.conftest import Query
from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.devices.records import ValidatedBatch
from vitalgate.storage import deadletters, ledger, recorder
from vitalgate.storage.archive import Archive
from vitalgate.storage.errors import TransientDatabaseError, is_data, is_transient
from vitalgate.storage.recorder import Recorder


def _batch(log: Log, n: int) -> ValidatedBatch:
    at = T0 + n * SECOND
    return log.batch(
        log.message(
            seq=2 * n + 1, readings=[reading(97, time_us=at), reading(60, item=1, metric="pulse_rate", time_us=at)]
        ),
        log.message(seq=2 * n + 2, waveforms=[waveform(range(250), first=250 * n, start_us=at)]),
    )


def _end_backends(database: DatabaseSettings) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'vitalgate recorder' AND datname = current_database()"
        )


def test_a_connection_that_is_gone_is_opened_again(
    recorder: Recorder, database: DatabaseSettings, query: Query
) -> None:
    log = Log()
    recorder.apply(_batch(log, 0))
    _end_backends(database)
    batch = _batch(log, 1)
    with pytest.raises(TransientDatabaseError):
        recorder.apply(batch)
    assert recorder.apply(batch).stored == 3
    assert query("SELECT count(*) FROM readings") == [(4,)]
    assert ledger.read(database).balanced


def test_a_transaction_that_dies_leaves_nothing(
    database: DatabaseSettings, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after all rows were written and before the commit, several times over."""
    log = Log()
    whole = deadletters.write
    deaths = [True, False, True, True, False]

    def write(*args: object) -> None:
        if deaths and deaths.pop(0):
            _end_backends(database)
        whole(*args)  # type: ignore[arg-type]
        args[0].execute("SELECT 1")  # type: ignore[attr-defined]

    monkeypatch.setattr(recorder.deadletters, "write", write)
    with Recorder(database, KafkaSettings()) as made:
        for n in range(2):
            batch = _batch(log, n)
            for _ in range(5):
                try:
                    made.apply(batch)
                    break
                except TransientDatabaseError:
                    assert query("SELECT count(*) FROM readings") == [(2 * n,)]
                    assert query("SELECT count(*) FROM ledger") == [(n,)]
    assert query("SELECT count(*) FROM readings") == [(4,)]
    assert query("SELECT count(*) FROM waveforms") == [(2,)]
    assert ledger.read(database).balanced


def test_a_lock_that_does_not_come_is_a_passing_fault(database: DatabaseSettings, query: Query) -> None:
    impatient = database.model_copy(update={"batch_timeout_s": 0.3})
    log = Log()
    batch = _batch(log, 0)
    with Recorder(impatient, KafkaSettings()) as made:
        made.high_water(0)
        with psycopg.connect(database.dsn) as other:
            other.execute(f"LOCK TABLE {database.db_schema}_data.readings IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(TransientDatabaseError):
                made.apply(batch)
        assert made.apply(batch).stored == 3


def test_a_deadlock_is_a_passing_fault(database: DatabaseSettings, query: Query) -> None:
    log = Log()
    with Recorder(database, KafkaSettings()) as made:
        made.apply(_batch(log, 0))
        batch = _batch(log, 1)
        tables = f"{database.db_schema}_data"
        with psycopg.connect(database.dsn) as other:
            other.execute("SET deadlock_timeout = '10s'")
            other.execute(f"LOCK TABLE {tables}.waveforms IN SHARE MODE")
            other.execute(f"LOCK TABLE {tables}.ledger IN SHARE MODE")
            failed: list[Exception] = []

            def apply() -> None:
                try:
                    made.apply(batch)
                except TransientDatabaseError as error:
                    failed.append(error)

            thread = threading.Thread(target=apply)
            thread.start()
            time.sleep(0.5)  # it has written readings by now, and waits for waveforms
            other.execute(f"LOCK TABLE {tables}.readings IN SHARE MODE")
            thread.join(20)
        assert [type(error) for error in failed] == [TransientDatabaseError]
        assert made.apply(batch).stored == 3
    assert ledger.read(database).balanced


def test_a_server_that_is_away_is_waited_for_by_the_caller() -> None:
    nowhere = DatabaseSettings(dsn="host=127.0.0.1 port=1 connect_timeout=1")
    with pytest.raises(TransientDatabaseError):
        Recorder(nowhere, KafkaSettings()).apply(_batch(Log(), 0))
    with pytest.raises(TransientDatabaseError):
        Archive(nowhere).open()
    with pytest.raises(TransientDatabaseError):
        ledger.read(nowhere)


@pytest.mark.parametrize(
    ("error", "transient", "data"),
    [
        (psycopg.errors.DiskFull(), True, False),
        (psycopg.errors.SerializationFailure(), True, False),
        (psycopg.errors.AdminShutdown(), True, False),
        (psycopg.errors.QueryCanceled(), True, False),
        (psycopg.errors.LockNotAvailable(), True, False),
        (psycopg.errors.TooManyConnections(), True, False),
        (psycopg.OperationalError("server closed the connection unexpectedly"), True, False),
        (psycopg.errors.NumericValueOutOfRange(), False, True),
        (psycopg.errors.UniqueViolation(), False, True),
        (psycopg.errors.UndefinedTable(), False, False),
        (psycopg.errors.InsufficientPrivilege(), False, False),
    ],
)
def test_faults_are_told_apart(error: psycopg.Error, transient: bool, data: bool) -> None:
    assert (is_transient(error), is_data(error)) == (transient, data)
