"""What the tables already hold about the measurements of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitalgate.storage.connect import Connection
from vitalgate.storage.history import RETRACTED, History, Key, Version
from vitalgate.storage.publics import micros, moment
from vitalgate.storage.rows import Sighting


@dataclass(frozen=True, slots=True)
class Found:
    """A stored item found by its place in the device's order."""

    key: Key
    value_num: float | None
    value_code: str | None
    comparator: str
    absent: str
    unit: str
    time_sent_us: int


def sightings_of(flat: Sequence[int] | None, own: Sighting) -> list[Sighting]:
    """The sightings of a row: the column's triples, or the row's own item when the column is NULL."""
    if not flat:
        return [own]
    return [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]


def flatten(sightings: Sequence[Sighting]) -> list[int]:
    """The column's form of sightings."""
    return [number for sighting in sightings for number in sighting]


def histories(connection: Connection, keys: Sequence[Key]) -> dict[Key, History]:
    """The versions of each measurement; one History a key, empty when the measurement is unknown."""
    found = {key: History(key) for key in keys}
    if not keys:
        return found
    times = [moment(key[3]) for key in keys]
    rows = connection.execute(
        """
        SELECT k.n, r.version, r.current, r.derived, r.retracted, r.value_num, r.value_code,
               coalesce(r.comparator, ''), coalesce(r.absent, ''), r.unit, r.epoch_no, r.ord, r.item, r.sightings
        FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::integer[])
             WITH ORDINALITY AS k (device, metric, time, site, idx, n)
        JOIN readings r ON r.device_id = k.device AND r.metric = k.metric AND r.time = k.time
             AND r.site = k.site AND r.idx = k.idx
        WHERE r.time BETWEEN %s AND %s
        ORDER BY k.n, r.version
        """,
        (
            [key[0] for key in keys],
            [key[1] for key in keys],
            times,
            [key[2] for key in keys],
            [key[4] for key in keys],
            min(times),
            max(times),
        ),
    ).fetchall()
    for (
        n,
        version,
        current,
        derived,
        retracted,
        num,
        code,
        comparator,
        absent,
        unit,
        epoch_no,
        order,
        item,
        flat,
    ) in rows:
        own = (epoch_no, order, item)
        found[keys[n - 1]].versions.append(
            Version(
                RETRACTED if retracted else (num, code, comparator, absent, unit),
                own,
                sightings_of(flat, own),
                version,
                current,
                derived=derived,
            )
        )
    return found


def newest(connection: Connection, pairs: Sequence[tuple[str, str]], since_us: int) -> dict[tuple[str, str], int]:
    """The newest stored time of each (device, metric), microseconds; `since_us - 1` when none is as late as that."""
    if not pairs:
        return {}
    rows = connection.execute(
        """
        SELECT k.n, newest.time
        FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS k (device, metric, n)
        CROSS JOIN LATERAL (
            SELECT time FROM readings r
            WHERE r.device_id = k.device AND r.metric = k.metric AND r.time >= %s
            ORDER BY r.time DESC LIMIT 1) AS newest
        """,
        ([pair[0] for pair in pairs], [pair[1] for pair in pairs], moment(since_us)),
    ).fetchall()
    found = dict.fromkeys(pairs, since_us - 1)
    for n, time in rows:
        found[pairs[n - 1]] = micros(time)
    return found


def by_origin(
    connection: Connection, items: Iterable[tuple[str, str, int, int]]
) -> dict[tuple[str, str, int, int], Found]:
    """Stored readings by (device, epoch, seq, item)."""
    wanted = list(dict.fromkeys(items))
    if not wanted:
        return {}
    rows = connection.execute(
        """
        SELECT k.n, r.device_id, r.metric, r.site, r.time, r.idx, r.value_num, r.value_code,
               coalesce(r.comparator, ''), coalesce(r.absent, ''), r.unit, coalesce(r.time_sent, r.time)
        FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::integer[])
             WITH ORDINALITY AS k (device, epoch, ord, item, n)
        JOIN readings r ON r.device_id = k.device AND r.ord = k.ord AND r.item = k.item
             AND r.epoch = k.epoch AND NOT r.derived
        """,
        (
            [item[0] for item in wanted],
            [item[1] for item in wanted],
            [item[2] for item in wanted],
            [item[3] for item in wanted],
        ),
    ).fetchall()
    return {
        wanted[n - 1]: Found(
            (device, metric, site, micros(time), idx), num, code, comparator, absent, unit, micros(sent)
        )
        for n, device, metric, site, time, idx, num, code, comparator, absent, unit, sent in rows
    }
