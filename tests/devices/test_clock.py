"""The skew is told from transit, which only adds; it is sticky, and the same for a message sent again."""

from __future__ import annotations

import random

import pytest

from vitalgate.devices.clock import BUCKET_S, BUCKETS, MAX_STEPS, Clock, in_force, observe
from vitalgate.devices.records import Message

from .support import NOW, SECOND, Feed, at, spo2

HOUR = 3600.0


class Device:
    """A device with a clock of its own, seen from our side."""

    def __init__(self, numbered: bool = True) -> None:
        self.clock = Clock()
        self.seq = 0
        self.numbered = numbered

    def message(self, received_s: float, ahead_s: float, transit_s: float = 0.05, newest: bool = True) -> int:
        """The skew told after a message that took `transit_s` from a clock `ahead_s` ahead of ours."""
        self.seq += 1
        self.clock = observe(
            self.clock,
            received_us=round(received_s * SECOND),
            sent_us=round((received_s - transit_s + ahead_s) * SECOND),
            offset=self.seq,
            epoch_no=1 if self.numbered else 0,
            order=self.seq,
            newest=newest,
            tolerance_s=30,
            max_backfill_days=30,
        )
        return self.clock.skew_s


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("ahead", [-2 * HOUR, -40, 0, 25, -25, 40, HOUR, 5 * HOUR + 1800])
def test_a_constant_skew_is_seen_at_once_and_stays(ahead: float, numbered: bool) -> None:
    device = Device(numbered)
    chance = random.Random(1)
    told = {device.message(t, ahead, chance.expovariate(4)) for t in range(1_000_000, 1_000_600)}
    assert len(told) == 1
    (skew,) = told
    if abs(ahead) <= 30:
        assert skew == 0
    else:
        assert skew == pytest.approx(ahead, abs=3)


def test_a_clock_at_the_epoch_is_hours_or_decades_off() -> None:
    for numbered in (True, False):
        device = Device(numbered)
        device.message(1_795_000_000, 0)
        assert device.message(1_795_000_010, -1_795_000_000) == pytest.approx(-1_795_000_000, abs=1)


def test_a_clock_that_jumps_ahead_is_believed_at_once() -> None:
    device = Device()
    for t in range(1000, 1100):
        device.message(t, 0)
    assert device.message(1100, HOUR) == pytest.approx(HOUR, abs=1)


def test_a_clock_set_back_is_believed_at_once_by_number() -> None:
    device = Device()
    for t in range(100_000, 100_100):
        device.message(t, 0)
    assert device.message(100_100, -2 * HOUR) == pytest.approx(-2 * HOUR, abs=1)
    assert device.message(100_101, 0) == 0


def test_a_clock_set_back_without_numbers_is_believed_when_it_lasts() -> None:
    device = Device(numbered=False)
    for t in range(100_000, 100_300):
        device.message(t, 0)
    told = [device.message(t, -2 * HOUR) for t in range(100_300, 100_300 + BUCKET_S * (BUCKETS + 2))]
    assert told[0] == 0
    assert told[-1] == pytest.approx(-2 * HOUR, abs=1)
    assert device.message(200_000, 0) == 0


@pytest.mark.parametrize("numbered", [True, False])
def test_a_queue_that_drains_is_no_skew(numbered: bool) -> None:
    device = Device(numbered)
    for t in range(100_000, 100_300):
        device.message(t, 0)
    # The gateway is away for an hour; then all that was sent meanwhile arrives, ten times as fast as it was sent.
    sent = 100_300.0
    received = 103_900.0
    while sent < received:
        assert device.message(received, 0, received - sent) == 0
        sent += 1
        received += 0.1
    assert device.message(received, 0) == 0


def test_one_late_message_is_no_skew() -> None:
    device = Device()
    for t in range(100_000, 100_100):
        device.message(t, 0)
    assert device.message(100_100, 0, transit_s=20) == 0
    assert device.message(100_500, 0, transit_s=400) == 0


def test_a_trembling_estimate_does_not_smear_the_times() -> None:
    device = Device()
    chance = random.Random(2)
    told = [device.message(t, 100 + 0.01 * (t - 100_000), chance.random()) for t in range(100_000, 102_000)]
    assert told == sorted(told)
    assert len(set(told)) == 1


def test_slow_drift_is_followed_in_steps() -> None:
    device = Device()
    told = [device.message(t, 0.01 * (t - 100_000)) for t in range(100_000, 110_000, 5)]
    assert told[0] == 0
    assert all(abs(skew - 0.05 * n) < 32 for n, skew in enumerate(told))
    assert len(set(told)) <= 5
    assert len(device.clock.steps) <= MAX_STEPS


def test_a_message_sent_again_has_the_skew_it_had() -> None:
    device = Device()
    first = [device.message(100_000 + n, 0 if n < 50 else HOUR) for n in range(100)]
    for n, skew in enumerate(first):
        assert in_force(device.clock, 10_000, 1, n + 1) == skew
        assert in_force(device.clock, n + 1, 1, n + 1) == skew
    assert in_force(Clock(), 5, 1, 1) == 0
    numberless = Device(numbered=False)
    was = [numberless.message(100_000 + n, 0 if n < 50 else HOUR) for n in range(100)]
    assert [in_force(numberless.clock, n + 1, 0, n + 1) for n in range(100)] == was


# --- through intake -------------------------------------------------------------------------------------------------


def sent(feed: Feed, seq: int | None, device_s: float, received_s: float) -> Message:
    number = {} if seq is None else {"epoch": "e", "seq": seq}
    return feed.send(
        {**number, "sent_at": at(device_s), "readings": [spo2(90 + (seq or 0), device_s)]}, seconds=received_s
    )


@pytest.mark.parametrize("ahead", [-7200, 3600, -1_795_255_000])
def test_times_are_corrected_and_both_kept(ahead: int) -> None:
    feed = Feed()
    message = sent(feed, 1, ahead, 0.2)
    assert message.skew_s == ahead
    (reading,) = message.readings
    assert reading.time_us == NOW
    assert reading.time_sent_us == NOW + ahead * SECOND


def test_within_the_tolerance_times_are_left_alone() -> None:
    message = sent(Feed(), 1, 29, 0)
    assert message.skew_s == 0
    assert message.readings[0].time_us == message.readings[0].time_sent_us


def test_without_sent_at_nothing_is_corrected() -> None:
    feed = Feed()
    assert feed.send({"readings": [spo2(97, -7200)]}).readings[0].time_us == NOW - 7200 * SECOND
    assert feed.send({"readings": [spo2(97, 7200)]}).dead[0].reason == "time_unexplained"
    assert feed.state is not None
    assert feed.state.skew_floor_us == []


def test_a_resend_keeps_its_event_time_across_a_clock_change() -> None:
    feed = Feed()
    first = sent(feed, 1, 0, 0.2)
    sent(feed, 2, 3600 + 60, 60)
    again = feed.send({"epoch": "e", "seq": 1, "sent_at": at(3600 + 120), "readings": [spo2(91, 0)]}, seconds=120)
    assert again.repeat
    assert again.readings[0].time_us == first.readings[0].time_us


def test_another_time_zone_is_no_skew() -> None:
    message = Feed().send(
        {"sent_at": "2026-11-21T19:00:00+09:00", "readings": [{**spo2(), "time": "2026-11-21T05:00:00-05:00"}]}
    )
    assert message.skew_s == 0
    assert message.readings[0].time_us == NOW
    assert message.readings[0].offset_min == -300


def test_retained_and_replayed_messages_say_nothing_of_the_clock() -> None:
    feed = Feed()
    sent(feed, 1, 0, 0.2)
    feed.send({"epoch": "e", "seq": 2, "sent_at": at(7200), "readings": [spo2()]}, retain=True)
    feed.send({"epoch": "e", "seq": 3, "sent_at": at(7200), "readings": [spo2()]}, replay_of=7)
    assert feed.state is not None
    assert feed.state.skew_s == 0
