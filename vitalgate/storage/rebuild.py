"""Public documents made again from the tables, for ranges that were stored but not published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitalgate.storage import publics
from vitalgate.storage.applied import Applied
from vitalgate.storage.connect import Connection
from vitalgate.storage.measurements import Name
from vitalgate.storage.times import moment

_ENTRY = """
    r.metric, r.site, r.idx, r.time, r.version, r.current, r.value_num, r.value_code, coalesce(r.comparator, ''),
    coalesce(r.absent, ''), r.unit, CASE WHEN r.unit_sent IS NULL THEN r.value_num ELSE r.value_sent END,
    coalesce(r.unit_sent, r.unit), coalesce(r.time_sent, r.time), coalesce(r.group_id, ''), coalesce(r.context, '{}'),
    coalesce(r.flags, '{}'), r.unusual, r.retracted, coalesce(r.epoch, ''), r.seq, r.item
"""
_NAMES = (
    "metric", "site", "index", "time", "version", "current", "value", "code", "comparator", "absent", "unit",
    "value_sent", "unit_sent", "time_sent", "group", "context", "flags", "unusual", "retracted", "epoch", "seq", "item",
)  # fmt: skip
_OF_RANGE = f"""
    SELECT raw_offset, device_id, replace(message_id::text, '-', ''), coalesce(replace(trace::text, '-', ''), ''),
           received_at, {_ENTRY}
    FROM readings r WHERE raw_partition = %s AND raw_offset BETWEEN %s AND %s ORDER BY raw_offset, item, version
"""  # noqa: S608  constants only
_OF_MEASUREMENTS = f"""
    SELECT k.n, {_ENTRY}
    FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::integer[])
         WITH ORDINALITY AS k (device, metric, time, site, idx, n)
    JOIN readings r ON r.device_id = k.device AND r.metric = k.metric AND r.time = k.time AND r.site = k.site
         AND r.idx = k.idx
    WHERE r.time BETWEEN %s AND %s ORDER BY k.n, r.version
"""  # noqa: S608  constants only


def _entry(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(_NAMES, row, strict=True))


def _place(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["metric"], entry["site"], entry["time"], entry["index"], entry["version"]


def entries_of(connection: Connection, names: Sequence[Name]) -> dict[Name, list[dict[str, Any]]]:
    """Entries of all versions of measurements."""
    found: dict[Name, list[dict[str, Any]]] = {name: [] for name in names}
    times = [moment(name[3]) for name in names]
    columns = ([name[0] for name in names], [name[1] for name in names], times, [name[2] for name in names])
    for row in connection.execute(_OF_MEASUREMENTS, (*columns, [name[4] for name in names], min(times), max(times))):
        found[names[row[0] - 1]].append(_entry(row[1:]))
    return found


def fill(connection: Connection, applied: Applied, renumbered: list[list[Any]]) -> None:
    """Put the public records of a stored range into `applied`."""
    between = (applied.partition, applied.first, applied.last)
    messages: dict[int, tuple[tuple[Any, ...], list[dict[str, Any]]]] = {}
    for row in connection.execute(_OF_RANGE, between):
        messages.setdefault(row[0], (row[1:5], []))[1].append(_entry(row[5:]))
    names: list[Name] = [(key[0], key[1], key[2], key[3], key[4]) for *key, _ in renumbered]
    versions = entries_of(connection, names) if names else {}
    told = {(head[0], *_place(e)) for head, entries in messages.values() for e in entries}
    for name, (*_, offset) in zip(names, renumbered, strict=True):
        if offset in messages:
            fresh = [entry for entry in versions[name] if (name[0], *_place(entry)) not in told]
            messages[offset][1].extend(fresh)
    for offset in sorted(messages):
        head, entries = messages[offset]
        applied.public_readings.append(publics.readings(head[0], head[1], head[2], head[3], entries))
    applied.public_waveforms = [
        publics.stored_waveform(*row)
        for row in connection.execute(
            "SELECT device_id, message_id, coalesce(replace(trace::text, '-', ''), ''), received_at, channel,"
            " recording, first_sample, count, version, time, rate_num, rate_den, gain, baseline, unit, codec, samples,"
            " coalesce(missing, '{}'), coalesce(flags, '{}'), coalesce(epoch, ''), seq, item FROM waveforms"
            " WHERE raw_partition = %s AND raw_offset BETWEEN %s AND %s AND n_items = 1 ORDER BY raw_offset, item",
            between,
            binary=True,
        )
    ]
    applied.dead = [
        publics.stored_dead_letter(*row)
        for row in connection.execute(
            "SELECT dead_id, device_id, reason, detail, item, mqtt_topic, received_at, coalesce(p.bytes, ''),"
            " payload_hash, content_hash, coalesce(epoch, ''), seq, raw_partition, raw_offset,"
            " coalesce(replace(trace::text, '-', ''), '')"
            " FROM dead_letters d LEFT JOIN payloads p ON p.hash = d.payload_hash"
            " WHERE raw_partition = %s AND raw_offset BETWEEN %s AND %s AND by_recorder ORDER BY raw_offset, item",
            between,
            binary=True,
        )
    ]
