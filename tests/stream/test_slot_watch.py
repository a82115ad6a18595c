"""Many assignments in a short time are told with the remedy, ordinary rebalancing is not."""

from __future__ import annotations

from vitalgate.stream.slot_watch import MANY, WITHIN_S, SlotWatch


def test_many_assignments_in_a_short_time_are_told_until_it_is_quiet() -> None:
    now = 0.0
    watch = SlotWatch("intake", "0", lambda: now)
    for _ in range(MANY - 1):
        watch.assigned()
        now += 1
    assert watch.trouble() is None
    watch.assigned()
    assert "another intake run in slot '0'? Give each its own --slot" in (watch.trouble() or "")
    now += WITHIN_S
    assert watch.trouble() is None
