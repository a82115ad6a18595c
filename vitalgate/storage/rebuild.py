"""Public documents made again from the tables, for ranges that were stored but not published."""

from __future__ import annotations

from typing import Any

from vitalgate.storage import publics
from vitalgate.storage.applied import Applied
from vitalgate.storage.connect import Connection
from vitalgate.storage.history import Key
from vitalgate.storage.publics import moment

ENTRY_COLUMNS = (
    "metric, site, idx, time, version, current, value_num, value_code, coalesce(comparator, ''), coalesce(absent, ''), unit,"
    " CASE WHEN unit_sent IS NULL THEN value_num ELSE value_sent END, coalesce(unit_sent, unit), coalesce(time_sent, time),"
    " coalesce(group_id, ''), coalesce(context, '{}'), coalesce(flags, '{}'), unusual, retracted, coalesce(epoch, ''), seq, item"
)
_NAMES = (
    "metric", "site", "index", "time", "version", "current", "value", "code", "comparator", "absent", "unit", "value_sent",
    "unit_sent", "time_sent", "group", "context", "flags", "unusual", "retracted", "epoch", "seq", "item",
)  # fmt: skip


def entry(row: tuple[Any, ...]) -> dict[str, Any]:
    """One entry of a `device.readings` record from the ENTRY_COLUMNS of a row."""
    return dict(zip(_NAMES, row, strict=True))


def entries_of(connection: Connection, key: Key) -> list[tuple[int, dict[str, Any]]]:
    """(version, entry) of all versions of one measurement."""
    found = connection.execute(
        f"SELECT {ENTRY_COLUMNS} FROM readings WHERE device_id = %s AND metric = %s AND site = %s"
        " AND time = %s AND idx = %s ORDER BY version",
        (*key[:3], moment(key[3]), key[4]),
    )
    return [(row[4], entry(row)) for row in found]


def fill(connection: Connection, applied: Applied, renumbered: list[list[Any]]) -> None:
    """Put the public records of a stored range into `applied`."""
    between = (applied.partition, applied.first, applied.last)
    messages: dict[int, tuple[tuple[Any, ...], list[dict[str, Any]]]] = {}
    for row in connection.execute(
        f"SELECT raw_offset, device_id, message_id, coalesce(replace(trace::text, '-', ''), ''), received_at, {ENTRY_COLUMNS}"
        " FROM readings WHERE raw_partition = %s AND raw_offset BETWEEN %s AND %s"
        " ORDER BY raw_offset, item, version",
        between,
    ):
        messages.setdefault(row[0], (row[1:5], []))[1].append(entry(row[5:]))
    for *key, offset in renumbered:
        if offset not in messages:
            continue
        entries = messages[offset][1]
        known = {(e["metric"], e["site"], e["time"], e["index"], e["version"]) for e in entries}
        for _, extra in entries_of(connection, (key[0], key[1], key[2], key[3], key[4])):
            if (extra["metric"], extra["site"], extra["time"], extra["index"], extra["version"]) not in known:
                entries.append(extra)
    for offset in sorted(messages):
        head, entries = messages[offset]
        applied.public_readings.append(publics.readings(head[0], head[1], head[2], head[3], entries))
    applied.public_waveforms = [
        publics.stored_waveform(*row)
        for row in connection.execute(
            "SELECT device_id, message_id, coalesce(replace(trace::text, '-', ''), ''), received_at, channel, recording,"
            " first_sample, count, version, time, rate_num, rate_den, gain, baseline, unit, codec, samples,"
            " coalesce(missing, '{}'), coalesce(flags, '{}'), coalesce(epoch, ''), seq, item FROM waveforms"
            " WHERE raw_partition = %s AND raw_offset BETWEEN %s AND %s AND n_items = 1 ORDER BY raw_offset, item",
            between,
            binary=True,
        )
    ]
    applied.dead = [
        publics.stored_dead_letter(*row)
        for row in connection.execute(
            "SELECT dead_id, device_id, reason, detail, item, mqtt_topic, received_at, coalesce(p.bytes, ''), payload_hash,"
            " content_hash, coalesce(epoch, ''), seq, raw_partition, raw_offset, coalesce(replace(trace::text, '-', ''), '')"
            " FROM dead_letters d LEFT JOIN payloads p ON p.hash = d.payload_hash"
            " WHERE raw_partition = %s AND raw_offset BETWEEN %s AND %s AND by_recorder ORDER BY raw_offset, item",
            between,
            binary=True,
        )
    ]
