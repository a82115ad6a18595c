"""Puts results into their tables: beats by block, features, alert events, the audit trail.

Every record is idempotent by its identity; of two revisions the higher one stays, whatever order they come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import audit_table
from vitalgate.storage.connect import Connection
from vitalgate.storage.errors import StorageError
from vitalgate.storage.session import Session
from vitalgate.storage.times import parse_time

Record = Mapping[str, Any]


_MAKE_BLOCKS = """
    CREATE TEMP TABLE IF NOT EXISTS blocks_in (LIKE beat_blocks INCLUDING DEFAULTS); TRUNCATE blocks_in
"""
_MAKE_BEATS = "CREATE TEMP TABLE IF NOT EXISTS beats_in (LIKE beats INCLUDING DEFAULTS); TRUNCATE beats_in"
_FEATURES = """
    CREATE TEMP TABLE IF NOT EXISTS features_in (LIKE features INCLUDING DEFAULTS); TRUNCATE features_in
"""


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
        self._session = Session(database, "archiver", database.batch_timeout_s)

    def open(self) -> None:
        """Connect, unless connected."""
        self._session.open()

    def close(self) -> None:
        """Disconnect."""
        self._session.close()

    def beats(self, records: Sequence[Record]) -> int:
        """Store records of patient.beats; returns how many blocks are new or replaced an older revision."""
        newest = _newest(records, ("device_id", "recording", "channel", "algorithm", "block"))
        rows = [_checked("patient.beats", _beat_row, record) for record in newest]
        if not rows:
            return 0
        beats = [row for record in newest for row in _checked("patient.beats", _beats_of, record)]
        with self._session.transaction() as connection:
            _load(connection, "blocks_in", _MAKE_BLOCKS, BLOCK_COLUMNS, rows)
            _load(connection, "beats_in", _MAKE_BEATS, BEAT_COLUMNS, beats)
            connection.execute(BEATS_DELETE)
            connection.execute(BLOCKS_DELETE)
            row = connection.execute(BLOCKS_INSERT).fetchone()
            return int(row[0]) if row else 0

    def features(self, records: Sequence[Record]) -> int:
        """Store records of patient.features; returns how many are new or replaced an older revision."""
        newest = _newest(
            records, ("device_id", "recording", "channel", "name", "algorithm", ("window", "first_sample"))
        )
        rows = [_checked("patient.features", _feature_row, record) for record in newest]
        return self._replace("features_in", _FEATURES, FEATURE_COLUMNS, rows, FEATURES_DELETE, FEATURES_INSERT)

    def alerts(self, records: Sequence[Record]) -> int:
        """Store events of patient.alerts; returns how many are new."""
        rows = [_checked("patient.alerts", _alert_row, record) for record in records]
        if not rows:
            return 0
        with self._session.transaction() as connection:
            cursor = connection.cursor()
            cursor.executemany(ALERTS_INSERT, rows)
            return max(cursor.rowcount, 0)

    def audit(self, records: Sequence[bytes]) -> int:
        """Store records of audit.events, given as the very bytes that are in Kafka; returns how many are new."""
        rows = [_checked("audit.events", audit_table.row, raw) for raw in records]
        if not rows:
            return 0
        with self._session.transaction() as connection:
            cursor = connection.cursor()
            cursor.executemany(audit_table.INSERT, rows)
            return max(cursor.rowcount, 0)

    def _replace(
        self, table: str, make: str, columns: str, rows: Sequence[Sequence[Any]], delete: str, insert: str
    ) -> int:
        if not rows:
            return 0
        with self._session.transaction() as connection:
            _load(connection, table, make, columns, rows)
            connection.execute(delete)
            return connection.execute(insert).rowcount


def _load(connection: Connection, table: str, make: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
    cursor = connection.cursor()
    cursor.execute(make)
    with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


BLOCK_COLUMNS = (
    "time, device_id, recording, channel, algorithm, block, revision, algorithm_version, first_sample, stop_sample,"
    " rate, inputs, quality, beats, first_beat, last_beat, patient_id"
)
BEAT_COLUMNS = "time, device_id, channel, recording, algorithm, block, sample, kind, rr_ms"
FEATURE_COLUMNS = (
    "time, device_id, recording, channel, name, algorithm, first_sample, stop_sample, end_time, value, unit,"
    " algorithm_version, revision, withdrawn, detail, patient_id"
)
#: Start times of one block in two revisions differ by the drift of a clock, not by as much as a week; the bound spares
#: looking into every partition.
_BEAT_KEY = (
    "t.device_id = n.device_id AND t.recording = n.recording AND t.channel = n.channel AND t.algorithm = n.algorithm"
    " AND t.block = n.block AND t.time BETWEEN n.time - interval '7 days' AND n.time + interval '7 days'"
)
_FEATURE_KEY = (
    "t.device_id = n.device_id AND t.recording = n.recording AND t.channel = n.channel AND t.name = n.name"
    " AND t.algorithm = n.algorithm AND t.first_sample = n.first_sample"
    " AND t.time BETWEEN n.time - interval '7 days' AND n.time + interval '7 days'"
)
BEATS_DELETE = f"""
    DELETE FROM beats b USING beat_blocks t, blocks_in n
    WHERE {_BEAT_KEY} AND t.revision < n.revision AND b.device_id = t.device_id AND b.channel = t.channel
      AND b.recording = t.recording AND b.algorithm = t.algorithm AND b.block = t.block
      AND b.time BETWEEN t.first_beat AND t.last_beat
"""  # noqa: S608  constants only
BLOCKS_DELETE = f"DELETE FROM beat_blocks t USING blocks_in n WHERE {_BEAT_KEY} AND t.revision < n.revision"  # noqa: S608
#: Beats go in only with their block: those of a block that is there already were put in with it.
BLOCKS_INSERT = f"""
    WITH fresh AS (
        INSERT INTO beat_blocks ({BLOCK_COLUMNS}) SELECT {BLOCK_COLUMNS} FROM blocks_in n
        WHERE NOT EXISTS (SELECT FROM beat_blocks t WHERE {_BEAT_KEY})
        RETURNING device_id, recording, channel, algorithm, block),
    put AS (
        INSERT INTO beats ({BEAT_COLUMNS}) SELECT {BEAT_COLUMNS} FROM beats_in
        JOIN fresh USING (device_id, recording, channel, algorithm, block) ON CONFLICT DO NOTHING)
    SELECT count(*) FROM fresh
"""  # noqa: S608  constants only
FEATURES_DELETE = f"DELETE FROM features t USING features_in n WHERE {_FEATURE_KEY} AND t.revision < n.revision"  # noqa: S608
FEATURES_INSERT = (
    f"INSERT INTO features ({FEATURE_COLUMNS}) SELECT {FEATURE_COLUMNS} FROM features_in n"  # noqa: S608
    f" WHERE NOT EXISTS (SELECT FROM features t WHERE {_FEATURE_KEY})"
)
ALERTS_INSERT = """
    INSERT INTO alert_events (onset, event_id, alert_id, patient_id, team, rule, rule_version, title, priority, state,
        detected_at, cleared_at, received_at, value, unit, limit_value, metric, hindsight, text, evidence)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""


def _newest(records: Iterable[Record], identity: Sequence[str | tuple[str, str]]) -> list[Record]:
    """The highest revision of each identity in a batch."""
    found: dict[tuple[Any, ...], Record] = {}
    for record in records:
        try:
            key = tuple(record[k] if isinstance(k, str) else record[k[0]][k[1]] for k in identity)
            if key not in found or found[key]["revision"] < record["revision"]:
                found[key] = record
        except (KeyError, TypeError) as error:
            raise StorageError(f"a result record lacks {error}; its producer and the archive disagree") from error
    return list(found.values())


def _checked(topic: str, make: Any, *args: Any) -> tuple[Any, ...]:
    try:
        row: tuple[Any, ...] = make(*args)
        return row
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"a record of {topic} lacks or garbles {error!r}; its producer and the archive disagree"
        ) from error


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _beat_row(r: Record) -> tuple[Any, ...]:
    times = [time for beat in r["beats"] if (time := parse_time(beat["time"])) is not None]
    return (
        parse_time(r["start"]), r["device_id"], r["recording"], r["channel"], r["algorithm"], r["block"], r["revision"],
        str(r["algorithm_version"]), r["first_sample"], r["stop_sample"], str(r["rate"]), _json(r.get("inputs")),
        _json(r.get("quality")), len(r["beats"]), min(times, default=None),
        max(times, default=None), r.get("patient"),
    )  # fmt: skip


def _beats_of(r: Record) -> tuple[tuple[Any, ...], ...]:
    return tuple(
        (
            parse_time(beat["time"]), r["device_id"], r["channel"], r["recording"], r["algorithm"], r["block"],
            beat["sample"],
            beat["kind"], beat.get("rr_ms"),
        )
        for beat in r["beats"]
    )  # fmt: skip


_FEATURE_FIELDS = frozenset(
    [
        "patient",
        "device_id",
        "channel",
        "recording",
        "name",
        "window",
        "start",
        "end",
        "value",
        "unit",
        "algorithm",
        "algorithm_version",
        "revision",
        "withdrawn",
        "message_id",
    ]
)


def _feature_row(r: Record) -> tuple[Any, ...]:
    extra = {key: value for key, value in r.items() if key not in _FEATURE_FIELDS}
    return (
        parse_time(r["start"]), r["device_id"], r["recording"], r["channel"], r["name"], r["algorithm"],
        r["window"]["first_sample"], r["window"]["stop_sample"], parse_time(r["end"]), r["value"], r["unit"],
        str(r["algorithm_version"]), r["revision"], bool(r.get("withdrawn", False)), _json(extra or None),
        r.get("patient"),
    )  # fmt: skip


def _alert_row(r: Record) -> tuple[Any, ...]:
    value, limit = r.get("value"), r.get("limit")
    return (
        parse_time(r["onset"]), r["event_id"], r["alert_id"], r["patient"], r["team"], r["rule"],
        str(r["rule_version"]),
        r["title"], r["priority"], r["state"], parse_time(r.get("detected_at")), parse_time(r.get("cleared_at")),
        parse_time(r.get("received_at")), float(value) if isinstance(value, (int, float)) else None, r.get("unit"),
        None if limit is None else str(limit), r.get("metric"), bool(r.get("hindsight", False)), r.get("text"),
        [str(item) for item in r.get("evidence") or []],
    )  # fmt: skip
