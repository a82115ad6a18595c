"""What comes on the `down` topic, and what it tells of a device's clock."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.client import ClockFilter, DownError, Settings, TimeAnswer, read_down
from vitalgate.gateway.tell_settings import settings_payload
from vitalgate.gateway.tell_time import Asked, answer, asked

NOW = 1_795_255_200.0
delays = st.floats(0, 30)


@given(st.floats(-1e6, 1e6), st.lists(st.tuples(delays, st.floats(0, 5), delays), min_size=1, max_size=8))
def test_the_offset_is_off_by_at_most_half_the_shortest_round_trip(
    offset: float, trips: list[tuple[float, float, float]]
) -> None:
    """`offset` is to be added to the device's clock; the ways there and back take as long as they like."""
    clock, estimate = ClockFilter(), None
    for number, (there, within, back) in enumerate(trips):
        sent = NOW + 60 * number  # by the server's clock
        told = TimeAnswer(time=sent + there + within, received_at=sent + there, sent_at=sent - offset)
        estimate = clock.answer(told, sent + there + within + back - offset)
    assert estimate is not None
    best = min(there + back for there, _, back in trips)
    assert estimate.round_trip == pytest.approx(best, abs=1e-5)
    assert abs(estimate.offset - offset) <= best / 2 + 1e-5


def test_a_clock_that_was_set_meanwhile_forgets_what_was_known() -> None:
    clock = ClockFilter()
    assert clock.answer(TimeAnswer(NOW, NOW, None), NOW) is None  # a status that told no time
    first = clock.answer(TimeAnswer(NOW, NOW, NOW - 1), NOW + 1)
    assert first is not None
    assert (first.offset, first.round_trip) == (0, 2)
    assert clock.answer(TimeAnswer(NOW, NOW, NOW + 100), NOW + 1) is None


def test_what_the_server_writes_the_device_reads() -> None:
    what = asked(b'{"state": "online", "sent_at": "2026-11-21T10:00:00.250+01:00"}', NOW)
    assert what is not None
    assert read_down(answer(what, NOW + 0.5)) == TimeAnswer(
        NOW + 0.5, NOW, datetime(2026, 11, 21, 9, 0, 0, 250_000, UTC).timestamp()
    )
    settings = {"interval_s": 30, "leads": "I,II", "quiet": True, "gain": 0.5}
    assert read_down(settings_payload(3, settings)) == Settings(3, settings)
    assert list(json.loads(settings_payload(1, {"b": 1, "a": 2}))["settings"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("payload", "sent_at"),
    [
        (b'{"state": "online"}', None),
        (b'{"state": "online", "sent_at": 12}', None),
        (b'{"sent_at": "' + b"9" * 65 + b'"}', None),
        (b'{"sent_at": "yesterday"}', "yesterday"),
        (b"\xff\x00", None),
        (b"", None),
        (b'{"sent_at": "x", "fill": "' + b"x" * 70_000 + b'"}', None),
        (b"\xa1gsent_atc2026", None),
    ],
)
def test_any_status_is_answered_with_what_it_said_of_its_time(payload: bytes, sent_at: str | None) -> None:
    assert asked(payload, NOW) == Asked(sent_at, NOW)


def test_a_farewell_is_not_answered() -> None:
    assert asked(b'{"state": "offline", "sent_at": "2026-11-21T10:00:00Z"}', NOW) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(payload: bytes) -> None:
    asked(payload, NOW)
    with suppress(DownError):
        assert read_down(payload) is None or payload[:1] == b"{"


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b"{}",
        b'{"type": "time"}',
        b'{"type": "time", "time": "2026-11-21T10:00:00", "received_at": "2026-11-21T10:00:00Z"}',
        b'{"type": "settings", "revision": 1}',
        b'{"type": "settings", "revision": 1, "settings": {"a": null}}',
        b'{"type": "settings", "revision": 1, "settings": {"a": [1]}}',
        b'{"type": "settings", "revision": "x", "settings": {}}',
    ],
)
def test_what_is_not_of_the_documented_form_is_refused(payload: bytes) -> None:
    with pytest.raises(DownError):
        read_down(payload)


@pytest.mark.parametrize("payload", [b"", b'{"type": "firmware", "url": "x"}'])
def test_nothing_and_types_yet_to_come_are_passed_over(payload: bytes) -> None:
    assert read_down(payload) is None
