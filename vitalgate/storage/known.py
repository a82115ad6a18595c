"""What the tables already hold about the measurements of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitalgate.devices.versions import RETRACTED, Row, Value, unflat
from vitalgate.storage.connect import Connection
from vitalgate.storage.measurements import Measurement, Name, Stored
from vitalgate.storage.times import micros, moment


@dataclass(frozen=True, slots=True)
class Found:
    """A stored item found by its place in the device's order."""

    name: Name
    value: Value
    time_sent_us: int


def measurements(connection: Connection, names: Sequence[Name]) -> dict[Name, Measurement]:
    """The stored versions of each measurement; one Measurement a name, empty when it is unknown."""
    found = {name: Measurement(name) for name in names}
    if not names:
        return found
    times = [moment(name[3]) for name in names]
    rows = connection.execute(
        """
        SELECT k.n, r.version, r.current, r.retracted, r.value_num, r.value_code, coalesce(r.comparator, ''),
               coalesce(r.absent, ''), r.epoch_no, r.ord, r.item, r.sightings
        FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::integer[])
             WITH ORDINALITY AS k (device, metric, time, site, idx, n)
        JOIN readings r ON r.device_id = k.device AND r.metric = k.metric AND r.time = k.time
             AND r.site = k.site AND r.idx = k.idx
        WHERE r.time BETWEEN %s AND %s
        ORDER BY k.n, r.version
        """,
        (
            [name[0] for name in names],
            [name[1] for name in names],
            times,
            [name[2] for name in names],
            [name[4] for name in names],
            min(times),
            max(times),
        ),
    ).fetchall()
    for n, version, current, retracted, num, code, comparator, absent, epoch_no, order, item, flat in rows:
        own = (epoch_no, order, item)
        value = RETRACTED if retracted else Value(num, code, comparator, absent)
        seen = unflat(flat) if flat else (own,)
        found[names[n - 1]].stored.append(Stored(Row(version, value, seen, current=current), own))
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


_BY_ORIGIN = """
    SELECT k.n, r.device_id, r.metric, r.site, r.time, r.idx, r.retracted, r.value_num, r.value_code,
           coalesce(r.comparator, ''), coalesce(r.absent, ''), coalesce(r.time_sent, r.time), NULL, 0
    FROM unnest(%(device)s::text[], %(epoch)s::text[], %(ord)s::bigint[], %(item)s::integer[])
         WITH ORDINALITY AS k (device, epoch, ord, item, n)
    JOIN readings r ON r.device_id = k.device AND r.ord = k.ord AND r.item = k.item
         AND (r.epoch = k.epoch OR r.epoch IS NULL) AND NOT r.derived
"""
#: Items that said what another had said before have no row of their own.
_BY_SIGHTING = """
    SELECT k.n, r.device_id, r.metric, r.site, r.time, r.idx, r.retracted, r.value_num, r.value_code,
           coalesce(r.comparator, ''), coalesce(r.absent, ''), coalesce(r.time_sent, r.time), r.sightings,
           CASE WHEN r.epoch = k.epoch THEN r.epoch_no ELSE 0 END
    FROM unnest(%(device)s::text[], %(epoch)s::text[], %(ord)s::bigint[], %(item)s::integer[])
         WITH ORDINALITY AS k (device, epoch, ord, item, n)
    JOIN readings r ON r.device_id = k.device AND r.sightings IS NOT NULL AND k.ord = ANY (r.sightings)
"""


def by_origin(
    connection: Connection, items: Iterable[tuple[str, str, int, int]]
) -> dict[tuple[str, str, int, int], Found]:
    """Stored readings by (device, epoch, seq, item), also those that became a sighting of an earlier row."""
    wanted = list(dict.fromkeys(items))
    found: dict[tuple[str, str, int, int], Found] = {}
    for query in (_BY_ORIGIN, _BY_SIGHTING):
        asked = [item for item in wanted if item not in found]
        if not asked:
            break
        rows = connection.execute(
            query,
            {
                "device": [item[0] for item in asked],
                "epoch": [item[1] for item in asked],
                "ord": [item[2] for item in asked],
                "item": [item[3] for item in asked],
            },
        ).fetchall()
        for n, device, metric, site, time, idx, retracted, num, code, comparator, absent, sent, seen, epoch_no in rows:
            item = asked[n - 1]
            if seen is not None and not any(
                key[1:] == item[2:] and (not epoch_no or key[0] == epoch_no) for key in unflat(seen)
            ):
                continue
            value = RETRACTED if retracted else Value(num, code, comparator, absent)
            found[item] = Found((device, metric, site, micros(time), idx), value, micros(sent))
    return found
