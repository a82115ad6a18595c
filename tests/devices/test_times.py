"""RFC 3339 in, microseconds out; nothing else gets in."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.devices import times
from vitalgate.devices.reasons import Reason, Refused


@given(st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)), st.integers(-23 * 60, 23 * 60), st.integers(0, 6))
def test_every_time_is_read_as_written(moment: dt.datetime, offset: int, digits: int) -> None:
    zone = dt.timezone(dt.timedelta(minutes=offset))
    aware = moment.replace(tzinfo=zone, microsecond=moment.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits))
    text = aware.isoformat(timespec="microseconds")
    fraction = text[19:26]
    text = text[:19] + (fraction[: digits + 1] if digits else "") + text[26:]
    parsed = times.parse(text)
    assert parsed.us == (aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    assert parsed.offset_min == offset
    assert times.parse(times.text(parsed.us)).us == parsed.us


@given(st.text("0123456789-:T.+Zz ,W", min_size=15, max_size=35))
def test_the_quick_way_takes_nothing_that_the_strict_way_refuses(text: str) -> None:
    try:
        quick = times.parse(text)
    except Refused:
        with pytest.raises(Refused):
            times._strictly(text)
    else:
        assert quick == times._strictly(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-21t10:00:00z", "2026-11-21T10:00:00Z"),
        ("2026-11-21 10:00:00Z", "2026-11-21T10:00:00Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2026-11-21T10:00:00.1234569Z", "2026-11-21T10:00:00.123456Z"),
        ("2026-11-21T10:00:00-00:00", "2026-11-21T10:00:00Z"),
        ("2026-11-21T12:30:00+02:30", "2026-11-21T10:00:00Z"),
    ],
)
def test_forms_that_mean_the_same(text: str, same: str) -> None:
    assert times.parse(text).us == times.parse(same).us


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T10:00:00", "2026-11-21", "20261121T100000Z", "2026-W47-6T10:00:00Z", "2026-02-30T00:00:00Z",
        "2026-11-21T24:00:00Z", "2026-11-21T10:00:00,5Z", "2026-11-21T10:00:00+0100", "2026-11-21T10:00:00+01",
        "2026-11-21T10:00:00+01:00:30", "2026-11-21T10:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00", "", "now", "٢026-11-21T10:00:00Z", "2026-11-21T10:00:00Z\n",
        "2026-11-21T10:00:00.Z", "1795255200", "2026-11-21T10:00:00+24:00",
    ],
)  # fmt: skip
def test_what_is_no_time_is_a_schema_error(text: str) -> None:
    with pytest.raises(Refused) as caught:
        times.parse(text)
    assert caught.value.reason is Reason.SCHEMA


def test_a_time_without_an_offset_says_the_remedy() -> None:
    with pytest.raises(Refused, match=r"no UTC offset; end it with Z"):
        times.parse("2026-11-21T10:00:00")
