"""A patient's local days and hours, by their time zones with their history."""

from __future__ import annotations

import functools
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

Zones = tuple[tuple[int, str], ...]
_SECOND = 1_000_000


@functools.lru_cache(maxsize=600)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local(zones: Zones, time_us: int) -> datetime:
    """An event time by the clock on the patient's wall (UTC when no zone is known)."""
    at = bisect_right([since for since, _ in zones], time_us) - 1
    name = zones[max(at, 0)][1] if zones else "UTC"
    return datetime.fromtimestamp(time_us // _SECOND, UTC).astimezone(_zone(name))


def day_end(zones: Zones, time_us: int) -> int:
    """The midnight that ends the local day of an event time, us since 1970. Days of 23 and 25 hours are such."""
    here = local(zones, time_us)
    midnight = datetime.combine(here.date() + timedelta(days=1), datetime.min.time(), here.tzinfo)
    return round(midnight.timestamp()) * _SECOND


def quiet_until(zones: Zones, hours: str, time_us: int) -> int | None:
    """End of the quiet hours (HH:MM-HH:MM, local, may span midnight) that a time lies in; None when it does not."""
    here = local(zones, time_us)
    begin, end = hours.split("-")
    now = f"{here:%H:%M}"
    inside = begin <= now < end if begin < end else now >= begin or now < end
    if not inside:
        return None
    date = here.date() + timedelta(days=1) if begin >= end and now >= begin else here.date()
    hour, minute = map(int, end.split(":"))
    over = datetime.combine(date, datetime.min.time().replace(hour=hour, minute=minute), here.tzinfo)
    return max(round(over.timestamp()) * _SECOND, time_us + 1)
