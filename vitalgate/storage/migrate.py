"""Numbered SQL migrations: checksummed, one transaction each, under an advisory lock."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from dataclasses import dataclass
from importlib import resources

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import dictionary, forms, maintenance, records_rules, roles
from vitalgate.storage.connect import Connection, Names, connect, names
from vitalgate.storage.errors import StorageError, transient

log = logging.getLogger(__name__)

#: One lock for the whole database, since extensions are shared by all schemas in it.
LOCK = 0x7669_7461_6C01
_NAME = re.compile(r"^(\d{4})_(\w+)\.sql$")


@dataclass(frozen=True)
class Migration:
    """One file: its number, name, text and the SHA-256 of the text."""

    number: int
    name: str
    sql: str
    checksum: str


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    form: str
    applied: list[str]
    version: int


def migrations() -> list[Migration]:
    """The packaged migrations in order.

    Raises
    ------
    StorageError
        When a file is misnamed or a number is missing or there twice.
    """
    found = []
    for entry in resources.files("vitalgate.storage").joinpath("migrations").iterdir():
        if not entry.name.endswith(".sql"):
            continue
        match = _NAME.match(entry.name)
        if match is None:
            raise StorageError(f"migration {entry.name!r} is not named NNNN_words.sql")
        text = entry.read_text(encoding="utf-8")
        found.append(Migration(int(match[1]), match[2], text, hashlib.sha256(text.encode()).hexdigest()))
    found.sort(key=lambda migration: migration.number)
    for expected, migration in enumerate(found, 1):
        if migration.number != expected:
            raise StorageError(f"migration number {expected:04d} is missing or there twice ({migration.name})")
    return found


def migrate(settings: DatabaseSettings) -> Outcome:
    """Bring the schema up to date; safe to run twice and by several processes at once.

    Raises
    ------
    StorageError
        When an applied migration's text has changed, the database is newer than this code, or the form is not the
        one asked for.
    TransientDatabaseError
        When the database is away.
    """
    with transient(), connect(settings, "migrate", autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        return _run(connection, names(settings), settings)


def _run(connection: Connection, where: Names, settings: DatabaseSettings) -> Outcome:
    _bootstrap(connection, where)
    form = forms.choose(connection, where, settings)
    done = {
        number: (name, checksum)
        for number, name, checksum in connection.execute("SELECT number, name, checksum FROM migrations")
    }
    known = migrations()
    _check(done, known)
    applied = []
    for migration in known:
        if migration.number in done:
            continue
        started = time.monotonic()
        with connection.transaction():
            _apply(connection, where, migration, form, settings)
            connection.execute(
                "INSERT INTO migrations (number, name, checksum, took_ms) VALUES (%s, %s, %s, %s)",
                (migration.number, migration.name, migration.checksum, int((time.monotonic() - started) * 1000)),
            )
            connection.execute("INSERT INTO meta VALUES ('form', %s) ON CONFLICT (name) DO NOTHING", (form,))
        applied.append(f"{migration.number:04d}_{migration.name}")
        log.info("migration applied", extra={"migration": applied[-1]})
    maintenance.prepare(connection, where, settings)
    roles.apply(connection, where, settings)
    records_rules.load(connection, where)
    if applied:
        dictionary.comment(connection, where)
    return Outcome(form, applied, known[-1].number)


def _bootstrap(connection: Connection, where: Names) -> None:
    with connection.transaction():
        connection.execute(
            where.fill(
                """
                CREATE SCHEMA IF NOT EXISTS {data};
                CREATE SCHEMA IF NOT EXISTS {schema};
                CREATE TABLE IF NOT EXISTS {data}.migrations (
                    number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
                    applied_at timestamptz NOT NULL DEFAULT now(), took_ms integer NOT NULL);
                CREATE TABLE IF NOT EXISTS {data}.meta (name text PRIMARY KEY, value text NOT NULL);
                CREATE TABLE IF NOT EXISTS {data}.timed (
                    name text PRIMARY KEY, time_column text NOT NULL, compressed boolean NOT NULL,
                    append_only boolean NOT NULL);
                """
            )
        )


def _check(done: dict[int, tuple[str, str]], known: list[Migration]) -> None:
    by_number = {migration.number: migration for migration in known}
    for number, (name, checksum) in done.items():
        migration = by_number.get(number)
        if migration is None:
            raise StorageError(
                f"the database has migration {number:04d}_{name}, which this version does not know "
                f"(its newest is {known[-1].number:04d}): run the newer version"
            )
        if migration.checksum != checksum:
            raise StorageError(
                f"migration {number:04d}_{name} was applied with checksum {checksum[:12]} but the file now has "
                f"{migration.checksum[:12]}: an applied migration must not change; add a new one"
            )


def _apply(
    connection: Connection, where: Names, migration: Migration, form: forms.FormName, settings: DatabaseSettings
) -> None:
    sql = _of_form(where.fill(migration.sql), form)
    tables = forms.directives(sql)
    for table in tables:
        clause = f"PARTITION BY RANGE ({table.column})" if form == "plain" else ""
        sql = re.sub(rf"(CREATE TABLE [\w.]+\.{table.name} \(.*?\)) \{{timed\}};", rf"\1 {clause};", sql, flags=re.S)
    connection.execute(sql.encode())
    for table in tables:
        forms.give(connection, where, table, form, settings)


def _of_form(sql: str, form: str) -> str:
    """The text without the parts marked for the other form (`--@form NAME` … `--@form end`)."""
    kept: list[str] = []
    current = ""
    for line in sql.splitlines():
        if line.startswith("--@form "):
            current = line.split()[1].removesuffix("end")
        elif current in ("", form):
            kept.append(line)
    return "\n".join(kept)
