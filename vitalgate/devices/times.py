"""RFC 3339 times to microseconds and back."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import Final, NamedTuple

from vitalgate.devices.reasons import Reason, Refused

_RFC3339: Final = re.compile(r"^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(\.\d{1,30})?([Zz]|[+-]\d\d:\d\d)?\Z", re.ASCII)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MINUTE: Final = dt.timedelta(minutes=1)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
#: The range of a PostgreSQL-safe, printable time: years 1 to 9999 in UTC.
EARLIEST_US: Final = -62_135_596_800_000_000
LATEST_US: Final = 253_402_300_799_999_999


class Moment(NamedTuple):
    """A time as a device wrote it."""

    us: int
    """Microseconds since 1970-01-01T00:00:00Z."""
    offset_min: int
    """UTC offset as written, minutes."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Moment:
    """The moment an RFC 3339 text names; digits beyond microseconds are cut off, a leap second :60 is the next second.

    Raises
    ------
    Refused
        SCHEMA when the text has another form, no UTC offset, or names no real date.
    """
    if (
        len(text) >= 20
        and (text[4] + text[7] + text[10] + text[13] + text[16]) == "--T::"
        and (text[19] in "+-Z" or (text[19] == "." and text[20:21].isdigit()))
        and (text[-1] == "Z" or (text[-6] in "+-" and text[-3] == ":" and text[-8] != ":"))
        and text.isascii()
    ):
        try:  # nearly every time; whatever is odd goes the strict way below
            moment = dt.datetime.fromisoformat(text)
            offset = moment.utcoffset()
            us = (moment - _EPOCH) // _MICROSECOND
            if offset is not None and EARLIEST_US <= us <= LATEST_US:
                return Moment(us, offset // _MINUTE)
        except (ValueError, TypeError, OverflowError):
            pass
    return _strictly(text)


def _strictly(text: str) -> Moment:
    match = _RFC3339.match(text)
    if match is None:
        raise Refused(Reason.SCHEMA, f"time {text[:40]!r} is not RFC 3339; send it as 2026-11-21T10:00:00.250+01:00")
    day, clock, second, fraction, zone = match.groups()
    if zone is None:
        raise Refused(Reason.SCHEMA, f"time {text[:40]!r} has no UTC offset; end it with Z or an offset such as +01:00")
    leap = second == "60"
    micro = int((fraction[1:7] if fraction else "").ljust(6, "0"))
    try:
        moment = dt.datetime.fromisoformat(
            f"{day}T{clock}{'59' if leap else second}{'+00:00' if zone in 'Zz' else zone}"
        )
        offset = moment.utcoffset() or dt.timedelta()
        us = (moment - _EPOCH) // _MICROSECOND + micro + (1_000_000 if leap else 0)
    except (ValueError, OverflowError) as error:
        raise Refused(Reason.SCHEMA, f"time {text[:40]!r} does not exist: {error}") from None
    if not EARLIEST_US <= us <= LATEST_US:
        raise Refused(Reason.SCHEMA, f"time {text[:40]!r} is outside the years 1 to 9999")
    return Moment(us, offset // _MINUTE)


def text(us: int) -> str:
    """RFC 3339 in UTC with microseconds, ending in Z; times outside the years 1 to 9999 are moved to the edge."""
    moment = _EPOCH + dt.timedelta(microseconds=min(max(us, EARLIEST_US), LATEST_US))
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
