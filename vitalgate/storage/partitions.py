"""The pieces of a table over time: native partitions, made and listed here, or TimescaleDB's chunks, listed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from psycopg import sql

from vitalgate.storage import forms
from vitalgate.storage.connect import Connection, Names

BEHIND = 6
"""Partitions made for the past, so that a usual backfill does not land in the default partition."""
AHEAD = 3


@dataclass(frozen=True)
class Chunk:
    """One native partition or chunk, [begin, end)."""

    schema: str
    name: str
    begin: datetime
    end: datetime


def form(connection: Connection) -> str:
    """timescale or plain."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'form'").fetchone()
    return str(row[0]) if row else "plain"


def ensure(connection: Connection, where: Names, table: str, chunk_days: int, now: datetime) -> list[str]:
    """Create the missing partitions around `now`; returns their names."""
    have = chunks(connection, where, table)
    made = []
    for k in range(-BEHIND, AHEAD + 1):
        begin, end = forms.bounds(now + k * timedelta(days=chunk_days), chunk_days)
        if any(chunk.begin <= begin and end <= chunk.end for chunk in have):
            continue
        if name := make(connection, where, table, begin, end, have):
            made.append(name)
    return made


def make(
    connection: Connection, where: Names, table: str, begin: datetime, end: datetime, have: list[Chunk]
) -> str | None:
    """Create one partition; rows of its range that waited in the default partition move into it.

    The bounds are narrower than asked where a partition made with another chunk_days is in the way. A table that may
    not be changed keeps its rows where they are, and gets no partition there.
    """
    for other in have:
        if other.begin < end and begin < other.end:
            if other.begin <= begin:
                begin = other.end
            else:
                end = other.begin
    if begin >= end:
        return None
    row = connection.execute("SELECT time_column, append_only FROM timed WHERE name = %s", (table,)).fetchone()
    assert row is not None, table
    name = f"{table}_{begin:%Y%m%d}"
    parts = {
        "table": sql.Identifier(where.data, table),
        "rest": sql.Identifier(where.data, f"{table}_default"),
        "new": sql.Identifier(where.data, name),
        "column": sql.Identifier(row[0]),
        "begin": sql.Literal(begin.isoformat()),
        "end": sql.Literal(end.isoformat()),
    }
    if row[1]:
        made = connection.execute(
            sql.SQL("SELECT {}(%s, %s, %s)").format(sql.Identifier(where.data, "add_trail_partition")),
            (name, begin, end),
        ).fetchone()
        return name if made is not None and made[0] else None
    with connection.transaction():
        connection.execute(sql.SQL(_LOCK).format(**parts))
        for statement in _MAKE:
            connection.execute(sql.SQL(statement).format(**parts))
    return name


#: The default partition is locked so that nothing enters the range between the move and the attachment.
_LOCK: LiteralString = "LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE; LOCK TABLE {rest} IN ACCESS EXCLUSIVE MODE"
_MOVE: LiteralString = (
    "WITH moved AS (DELETE FROM {rest} WHERE {column} >= {begin} AND {column} < {end} RETURNING *)"
    " INSERT INTO {new} SELECT * FROM moved"
)
_MAKE: tuple[LiteralString, ...] = (
    "CREATE TABLE {new} (LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE)",
    _MOVE,
    "ALTER TABLE {table} ATTACH PARTITION {new} FOR VALUES FROM ({begin}) TO ({end})",
)
_NATIVE = """
    SELECT n.nspname, c.relname, (regexp_match(b, 'FROM \\(''([^'']+)''\\)'))[1]::timestamptz,
           (regexp_match(b, 'TO \\(''([^'']+)''\\)'))[1]::timestamptz
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL pg_get_expr(c.relpartbound, c.oid) AS b
    WHERE i.inhparent = %s::regclass AND b <> 'DEFAULT' ORDER BY 3
"""
_HYPER = """
    SELECT chunk_schema, chunk_name, range_start, range_end FROM timescaledb_information.chunks
    WHERE hypertable_schema = %s AND hypertable_name = %s ORDER BY range_start
"""


def chunks(connection: Connection, where: Names, table: str) -> list[Chunk]:
    """The partitions or chunks of a table in order of time, without the default one."""
    if form(connection) == "plain":
        rows = connection.execute(_NATIVE, (f"{where.data}.{table}",)).fetchall()
    else:
        rows = connection.execute(_HYPER, (where.data, table)).fetchall()
    return [Chunk(schema, name, begin.astimezone(UTC), end.astimezone(UTC)) for schema, name, begin, end in rows]
