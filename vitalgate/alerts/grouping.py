"""Storms: a hundred alarms of one patient in a minute are one notification with a count. Pure; time is an argument.

The first alarm of a patient is told after a moment in which what comes with it joins it. What follows within the window
is gathered and told when it ends, as one notification with the count. What is more pressing than anything told in the
window does not wait. A storm of an hour is a notification a minute.

What is gathered belongs to the caller, who has to keep it over a restart; here is only when to tell it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vitalgate.alerts.rule import ORDER

WINDOW_US = 60 * 1_000_000
#: What comes within so long of the first alarm is in the same notification.
MOMENT_US = 1_000_000


class Window(NamedTuple):
    """An open window of one patient and one receiver."""

    until: int
    """When it ends, us."""
    told: int
    """How pressing the most pressing in it was."""


def pressing(event: Mapping[str, Any]) -> int:
    """How pressing an alert event is: by its priority, then by how far it has climbed unanswered."""
    return 1000 * ORDER[event["priority"]] + min(999, int(event.get("escalation_level") or 0))


def place(
    window: Window | None, rank: int, now_us: int, window_us: int = WINDOW_US, moment_us: int = MOMENT_US
) -> tuple[Window, int]:
    """The window after an event that is this pressing, and when the event is to be told, us.

    Parameters
    ----------
    window
        The one that is open; None or one that is over: the event opens a new one.
    """
    if window is None or window.until <= now_us:
        return Window(now_us + window_us, rank), now_us + min(moment_us, window_us)
    if rank > window.told:
        return Window(window.until, rank), min(window.until, now_us + moment_us)
    return window, window.until


def after(window: Window | None, rank: int, now_us: int, window_us: int = WINDOW_US) -> Window:
    """The window once something of this rank has been told: what was gathered to its end opens the next one."""
    if window is None or window.until <= now_us:
        return Window(now_us + window_us, rank)
    return window
