"""A migrated schema in each form (plain PostgreSQL, TimescaleDB), emptied before every test.

Most tests take ``database`` and so run over both forms; the second is skipped where the server lacks the extension.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.storage.migrate import migrate
from vitalgate.storage.recorder import Recorder

Query = Callable[..., list[tuple[Any, ...]]]
_KEPT = ("migrations", "meta", "timed", "permissions", "record_verbs")


@pytest.fixture(scope="session")
def dsn(request: pytest.FixtureRequest) -> str:
    """Owner's connection string; TEST_POSTGRES_DSN names a server that already runs."""
    return os.environ.get("TEST_POSTGRES_DSN") or str(request.getfixturevalue("postgres_dsn"))


def drop(dsn: str, schema: str) -> None:
    """Remove a deployment's schemas; the server's own jobs may be in the way for a moment."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        for name in (f"{schema}_records", schema, f"{schema}_data"):
            for attempt in range(5):
                try:
                    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))
                    break
                except psycopg.errors.DeadlockDetected:
                    if attempt == 4:
                        raise


def _rest(settings: DatabaseSettings) -> None:
    """Keep the server's policies from running in the middle of a test."""
    with psycopg.connect(settings.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs"
            " WHERE hypertable_schema = %s",
            (f"{settings.db_schema}_data",),
        )


@pytest.fixture(scope="session")
def no_timescale(dsn: str) -> str:
    """Why the server cannot make hypertables that compress; empty when it can."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT current_setting('shared_preload_libraries') LIKE '%timescaledb%',"
            " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'),"
            " coalesce(current_setting('timescaledb.license', true), ''), version()"
        ).fetchone()
    assert row is not None
    loaded, offered, license_, version = row
    server = " ".join(version.split()[:2])
    if not offered:
        return f"{server} has no extension timescaledb: install it for that server (local.postgres_bin names another)"
    if not loaded:
        return f"{server} offers timescaledb, but shared_preload_libraries does not name it"
    if license_ == "apache":
        return f"{server} runs timescaledb.license = apache, without compression and continuous aggregates"
    return ""


@pytest.fixture(scope="session", params=["plain", "timescale"])
def migrated(request: pytest.FixtureRequest, dsn: str, no_timescale: str) -> Iterator[DatabaseSettings]:
    """One migrated schema a form, for the session."""
    if request.param == "timescale" and no_timescale:
        pytest.skip(no_timescale)
    settings = DatabaseSettings(
        dsn=dsn,
        db_schema=f"vgt_{request.param}_{os.getpid()}",
        timescale="on" if request.param == "timescale" else "off",
    )
    migrate(settings)
    if request.param == "timescale":
        _rest(settings)
    yield settings
    if os.environ.get("TEST_POSTGRES_DSN"):  # a server of our own is removed as a whole
        drop(dsn, settings.db_schema)


@pytest.fixture
def database(migrated: DatabaseSettings) -> DatabaseSettings:
    """The schema, empty."""
    empty(migrated)
    return migrated


def empty(settings: DatabaseSettings) -> None:
    """Empty every table, the audit trail too, as only a superuser with triggers off may."""
    with psycopg.connect(settings.dsn, autocommit=True) as connection:
        # Some sixty small transactions before each test: none has to reach the disk.
        connection.execute(
            "SET session_replication_role = replica; SET client_min_messages = error; SET synchronous_commit = off"
        )
        rows = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
            ([f"{settings.db_schema}_data", f"{settings.db_schema}_records"],),
        ).fetchall()
        for schema, name in rows:
            if name not in _KEPT:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(schema, name)))
        if settings.timescale == "on":
            for name in ("readings_quarter", "readings_minute"):
                connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(f"{settings.db_schema}_data", name)))


@pytest.fixture
def query(database: DatabaseSettings) -> Iterator[Query]:
    """Run SQL in which plain names are tables and views come with the schema `v.`."""
    with psycopg.connect(
        database.dsn, autocommit=True, options=f"-c search_path={database.db_schema}_data,public -c timezone=UTC"
    ) as connection:

        def run(text: str, *args: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(text.replace("v.", f"{database.db_schema}.").encode(), args or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def recorder(database: DatabaseSettings) -> Iterator[Recorder]:
    """An open recorder."""
    with Recorder(database, KafkaSettings()) as made:
        yield made
