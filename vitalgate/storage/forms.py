"""The two forms of a table over time: TimescaleDB hypertables, or native range partitions on plain PostgreSQL.

Writers and readers see one table either way. A migration marks such a table with a line
``--@timed NAME COLUMN [segmentby=…] [orderby=…] [append_only]`` and the runner gives it its form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import psycopg
from psycopg import sql

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.connect import Connection, Names
from vitalgate.storage.errors import StorageError

FormName = Literal["timescale", "plain"]

#: Partition bounds are whole multiples of chunk_days since this day, so that every run makes the same ones.
EPOCH = date(2000, 1, 3)


@dataclass(frozen=True)
class Timed:
    """A table that is cut by time."""

    name: str
    column: str
    segmentby: str = ""
    orderby: str = ""
    append_only: bool = False


_DIRECTIVE = re.compile(r"^--@timed (?P<name>\w+) (?P<column>\w+)(?P<rest>.*)$", re.MULTILINE)


def directives(text: str) -> list[Timed]:
    """The tables over time that a migration declares."""
    found = []
    for match in _DIRECTIVE.finditer(text):
        words = match["rest"].split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        found.append(
            Timed(
                match["name"],
                match["column"],
                options.get("segmentby", ""),
                options.get("orderby", ""),
                "append_only" in words,
            )
        )
    return found


def choose(connection: Connection, names: Names, settings: DatabaseSettings) -> FormName:
    """The form of this database: the one it already has, else by the setting and by what the server offers.

    Raises
    ------
    StorageError
        When the setting asks for another form than the tables have, or for an extension that is not there.
    """
    row = connection.execute("SELECT value FROM meta WHERE name = 'form'").fetchone()
    if row is not None:
        form: FormName = "timescale" if row[0] == "timescale" else "plain"
        wanted = {"on": "timescale", "off": "plain"}.get(settings.timescale, form)
        if wanted != form:
            raise StorageError(
                f"database.timescale={settings.timescale} but the tables of schema {names.data} are {form}: "
                "the form is chosen at the first migration; keep the setting at auto, or migrate into another schema"
            )
        return form
    offered = _offered(connection) if settings.timescale != "off" else "database.timescale=off"
    if offered is not None:
        if settings.timescale == "on":
            raise StorageError(
                f"database.timescale=on but {offered}; install TimescaleDB on the server, or set it to auto"
            )
        return "plain"
    return "timescale"


def _offered(connection: Connection) -> str | None:
    """None when TimescaleDB can be used here, else why not."""
    row = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone()
    if row is None:
        return "the server does not offer the extension timescaledb"
    row = connection.execute("SELECT current_setting('shared_preload_libraries')").fetchone()
    assert row is not None
    if "timescaledb" not in row[0]:
        return "timescaledb is not in the server's shared_preload_libraries"
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public")
    except psycopg.errors.InsufficientPrivilege:
        return "this role may not create the extension timescaledb (a superuser can, once for the database)"
    return None


def give(connection: Connection, names: Names, table: Timed, form: FormName, settings: DatabaseSettings) -> None:
    """Make the freshly created, empty table a hypertable or give it its first partitions."""
    target = sql.Identifier(names.data, table.name)
    if form == "timescale":
        connection.execute(
            "SELECT create_hypertable(%s::regclass, %s::name, chunk_time_interval => %s,"
            " create_default_indexes => false)",
            (f"{names.data}.{table.name}", table.column, timedelta(days=settings.chunk_days)),
        )
        if table.segmentby:
            connection.execute(
                sql.SQL(
                    "ALTER TABLE {} SET (timescaledb.compress, timescaledb.compress_segmentby = {},"
                    " timescaledb.compress_orderby = {})"
                ).format(target, sql.Literal(table.segmentby), sql.Literal(table.orderby))
            )
    else:
        default = sql.Identifier(names.data, f"{table.name}_default")
        connection.execute(sql.SQL("CREATE TABLE {} PARTITION OF {} DEFAULT").format(default, target))
    connection.execute(
        "INSERT INTO timed (name, time_column, compressed, append_only) VALUES (%s, %s, %s, %s)",
        (table.name, table.column, bool(table.segmentby), table.append_only),
    )


def bounds(moment: datetime, chunk_days: int) -> tuple[datetime, datetime]:
    """The partition [from, to) that a moment falls into."""
    days = (moment.astimezone(UTC).date() - EPOCH).days
    start = EPOCH + timedelta(days=days - days % chunk_days)
    begin = datetime(start.year, start.month, start.day, tzinfo=UTC)
    return begin, begin + timedelta(days=chunk_days)
