"""Drops clinical data that is older than the deployment keeps it, and counts what goes, so that the ledger balances.

Whole partitions or chunks go; the rows of the default partition and of ordinary tables are deleted. The audit trail
stays: it is not clinical data, and nothing may take from it.
"""

from __future__ import annotations

from datetime import datetime
from typing import LiteralString

from psycopg import sql

from vitalgate.storage import partitions
from vitalgate.storage.aggregates import QUARTER, VIEWS
from vitalgate.storage.connect import Connection, Names

KEPT = frozenset({"audit_events"})
_COUNTED: dict[str, tuple[LiteralString, LiteralString]] = {
    "readings": ("count(*) FILTER (WHERE NOT derived)", "count(*) FILTER (WHERE derived)"),
    "waveforms": ("coalesce(sum(n_items), 0)", "0"),
    "device_status": ("count(*)", "0"),
}
_COUNT: LiteralString = "SELECT {stored}, {derived}, count(*) FROM {table} WHERE {column} < {before}"
_NOTE = """
    INSERT INTO retention_drops (table_name, from_time, to_time, stored, derived, dead_lettered)
    VALUES (%s, %s, %s, %s, %s, %s)
"""


def drop(connection: Connection, where: Names, before: datetime) -> dict[str, int]:
    """Drop what is wholly older than `before`; returns rows by table."""
    dropped: dict[str, int] = {}
    plain = partitions.form(connection) == "plain"
    tables = connection.execute("SELECT name, time_column FROM timed ORDER BY name").fetchall()
    for table, column in tables:
        if table in KEPT:
            continue
        old = [chunk for chunk in partitions.chunks(connection, where, table) if chunk.end <= before]
        for chunk in old:
            count = _drop_chunk(connection, where, table, column, chunk, plain=plain)
            dropped[table] = dropped.get(table, 0) + count
        if plain and (count := _delete_rest(connection, where, table, column, before)):
            dropped[table] = dropped.get(table, 0) + count
    if not plain and dropped.get("readings"):
        # Continuous aggregates keep what they have computed; computed again, nothing is left of what went.
        for view in VIEWS:
            connection.execute(
                "CALL refresh_continuous_aggregate(%s::regclass, NULL, %s::timestamptz)", (view, before + QUARTER)
            )
    dropped.update(_dead_letters(connection, before))
    return {table: count for table, count in dropped.items() if count}


def _drop_chunk(
    connection: Connection, where: Names, table: str, column: str, chunk: partitions.Chunk, *, plain: bool
) -> int:
    piece = sql.Identifier(chunk.schema, chunk.name)
    whole = sql.Identifier(where.data, table)
    with connection.transaction():
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(whole))
        count = _count(connection, table, column, piece, chunk.end)
        _note(connection, table, chunk.begin, chunk.end, count)
        if plain:
            connection.execute(sql.SQL("DROP TABLE {}").format(piece))
        else:
            connection.execute(
                "SELECT drop_chunks(%s::regclass, older_than => %s::timestamptz, newer_than => %s::timestamptz)",
                (f"{where.data}.{table}", chunk.end, chunk.begin),
            )
    return count[2]


def _delete_rest(connection: Connection, where: Names, table: str, column: str, before: datetime) -> int:
    rest = sql.Identifier(where.data, f"{table}_default")
    with connection.transaction():
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(rest))
        count = _count(connection, table, column, rest, before)
        if count[2]:
            _note(connection, table, None, before, count)
            connection.execute(
                sql.SQL("DELETE FROM {} WHERE {} < {}").format(rest, sql.Identifier(column), sql.Literal(before))
            )
    return count[2]


def _count(
    connection: Connection, table: str, column: str, piece: sql.Identifier, before: datetime
) -> tuple[int, int, int]:
    stored, derived = _COUNTED.get(table, ("0", "0"))
    row = connection.execute(
        sql.SQL(_COUNT).format(
            stored=sql.SQL(stored),
            derived=sql.SQL(derived),
            table=piece,
            column=sql.Identifier(column),
            before=sql.Literal(before),
        )
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1]), int(row[2])


def _note(
    connection: Connection, table: str, begin: datetime | None, end: datetime, count: tuple[int, int, int]
) -> None:
    if count[0] or count[1]:
        connection.execute(_NOTE, (table, begin, end, count[0], count[1], 0))


def _dead_letters(connection: Connection, before: datetime) -> dict[str, int]:
    """Dead letters and waiting corrections go by their arrival."""
    with connection.transaction():
        dead = connection.execute("DELETE FROM dead_letters WHERE last_seen_at < %s", (before,)).rowcount
        if dead:
            connection.execute(_NOTE, ("dead_letters", None, before, 0, 0, dead))
            connection.execute(
                "DELETE FROM payloads p WHERE NOT EXISTS (SELECT FROM dead_letters d WHERE d.payload_hash = p.hash)"
            )
        rows = connection.execute(
            "DELETE FROM pending_corrections WHERE received_at < %s RETURNING derived", (before,)
        ).fetchall()
        waiting = sum(1 for (derived,) in rows if not derived)
        if waiting:
            connection.execute(_NOTE, ("pending_corrections", None, before, waiting, 0, 0))
    return {"dead_letters": dead, "pending_corrections": len(rows)}
