"""Housekeeping of tables over time: partitions made ahead, retention, and what both forms need for it.

On TimescaleDB chunks appear by themselves and policies run in the server; on plain PostgreSQL `run` does the same
when it is called (by a worker, every few minutes, or by `vitalgate migrate --maintain`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from psycopg import sql

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import forms
from vitalgate.storage.connect import Connection, Names

BEHIND = 6
"""Partitions made for the past at each run, so that a usual backfill does not land in the default partition."""


@dataclass(frozen=True)
class Partition:
    """One native partition [begin, end)."""

    name: str
    begin: datetime
    end: datetime


def form(connection: Connection) -> str:
    """timescale or plain."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'form'").fetchone()
    return row[0] if row else "plain"


def prepare(connection: Connection, where: Names, settings: DatabaseSettings) -> None:
    """Make the partitions of the near past and future (plain form only); safe to repeat."""
    if form(connection) == "plain":
        for (table,) in connection.execute("SELECT name FROM timed ORDER BY name").fetchall():
            ensure_partitions(connection, where, table, settings, datetime.now(UTC))


def ensure_partitions(
    connection: Connection, where: Names, table: str, settings: DatabaseSettings, now: datetime
) -> list[str]:
    """Create the missing partitions around `now`; returns their names."""
    made = []
    have = {partition.name for partition in partitions(connection, where, table)}
    step = timedelta(days=settings.chunk_days)
    for k in range(-BEHIND, forms.AHEAD + 1):
        begin, end = forms.bounds(now + k * step, settings.chunk_days)
        if (name := partition_name(table, begin)) not in have:
            have.add(name)
            make_partition(connection, where, table, begin, end)
            made.append(name)
    return made


def partition_name(table: str, begin: datetime) -> str:
    """`readings_20261116`: the first day it holds."""
    return f"{table}_{begin:%Y%m%d}"


def make_partition(connection: Connection, where: Names, table: str, begin: datetime, end: datetime) -> None:
    """Create one partition; rows of its range that waited in the default partition move into it.

    The bounds may be narrower than asked where an older partition (made with another chunk_days) is in the way.
    """
    for other in partitions(connection, where, table):
        if other.begin < end and begin < other.end:
            if other.begin <= begin:
                begin = max(begin, other.end)
            else:
                end = min(end, other.begin)
    if begin >= end:
        return
    name = partition_name(table, begin)
    column = _column(connection, table)
    parts = {
        "table": sql.Identifier(where.data, table),
        "rest": sql.Identifier(where.data, f"{table}_default"),
        "new": sql.Identifier(where.data, name),
        "column": sql.Identifier(column),
        "begin": sql.Literal(begin.isoformat()),
        "end": sql.Literal(end.isoformat()),
    }
    with connection.transaction():
        for statement in _MAKE:
            connection.execute(sql.SQL(statement).format(**parts))


#: The default partition is locked so that nothing enters the range between the move and the attachment.
_MAKE: tuple[LiteralString, ...] = (
    "LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE",
    "CREATE TABLE {new} (LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE)",
    "LOCK TABLE {rest} IN ACCESS EXCLUSIVE MODE",
    "WITH moved AS (DELETE FROM {rest} WHERE {column} >= {begin} AND {column} < {end} RETURNING *)"
    " INSERT INTO {new} SELECT * FROM moved",
    "ALTER TABLE {table} ATTACH PARTITION {new} FOR VALUES FROM ({begin}) TO ({end})",
)


def partitions(connection: Connection, where: Names, table: str) -> list[Partition]:
    """The native partitions of a table in order of time, without the default one."""
    rows = connection.execute(
        """
        SELECT c.relname, (regexp_match(b, 'FROM \\(''([^'']+)''\\)'))[1]::timestamptz,
               (regexp_match(b, 'TO \\(''([^'']+)''\\)'))[1]::timestamptz
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        CROSS JOIN LATERAL pg_get_expr(c.relpartbound, c.oid) AS b
        WHERE i.inhparent = %s::regclass AND b <> 'DEFAULT' ORDER BY 2
        """,
        (f"{where.data}.{table}",),
    ).fetchall()
    return [Partition(*row) for row in rows]


def _column(connection: Connection, table: str) -> str:
    row = connection.execute("SELECT time_column FROM timed WHERE name = %s", (table,)).fetchone()
    assert row is not None, table
    return str(row[0])
