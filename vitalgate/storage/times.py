"""Times: text to datetime and microseconds since 1970, exactly."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"\.(\d+)")


@functools.lru_cache(maxsize=4096)
def moment(us: int) -> datetime:
    """A UTC datetime of microseconds since 1970, exact. Raises OverflowError outside the years 1 to 9999."""
    return EPOCH + timedelta(microseconds=us)


def micros(time: datetime) -> int:
    """Microseconds since 1970 of a datetime, exact."""
    return (time - EPOCH) // timedelta(microseconds=1)


def parse_time(text: str | None) -> datetime | None:
    """An RFC 3339 time, cut to the microsecond. Raises ValueError for other text."""
    if text is None:
        return None
    time = datetime.fromisoformat(_FRACTION.sub(lambda match: "." + match[1][:6].ljust(6, "0"), text, count=1))
    return time if time.tzinfo else time.replace(tzinfo=UTC)
