"""A dump of plain PostgreSQL put back: the same rows, rights and views, and everything goes on after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.local.postgres import servers
from vitalgate.storage import dump, ledger
from vitalgate.storage.migrate import migrate
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.registry import Registry

#: What the database itself counts anew.
_NOT_COMPARED = {"migrations"}


@pytest.fixture
def database(postgres_dsn: str) -> Iterator[DatabaseSettings]:
    """A database of its own, without TimescaleDB, migrated."""
    name = f"vgt_backup_{os.getpid()}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    settings = DatabaseSettings(
        dsn=make_conninfo(postgres_dsn, dbname=name), db_schema=f"vgt_plain_{os.getpid()}", timescale="off"
    )
    try:
        migrate(settings)
        yield settings
    finally:
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def content(settings: DatabaseSettings) -> dict[str, Any]:
    """Every row of every table of ours, and who may do what."""
    found: dict[str, Any] = {}
    wanted = [settings.db_schema, f"{settings.db_schema}_data", f"{settings.db_schema}_records"]
    with psycopg.connect(settings.dsn) as connection:
        kinds = connection.execute(
            "SELECT n.nspname, c.relname, c.relkind::text, coalesce(array_to_string(c.relacl, ' '), ''),"
            " pg_get_userbyid(c.relowner), c.relrowsecurity"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm') ORDER BY 1, 2",
            (wanted,),
        ).fetchall()
        for schema, name, kind, rights, owner, rows in kinds:
            found[f"{schema}.{name}"] = (kind, sorted(rights.split()), owner, rows)
            if kind in "rp" and name not in _NOT_COMPARED:
                query = sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(schema, name))
                found[f"rows of {schema}.{name}"] = connection.execute(query).fetchall()
    return found


def test_rows_rights_and_views_are_back_and_the_recorder_goes_on(database: DatabaseSettings, tmp_path: Path) -> None:
    log = Log()
    with Registry(database) as registry:
        registry.add_patient("patient-plain", "Europe/Berlin", "care")
    with Recorder(database, KafkaSettings()) as recorder:
        first = log.batch(
            log.message(seq=1, readings=[reading(97), reading(96, time_us=T0 + SECOND)]),
            log.message(seq=2, waveforms=[waveform([1, 2, 3], missing=[(0, 1)])]),
        )
        recorder.apply(first)
        recorder.apply(log.batch(log.message(seq=3, readings=[reading(95)])))
    before, known = content(database), dump.facts(database)
    assert known.form == "plain" and known.items > 0
    file = tmp_path / "database.dump"
    dump.dump(database, file, known, [server.bin for server in servers()])
    with Recorder(database, KafkaSettings()) as recorder:  # lost with the database
        recorder.apply(log.batch(log.message(seq=4, readings=[reading(40)])))
    assert content(database) != before
    dump.restore(database, file, known, [server.bin for server in servers()])
    assert migrate(database).applied == []
    assert content(database) == before
    later = Log()
    with Recorder(database, KafkaSettings()) as recorder:
        assert recorder.apply(first).skipped == 2, "what the backup had is known"
        later.message(seq=1), later.message(seq=2), later.message(seq=3)
        again = recorder.apply(later.batch(later.message(seq=4, readings=[reading(94, time_us=T0 + 2 * SECOND)])))
    assert (again.stored, again.skipped) == (1, 0)
    assert ledger.read(database).balanced
