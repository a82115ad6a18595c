"""Devices that send too fast, and gaps that stay open, are told once."""

from __future__ import annotations

from vitalgate.devices.records import DeviceSequences, Kept
from vitalgate.stream.watch import GAP_US, DeviceWatch

SECOND = 1_000_000


def gapped(device: str, since_us: int) -> DeviceSequences:
    return DeviceSequences(device, 1, [Kept("e", 1, 4, [(6, 7)], gap_since_us=since_us)])


def test_only_a_device_above_the_limit_is_told_and_not_every_second() -> None:
    watch = DeviceWatch(10)
    list(watch.report(0))
    for second in range(1, 4):
        for _ in range(30):
            watch.came("fast")
        for _ in range(10):
            watch.came("busy")
        told = list(watch.report(second * SECOND))
        assert [(event.action, event.entity_id) for event in told] == (
            [("device.too_fast", "fast")] if second == 1 else []
        )


def test_a_gap_is_told_once_when_it_stays_open_and_again_when_it_is_another() -> None:
    watch = DeviceWatch(1000)
    watch.kept([gapped("d", 5 * SECOND), DeviceSequences("whole", 1, [Kept("e", 1, 9)])])
    assert watch.gaps() == 1
    assert list(watch.report(6 * SECOND)) == []
    [event] = watch.report(5 * SECOND + GAP_US)
    assert (event.action, event.entity_id, event.detail["open_s"]) == ("device.sequence_gap", "d", 60)
    assert list(watch.report(10 * SECOND + GAP_US)) == []
    watch.kept([DeviceSequences("d", 2, [Kept("e", 1, 7)])])
    assert watch.gaps() == 0
    watch.kept([gapped("d", 200 * SECOND)])
    assert len(list(watch.report(200 * SECOND + GAP_US))) == 1
