"""Brings the stored versions of measurements to what their histories have become."""

from __future__ import annotations

from collections.abc import Iterable

from vitalgate.storage import binary, publics, rows
from vitalgate.storage.connect import Connection
from vitalgate.storage.history import History, Version
from vitalgate.storage.known import flatten
from vitalgate.storage.rebuild import entries_of
from vitalgate.storage.work import Work

_KEY = "r.device_id = u.device AND r.metric = u.metric AND r.site = u.site AND r.time = u.time AND r.idx = u.idx"
#: Columns that a row split off another takes over from it.
_COPIED = (
    "device_id, received_at, skew_s, trace, message_id, raw_partition, raw_offset, time, metric, site, idx, retracted,"
    " unusual, value_num, value_code, comparator, absent, unit, value_sent, unit_sent, time_sent, offset_min, group_id,"
    " context, flags"
)


class VersionsWriter:
    """Updates first (numbers, current, sightings), then new rows, then the rows split off others."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []
        self._splits: list[tuple[History, Version, int, bool]] = []
        self._renumbered: list[History] = []

    def prepare(self, connection: Connection, work: Work, histories: Iterable[History]) -> None:
        """Number the versions, update the stored ones, and hold the new rows for `insert`."""
        updates: list[tuple[History, Version, int, bool]] = []
        for history in histories:
            if history.cause is None and not any(version.touched for version in history.versions):
                continue
            count = len(history.versions)
            renumbered = False
            for n, version in enumerate(history.versions, start=1):
                current = n == count
                if version.split_from is not None:
                    self._splits.append((history, version, n, current))
                    renumbered = True
                elif version.number == 0:
                    self._new(work, version, n, current)
                else:
                    if (version.number, version.current) != (n, current) or version.touched:
                        updates.append((history, version, n, current))
                        renumbered |= version.number != n
            if renumbered:
                self._renumbered.append(history)
        self._update(connection, updates)

    def _new(self, work: Work, version: Version, n: int, current: bool) -> None:
        assert version.source is not None
        message, reading = version.source
        several = flatten(version.sightings) if len(version.sightings) > 1 else None
        self._rows.append(
            rows.reading(
                work.origin(message), reading, version=n, current=current, derived=version.derived, sightings=several
            )
        )
        work.publish_reading(message, publics.reading(message, reading, n, current))
        work.applied.derived += version.derived

    def _update(self, connection: Connection, updates: list[tuple[History, Version, int, bool]]) -> None:
        if not updates:
            return
        # Numbers go through their negatives, so that no two versions have the same one in between.
        moved = [update for update in updates if update[1].number != update[2]]
        times = [publics.moment(history.key[3]) for history, *_ in updates]
        low, high = min(times), max(times)
        columns = [
            [history.key[0] for history, *_ in updates],
            [history.key[1] for history, *_ in updates],
            [history.key[2] for history, *_ in updates],
            times,
            [history.key[4] for history, *_ in updates],
        ]
        keys = "unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::integer[]"
        if moved:
            connection.execute(
                f"UPDATE readings r SET version = -u.new FROM {keys}, %s::integer[], %s::integer[])"
                " AS u (device, metric, site, time, idx, old, new)"
                f" WHERE {_KEY} AND r.version = u.old AND u.old <> u.new AND r.time BETWEEN %s AND %s",
                (*columns, [u[1].number for u in updates], [u[2] for u in updates], low, high),
            )
        connection.execute(
            f"UPDATE readings r SET version = u.new, current = u.current, sightings = u.sightings::bigint[]"
            f" FROM {keys}, %s::integer[], %s::integer[], %s::boolean[], %s::text[])"
            " AS u (device, metric, site, time, idx, old, new, current, sightings)"
            f" WHERE {_KEY} AND r.version = u.old AND r.time BETWEEN %s AND %s",
            (
                *columns,
                [-n if version.number != n else n for _, version, n, _ in updates],
                [n for _, _, n, _ in updates],
                [current for *_, current in updates],
                [_literal(version) for _, version, _, _ in updates],
                low,
                high,
            ),
        )

    def insert(self, connection: Connection, work: Work, fast: list[bytes]) -> None:
        """COPY all new rows, add those split off, and publish what was renumbered."""
        fast.extend(self._rows)
        if fast:
            with connection.cursor().copy(f"COPY readings ({rows.READING_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(binary.HEADER + b"".join(fast) + binary.TRAILER)
        for history, version, n, current in self._splits:
            self._split(connection, history, version, n, current)
            work.applied.derived += 1
        for history in self._renumbered:
            assert history.cause is not None
            work.renumbered.append([*history.key, history.cause.offset])
            fresh = {n for n, v in enumerate(history.versions, start=1) if v.number == 0 and v.split_from is None}
            for number, entry in entries_of(connection, history.key):
                if number not in fresh:
                    work.publish_reading(history.cause, entry)

    def _split(self, connection: Connection, history: History, version: Version, n: int, current: bool) -> None:
        whole = next(i for i, other in enumerate(history.versions, start=1) if other is version.split_from)
        epoch_no, order, item = version.own
        connection.execute(
            f"INSERT INTO readings ({_COPIED}, version, current, derived, epoch, seq, epoch_no, ord, item, sightings)"
            f" SELECT {_COPIED}, %s, %s, true, CASE WHEN epoch_no = %s THEN epoch END, CASE WHEN %s > 0 THEN %s::bigint END,"
            " %s, %s, %s, %s::bigint[]"
            " FROM readings WHERE device_id = %s AND metric = %s AND site = %s AND time = %s AND idx = %s AND version = %s",
            (
                n, current, epoch_no, epoch_no, order, epoch_no, order, item, _literal(version), *history.key[:3],
                publics.moment(history.key[3]), history.key[4], whole,
            ),
        )  # fmt: skip


def _literal(version: Version) -> str | None:
    """The sightings column as text; NULL when the row's own item is all there is."""
    if version.sightings == [version.own]:
        return None
    return "{" + ",".join(map(str, flatten(version.sightings))) + "}"
