"""Housekeeping: partitions made ahead, retention, aggregates, waveforms at rest, a short ledger.

On TimescaleDB chunks and compression run in the server by policies; everything else, and all of it on plain
PostgreSQL, is done by `run`: the archiver's housekeeper calls it, and so does `vitalgate migrate --maintain`. The
aggregates have no policy of the server's: it works off what changed bucket by bucket, which under load took more of
the processor than everything else that the database did; one call for the whole stretch takes a twentieth.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from psycopg import sql

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import aggregates, partitions, repack, retention
from vitalgate.storage.connect import Connection, Names, connect, names
from vitalgate.storage.errors import transient
from vitalgate.storage.partitions import Chunk

log = logging.getLogger(__name__)

#: One run at a time in a deployment.
LOCK = 3
REPACK_AFTER = timedelta(hours=1)
IDLE_AFTER = timedelta(hours=2)
CLOSED_AFTER = timedelta(days=1)
SHORTEN_AFTER = timedelta(days=1)

_SHORTEN = """
    WITH numbered AS (
        SELECT id, topic, partition, first_offset, last_offset, first_offset - lag(last_offset, 1, -2)
               OVER (PARTITION BY topic, partition ORDER BY first_offset) <> 1 AS begins
        FROM ledger WHERE published AND applied_at < %(before)s
        ORDER BY topic, partition, first_offset LIMIT 20000),
    runs AS (SELECT *, count(*) FILTER (WHERE begins) OVER (PARTITION BY topic, partition ORDER BY first_offset) AS run
             FROM numbered),
    several AS (SELECT topic, partition, run, min(first_offset) AS first_offset FROM runs
                GROUP BY topic, partition, run HAVING count(*) > 1),
    gone AS (DELETE FROM ledger l USING runs r JOIN several s USING (topic, partition, run) WHERE l.id = r.id
             RETURNING l.*, s.run)
    SELECT topic, partition, min(first_offset), max(last_offset), sum(messages), sum(items), sum(stored),
    sum(duplicate),
           sum(dead_lettered), sum(derived), max(applied_at), count(*)
    FROM gone GROUP BY topic, partition, run
"""
_PUT_SHORTENED = """
    INSERT INTO ledger (topic, partition, first_offset, last_offset, messages, items, stored, duplicate, dead_lettered,
        derived, applied_at, published)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, true)
"""


@dataclass
class Report:
    """What a run did."""

    ran: bool = True
    """False: another one is running."""
    partitions: list[str] = field(default_factory=list)
    refreshed: int = 0
    """Stretches of the aggregates that were computed again."""
    joined: int = 0
    """Waveform rows that became part of longer ones."""
    squeezed: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows that retention dropped, by table."""
    ledger: int = 0
    """Lines of the ledger that became one with their neighbours."""
    records: int = 0
    """Changes for live queries that went, and messages whose words did."""


def run(settings: DatabaseSettings, now: datetime | None = None, *, thorough: bool = True) -> Report:
    """Do what is due; safe to call at any time and from several processes.

    Parameters
    ----------
    thorough
        False: only bring the aggregates up to date, which is quick and wanted often.

    Raises
    ------
    TransientDatabaseError
        When the database is away.
    """
    now = now or datetime.now(UTC)
    where = names(settings)
    with transient(), connect(settings, "maintenance", autocommit=True) as connection:
        row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, %s))", (where.data, LOCK)).fetchone()
        if row is None or not row[0]:
            return Report(ran=False)
        report = Report()
        if settings.aggregates and partitions.form(connection) == "plain":
            report.refreshed = aggregates.refresh_plain(connection)
        elif settings.aggregates:
            report.refreshed = aggregates.refresh_timescale(connection, now)
        if thorough:
            _thorough(connection, where, settings, now, report)
        return report


def _thorough(connection: Connection, where: Names, settings: DatabaseSettings, now: datetime, report: Report) -> None:
    report.partitions = prepare(connection, where, settings, now)
    report.joined = repack.run(connection, now - REPACK_AFTER, idle_before=now - IDLE_AFTER).rows_before
    report.squeezed = _squeeze(connection, where, now)
    if settings.retention_days:
        report.dropped = retention.drop(connection, where, now - timedelta(days=settings.retention_days))
    report.ledger = _shorten_ledger(connection, now - SHORTEN_AFTER)
    report.records = _tidy_records(connection, where, settings)


def prepare(connection: Connection, where: Names, settings: DatabaseSettings, now: datetime | None = None) -> list[str]:
    """Partitions of the near past and future, or the server's policies; returns the names of new partitions."""
    if partitions.form(connection) == "timescale":
        _policies(connection, where, settings)
        return []
    made = []
    with connection.transaction():
        for (table,) in connection.execute("SELECT name FROM timed ORDER BY name").fetchall():
            made += partitions.ensure(connection, where, table, settings.chunk_days, now or datetime.now(UTC))
    return made


def _policies(connection: Connection, where: Names, settings: DatabaseSettings) -> None:
    """Compression policies as the settings say; one that differs is replaced."""
    after = timedelta(days=settings.compress_after_days)
    for (table,) in connection.execute("SELECT name FROM timed WHERE compressed ORDER BY name").fetchall():
        target = f"{where.data}.{table}"
        have = connection.execute(
            "SELECT (config->>'compress_after')::interval FROM timescaledb_information.jobs"
            " WHERE proc_name = 'policy_compression' AND hypertable_schema = %s AND hypertable_name = %s",
            (where.data, table),
        ).fetchone()
        if have is not None and have[0] != after:
            connection.execute("SELECT remove_compression_policy(%s::regclass)", (target,))
            have = None
        if have is None:
            connection.execute("SELECT add_compression_policy(%s::regclass, %s::interval)", (target, after))


def _tidy_records(connection: Connection, where: Names, settings: DatabaseSettings) -> int:
    """Number what nobody has numbered, forget old changes, take away the words of old messages."""
    call = f"{where.records}.tidy_records(integer, integer)"
    may = connection.execute(
        "SELECT has_schema_privilege(%s, 'USAGE') AND has_function_privilege(%s, 'EXECUTE')", (where.records, call)
    ).fetchone()
    if may is None or not may[0]:
        return 0
    with connection.transaction():
        connection.execute("SELECT set_config('vitalgate.who', 'service:retention', true)")
        row = connection.execute(
            f"SELECT {where.records}.tidy_records(%s, %s)",
            (settings.changes_days, settings.message_days),
        ).fetchone()
    return 0 if row is None else int(row[0])


def _squeeze(connection: Connection, where: Names, now: datetime) -> list[str]:
    """Rewrite closed partitions of waveforms, whose short rows left room behind, once."""
    done = []
    for chunk in partitions.chunks(connection, where, "waveforms"):
        if chunk.end > now - CLOSED_AFTER or not _ripe(connection, chunk):
            continue
        connection.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(sql.Identifier(chunk.schema, chunk.name)))
        connection.execute("INSERT INTO squeezed (relation) VALUES (%s) ON CONFLICT DO NOTHING", (chunk.name,))
        done.append(chunk.name)
    return done


def _ripe(connection: Connection, chunk: Chunk) -> bool:
    """Whether a closed chunk has joined rows, none left to be joined, and was not rewritten before."""
    if connection.execute("SELECT FROM squeezed WHERE relation = %s", (chunk.name,)).rowcount:
        return False
    row = connection.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE items IS NOT NULL)").format(
            sql.Identifier(chunk.schema, chunk.name)
        )
    ).fetchone()
    waiting = connection.execute(
        "SELECT FROM recordings WHERE first_time < %s AND last_time >= %s"
        " AND stop_sample > coalesce(packed_through, first_sample) LIMIT 1",
        (chunk.end, chunk.begin),
    ).rowcount
    return bool(row and row[0]) and not waiting


def _shorten_ledger(connection: Connection, before: datetime) -> int:
    """Join neighbouring published lines of the ledger."""
    with connection.transaction():
        rows = connection.execute(_SHORTEN, {"before": before}).fetchall()
        for *line, _ in rows:
            connection.execute(_PUT_SHORTENED, line)
    return sum(row[-1] for row in rows)
