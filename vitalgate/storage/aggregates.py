"""Keeps the aggregate tables true: marks stretches whose readings changed, and computes those again.

On plain PostgreSQL every stretch that was written to is marked and computed again. On TimescaleDB the server knows
what changed of a continuous aggregate, and each round refreshes the recent window; only what is older is marked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from vitalgate.storage.connect import Connection
from vitalgate.storage.measurements import Name
from vitalgate.storage.times import moment

#: Readings this much older than their arrival are marked device by device, others for all devices together.
LATE_US = 10 * 60 * 1_000_000
#: The recent stretch that every round refreshes where it changed; late data beyond is refreshed from the marks.
WINDOW = timedelta(days=2)
VIEWS = ("readings_minute", "readings_quarter")
"""Continuous aggregates, the second made from the first."""
MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)
_EPOCH = datetime.fromisoformat("2000-01-01T00:00:00+00:00")

Mark = tuple[str | None, int, int]
"""device (None: all), first and last microsecond."""
Stretch = tuple[str | None, datetime, datetime]
"""device (None: all), from, to (exclusive)."""

_MINUTES = """
    INSERT INTO readings_minute (bucket, device_id, metric, unit, n, total, low, high)
    SELECT bucket_of(interval '1 minute', time), device_id, metric, unit, count(*), sum(value_num), min(value_num),
           max(value_num)
    FROM readings
    WHERE time >= %(begin)s AND time < %(end)s AND (%(device)s::text IS NULL OR device_id = %(device)s)
      AND current AND NOT retracted AND value_num IS NOT NULL AND comparator IS NULL
    GROUP BY 1, 2, 3, 4
"""
_QUARTERS = """
    INSERT INTO readings_quarter (bucket, device_id, metric, unit, n, total, low, high)
    SELECT bucket_of(interval '15 minutes', bucket), device_id, metric, unit, sum(n), sum(total), min(low), max(high)
    FROM readings_minute
    WHERE bucket >= %(begin)s AND bucket < %(end)s AND (%(device)s::text IS NULL OR device_id = %(device)s)
    GROUP BY 1, 2, 3, 4
"""
_CLEAR_MINUTES = """
    DELETE FROM readings_minute WHERE bucket >= %(begin)s AND bucket < %(end)s
        AND (%(device)s::text IS NULL OR device_id = %(device)s)
"""
_CLEAR_QUARTERS = """
    DELETE FROM readings_quarter WHERE bucket >= %(begin)s AND bucket < %(end)s
        AND (%(device)s::text IS NULL OR device_id = %(device)s)
"""


def marks(names: Iterable[Name], received_us: int) -> list[Mark]:
    """The stretches that readings of these measurements change: one for the recent, one a device for the late."""
    recent: list[int] = []
    late: dict[str, list[int]] = {}
    threshold = received_us - LATE_US
    for name in names:
        if name[3] >= threshold:
            recent.append(name[3])
        else:
            late.setdefault(name[0], []).append(name[3])
    found: list[Mark] = [(device, min(times), max(times)) for device, times in late.items()]
    if recent:
        found.append((None, min(recent), max(recent)))
    return found


def marks_of_late(names: Iterable[Name], received_us: int) -> list[Mark]:
    """Only the stretches beyond what every round refreshes (with a day to spare)."""
    oldest = received_us - (WINDOW - timedelta(days=1)) // timedelta(microseconds=1)
    return [found for found in marks(names, received_us) if found[1] < oldest]


def mark(connection: Connection, stretches: Sequence[Mark]) -> None:
    """Note stretches in the transaction that changed them."""
    connection.execute(
        "INSERT INTO aggregates_dirty (device_id, from_time, to_time)"
        " SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[])",
        (
            [device for device, _, _ in stretches],
            [moment(first) for _, first, _ in stretches],
            [moment(last) for _, _, last in stretches],
        ),
    )


def merged(stretches: Iterable[Stretch], width: timedelta) -> list[Stretch]:
    """Stretches widened to whole buckets, overlapping and touching ones of a device as one. Pure."""
    by_device: dict[str | None, list[tuple[datetime, datetime]]] = {}
    for device, first, last in stretches:
        begin = _EPOCH + (first - _EPOCH) // width * width
        end = _EPOCH + ((last - _EPOCH) // width + 1) * width
        by_device.setdefault(device, []).append((begin, end))
    found: list[Stretch] = []
    for device, ranges in by_device.items():
        ranges.sort()
        begin, end = ranges[0]
        for low, high in ranges[1:]:
            if low <= end:
                end = max(end, high)
            else:
                found.append((device, begin, end))
                begin, end = low, high
        found.append((device, begin, end))
    return found


def refresh_plain(connection: Connection, limit: int = 10_000) -> int:
    """Compute the marked stretches again, in one transaction; returns how many marks were worked off.

    A mark and the change it stands for are committed together: a change that is not yet visible here brings a mark
    that is not either, and both are seen the next time.
    """
    with connection.transaction():
        taken = _take(connection, limit)
        for device, begin, end in merged(taken, MINUTE):
            where = {"device": device, "begin": begin, "end": end}
            connection.execute(_CLEAR_MINUTES, where)
            connection.execute(_MINUTES, where)
        for device, begin, end in merged(taken, QUARTER):
            where = {"device": device, "begin": begin, "end": end}
            connection.execute(_CLEAR_QUARTERS, where)
            connection.execute(_QUARTERS, where)
    return len(taken)


def refresh_timescale(connection: Connection, now: datetime, limit: int = 10_000) -> int:
    """Refresh the continuous aggregates: the recent window, and where late data fell.

    Only what changed is computed. `refresh_continuous_aggregate` runs outside a transaction, so the marks go last:
    after a crash it is done again. Returns how many marks were worked off.
    """
    rows = connection.execute(
        "SELECT id, from_time, to_time FROM aggregates_dirty ORDER BY id LIMIT %s", (limit,)
    ).fetchall()
    stretches = merged(((None, first, last) for _, first, last in rows), QUARTER)
    stretches.append((None, now - WINDOW, now + QUARTER))
    for view in VIEWS:
        for _, begin, end in stretches:
            connection.execute(
                "CALL refresh_continuous_aggregate(%s::regclass, %s::timestamptz, %s::timestamptz)", (view, begin, end)
            )
    connection.execute("DELETE FROM aggregates_dirty WHERE id = ANY(%s)", ([row[0] for row in rows],))
    return len(rows)


def _take(connection: Connection, limit: int) -> list[Stretch]:
    return connection.execute(
        "DELETE FROM aggregates_dirty WHERE id IN (SELECT id FROM aggregates_dirty ORDER BY id LIMIT %s FOR UPDATE)"
        " RETURNING device_id, from_time, to_time",
        (limit,),
    ).fetchall()
