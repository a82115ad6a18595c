"""Puts results into their tables: beats by block, features, alert events, deliveries, the audit trail.

Every record is idempotent by its identity; of two revisions the higher one stays, whatever order they come in. Nearly
every result is new: one look-up finds that nothing is there, and the rows go in by COPY.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import psycopg

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import alert_rows, archive_rows, audit_table, binary
from vitalgate.storage.archive_rows import Key, Record
from vitalgate.storage.connect import Connection
from vitalgate.storage.errors import StorageError
from vitalgate.storage.session import Session
from vitalgate.storage.times import moment

T = TypeVar("T")

#: Start times of one block in two revisions differ by the drift of a clock, not by as much as a week; the bound spares
#: looking into every partition.
_APART = timedelta(days=7)
#: Another archiver may put in the same result between the look-up and the rows, while partitions change hands.
_ATTEMPTS = 3

_BLOCK_MATCH = """
    t.device_id = k.device AND t.recording = k.recording AND t.channel = k.channel AND t.algorithm = k.algorithm
    AND t.block = k.block AND t.patient_id = k.patient AND t.time BETWEEN %(low)s AND %(high)s
"""
_BLOCK_KEYS = """
    unnest(%(k0)s::text[], %(k1)s::text[], %(k2)s::text[], %(k3)s::text[], %(k4)s::bigint[], %(k5)s::text[])
        WITH ORDINALITY AS k (device, recording, channel, algorithm, block, patient, n)
"""
_FEATURE_MATCH = """
    t.device_id = k.device AND t.recording = k.recording AND t.channel = k.channel AND t.name = k.name
    AND t.algorithm = k.algorithm AND t.first_sample = k.first AND t.patient_id = k.patient
    AND t.time BETWEEN %(low)s AND %(high)s
"""
_FEATURE_KEYS = """
    unnest(%(k0)s::text[], %(k1)s::text[], %(k2)s::text[], %(k3)s::text[], %(k4)s::text[], %(k5)s::bigint[],
           %(k6)s::text[]) WITH ORDINALITY AS k (device, recording, channel, name, algorithm, first, patient, n)
"""
BLOCKS_KNOWN = f"SELECT k.n, t.revision FROM {_BLOCK_KEYS} JOIN beat_blocks t ON {_BLOCK_MATCH}"  # noqa: S608
FEATURES_KNOWN = f"SELECT k.n, t.revision FROM {_FEATURE_KEYS} JOIN features t ON {_FEATURE_MATCH}"  # noqa: S608
BEATS_DELETE = f"""
    DELETE FROM beats b USING {_BLOCK_KEYS}, beat_blocks t
    WHERE {_BLOCK_MATCH} AND b.device_id = t.device_id AND b.channel = t.channel AND b.recording = t.recording
      AND b.algorithm = t.algorithm AND b.block = t.block AND b.patient_id = t.patient_id
      AND b.time BETWEEN t.first_beat AND t.last_beat
"""  # noqa: S608  constants only
BLOCKS_DELETE = f"DELETE FROM beat_blocks t USING {_BLOCK_KEYS} WHERE {_BLOCK_MATCH}"  # noqa: S608
FEATURES_DELETE = f"DELETE FROM features t USING {_FEATURE_KEYS} WHERE {_FEATURE_MATCH}"  # noqa: S608


class Archive:
    """One connection; calls come from one thread at a time. Every call is one transaction.

    Raises
    ------
    TransientDatabaseError
        From every method: the database is away or busy, nothing was committed, call again.
    StorageError
        From every method: a record lacks a field or holds a value that cannot be stored; the text names it.
    """

    def __init__(self, database: DatabaseSettings) -> None:
        self._session = Session(database, "archiver", database.batch_timeout_s, prepare=_prepare)

    def open(self) -> None:
        """Connect, unless connected."""
        self._session.open()

    def close(self) -> None:
        """Disconnect."""
        self._session.close()

    def beats(self, records: Sequence[Record]) -> int:
        """Store records of patient.beats; returns how many blocks are new or replaced an older revision."""
        newest = archive_rows.newest("patient.beats", records, archive_rows.BLOCK_KEY)
        rows = {key: _checked("patient.beats", archive_rows.block, record) for key, record in newest.items()}

        def put(connection: Connection) -> int:
            fresh, old = _sorted_out(connection, BLOCKS_KNOWN, newest)
            if old:
                connection.execute(BEATS_DELETE, _where(old, newest))
                connection.execute(BLOCKS_DELETE, _where(old, newest))
            _copy(connection, "beat_blocks", archive_rows.BLOCK_COLUMNS, [rows[key][0] for key in fresh])
            _copy(connection, "beats", archive_rows.BEAT_COLUMNS, [row for key in fresh for row in rows[key][1]])
            return len(fresh)

        return self._put(put) if newest else 0

    def features(self, records: Sequence[Record]) -> int:
        """Store records of patient.features; returns how many are new or replaced an older revision."""
        newest = archive_rows.newest("patient.features", records, archive_rows.FEATURE_KEY)
        rows = {key: _checked("patient.features", archive_rows.feature, record) for key, record in newest.items()}

        def put(connection: Connection) -> int:
            fresh, old = _sorted_out(connection, FEATURES_KNOWN, newest)
            if old:
                connection.execute(FEATURES_DELETE, _where(old, newest))
            _copy(connection, "features", archive_rows.FEATURE_COLUMNS, [rows[key] for key in fresh])
            return len(fresh)

        return self._put(put) if newest else 0

    def alerts(self, records: Sequence[Record]) -> int:
        """Store events of patient.alerts; returns how many are new."""
        rows = [_checked("patient.alerts", alert_rows.alert, record) for record in records]
        if not rows:
            return 0
        with self._session.transaction() as connection:
            cursor = connection.cursor()
            cursor.executemany(alert_rows.ALERTS_INSERT, rows)
            return max(cursor.rowcount, 0)

    def deliveries(self, records: Sequence[Record]) -> int:
        """Store records of alert.deliveries; returns how many are new."""
        rows = [_checked("alert.deliveries", alert_rows.delivery, record) for record in records]
        if not rows:
            return 0
        with self._session.transaction() as connection:
            cursor = connection.cursor()
            cursor.executemany(alert_rows.DELIVERIES_INSERT, rows)
            return max(cursor.rowcount, 0)

    def audit(self, records: Sequence[bytes]) -> int:
        """Store records of audit.events, given as the very bytes that are in Kafka; returns how many are new."""
        rows = [_checked("audit.events", audit_table.row, raw) for raw in records]
        if not rows:
            return 0
        anchors = [anchor for raw in records if (anchor := audit_table.anchor_row(raw))]
        with self._session.transaction() as connection:
            cursor = connection.cursor()
            cursor.executemany(audit_table.INSERT, rows)
            count = max(cursor.rowcount, 0)
            if anchors:
                cursor.executemany(audit_table.INSERT_ANCHOR, anchors)
            return count

    def _put(self, put: Callable[[Connection], int]) -> int:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._session.transaction() as connection:
                    return put(connection)
            except psycopg.errors.UniqueViolation:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")


def _prepare(connection: Connection) -> None:
    """Look-ups are by key and find next to nothing; neither statistics that lag behind nor a plan made without knowing
    how many keys there are may lead to whole scans.
    """
    connection.execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")
    connection.execute("SET plan_cache_mode = force_custom_plan")


def _where(keys: Sequence[Key], newest: Mapping[Key, Record]) -> dict[str, Any]:
    """Parameters that name these results and the stretch of time to look at."""
    times = [archive_rows.time_us(newest[key]["start"]) for key in keys]
    columns = {f"k{place}": list(column) for place, column in enumerate(zip(*keys, strict=True))}
    return {**columns, "low": _moved(min(times), -1), "high": _moved(max(times), 1)}


def _moved(us: int, direction: int) -> datetime:
    try:
        return moment(us) + direction * _APART
    except OverflowError:
        return moment(us)


def _sorted_out(connection: Connection, known: str, newest: Mapping[Key, Record]) -> tuple[list[Key], list[Key]]:
    """(those to be put in, those of them of which an older revision is there)."""
    keys = list(newest)
    stored = {keys[n - 1]: revision for n, revision in connection.execute(known, _where(keys, newest))}
    fresh = [key for key in keys if key not in stored or stored[key] < newest[key]["revision"]]
    return fresh, [key for key in fresh if key in stored]


def _copy(connection: Connection, table: str, columns: str, rows: Sequence[bytes]) -> None:
    if rows:
        with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(binary.HEADER + b"".join(rows) + binary.TRAILER)


def _checked(topic: str, make: Callable[..., T], *args: Any) -> T:
    try:
        return make(*args)
    except (KeyError, TypeError, ValueError, AttributeError, struct.error, OverflowError) as error:
        raise StorageError(
            f"a record of {topic} lacks or garbles {error!r}; its producer and the archive disagree"
        ) from error
