"""Brings the stored versions of measurements to what their merged sightings say."""

from __future__ import annotations

from collections.abc import Iterable

from vitalgate.devices.records import Message
from vitalgate.devices.versions import Key, flat
from vitalgate.storage import binary, publics, rebuild, rows
from vitalgate.storage.connect import Connection
from vitalgate.storage.measurements import Change, Measurement
from vitalgate.storage.work import Work

#: Numbers go through their negatives, so that no two versions have the same one in between.
_RENUMBER = """
    UPDATE readings r SET version = -u.new
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::integer[], %s::integer[], %s::integer[])
         AS u (device, metric, site, time, idx, old, new)
    WHERE r.device_id = u.device AND r.metric = u.metric AND r.site = u.site AND r.time = u.time AND r.idx = u.idx
      AND r.version = u.old AND u.old <> u.new AND r.time BETWEEN %s AND %s
"""
_UPDATE = """
    UPDATE readings r SET version = u.new, current = u.current, sightings = u.sightings::bigint[]
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::integer[], %s::integer[], %s::integer[],
                %s::boolean[], %s::text[])
         AS u (device, metric, site, time, idx, old, new, current, sightings)
    WHERE r.device_id = u.device AND r.metric = u.metric AND r.site = u.site AND r.time = u.time AND r.idx = u.idx
      AND r.version = u.old AND r.time BETWEEN %s AND %s
"""
#: The other half of a run that was split: a row like the whole, in another place of the order.
_COPY = """
    INSERT INTO readings (device_id, received_at, skew_s, trace, message_id, content, raw_partition, raw_offset, time,
        metric, site, idx, retracted, unusual, value_num, value_code, comparator, absent, unit, value_sent, unit_sent,
        time_sent, offset_min, group_id, context, flags, version, current, epoch, seq, epoch_no, ord, item, sightings)
    SELECT device_id, received_at, skew_s, trace, message_id, content, raw_partition, raw_offset, time, metric, site,
        idx, retracted, unusual, value_num, value_code, comparator, absent, unit, value_sent, unit_sent, time_sent,
        offset_min, group_id, context, flags, %(version)s, %(current)s,
        CASE WHEN epoch_no = %(epoch_no)s THEN epoch END, CASE WHEN %(epoch_no)s > 0 THEN %(ord)s::bigint END,
        %(epoch_no)s, %(ord)s, %(item)s, %(sightings)s::bigint[]
    FROM readings WHERE device_id = %(device)s AND metric = %(metric)s AND site = %(site)s AND time = %(time)s
        AND idx = %(idx)s AND version = %(whole)s
"""


class VersionsWriter:
    """Updates first (numbers, current, sightings), then new rows, then the rows split off others."""

    def __init__(self) -> None:
        self._new: list[bytes] = []
        self._copies: list[tuple[Measurement, Change]] = []
        self._renumbered: list[Measurement] = []

    def update(self, connection: Connection, work: Work, measurements: Iterable[Measurement]) -> None:
        """Update stored versions, and hold the new rows for `insert`."""
        updates: list[tuple[Measurement, Change]] = []
        for measurement in measurements:
            told = False
            for change in measurement.changes:
                row = change.row
                if change.maker is not None:
                    self._add(work, change)
                    told |= not work.holds(change.maker.message)
                elif change.copied is not None:
                    self._copies.append((measurement, change))
                    told = True
                elif change.stored is not None:
                    before = change.stored.row
                    if (before.version, before.current, before.seen) != (row.version, row.current, row.seen):
                        updates.append((measurement, change))
                        told |= (before.version, before.current) != (row.version, row.current)
            if told:
                self._renumbered.append(measurement)
        self._update(connection, updates)

    def _add(self, work: Work, change: Change) -> None:
        maker, row = change.maker, change.row
        assert maker is not None
        several = None if row.seen == (maker.key,) else flat(row.seen)
        self._new.append(
            rows.reading(
                work.origin(maker.message),
                maker.reading,
                version=row.version,
                current=row.current,
                derived=maker.derived,
                sightings=several,
            )
        )
        work.publish_reading(maker.message, publics.reading(maker.message, maker.reading, row.version, row.current))

    def _update(self, connection: Connection, updates: list[tuple[Measurement, Change]]) -> None:
        if not updates:
            return
        names = [measurement.name for measurement, _ in updates]
        times = [publics.moment(name[3]) for name in names]
        keys = (
            [name[0] for name in names],
            [name[1] for name in names],
            [name[2] for name in names],
            times,
            [name[4] for name in names],
        )
        old, new, current, seen = [], [], [], []
        for _, change in updates:
            assert change.stored is not None
            old.append(change.stored.row.version)
            new.append(change.row.version)
            current.append(change.row.current)
            seen.append(_literal(change.row.seen, change.stored.own))
        if old != new:
            connection.execute(_RENUMBER, (*keys, old, new, min(times), max(times)))
            old = [-now if before != now else before for before, now in zip(old, new, strict=True)]
        connection.execute(_UPDATE, (*keys, old, new, current, seen, min(times), max(times)))

    def insert(self, connection: Connection, work: Work, fast: list[bytes]) -> None:
        """COPY all new rows, add those split off, and publish what was renumbered."""
        fast.extend(self._new)
        if fast:
            with connection.cursor().copy(f"COPY readings ({rows.READING_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(binary.HEADER + b"".join(fast) + binary.TRAILER)
        for measurement, change in self._copies:
            self._copy(connection, measurement, change)
        if not self._renumbered:
            return
        entries = rebuild.entries_of(connection, [measurement.name for measurement in self._renumbered])
        for measurement in self._renumbered:
            cause = _cause(measurement, work)
            work.renumbered.append([*measurement.name, cause.offset])
            told = {change.row.version for change in measurement.changes if change.maker or _unchanged(change)}
            for entry in entries[measurement.name]:
                if entry["version"] not in told:
                    work.publish_reading(cause, entry)

    def _copy(self, connection: Connection, measurement: Measurement, change: Change) -> None:
        own = change.row.seen[0]
        whole = next(c.row.version for c in measurement.changes if c.stored is change.copied)
        device, metric, site, time_us, idx = measurement.name
        connection.execute(
            _COPY,
            {
                "version": change.row.version, "current": change.row.current, "epoch_no": own[0], "ord": own[1],
                "item": own[2], "sightings": _literal(change.row.seen, own), "device": device, "metric": metric,
                "site": site, "time": publics.moment(time_us), "idx": idx, "whole": whole,
            },
        )  # fmt: skip


def _cause(measurement: Measurement, work: Work) -> Message:
    """The message of this batch that changed the measurement, under which its other versions are told."""
    made = [change.maker.message for change in measurement.changes if change.maker is not None]
    here = [message for message in made if work.holds(message)]
    return max(here or made, key=lambda message: message.offset)


def _unchanged(change: Change) -> bool:
    if change.stored is None:
        return False
    before = change.stored.row
    return (before.version, before.current) == (change.row.version, change.row.current)


def _literal(seen: tuple[Key, ...], own: Key) -> str | None:
    """The sightings column as text; NULL when the row's own item is all there is."""
    if seen == (own,):
        return None
    return "{" + ",".join(map(str, flat(seen))) + "}"
