"""Storms: a hundred alarms of one patient in a minute are one notification with a count. Pure; time is an argument.

The first alarm of a patient is told at once. What follows within the window is gathered and told when it ends, as one
notification with the count and the most pressing alert. A higher priority than any told in the window does not wait.
For whoever turns alert events into notifications: feed `take` with every event whose ``notify`` is true, ask `due`
when time passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitalgate.alerts.rule import ORDER

WINDOW_US = 60 * 1_000_000
#: Patients with an open window; beyond it the oldest windows are told early.
MOST = 10_000


@dataclass(frozen=True)
class Notification:
    """What is to be told at once.

    Attributes
    ----------
    alert
        The event, of several the most pressing and then the newest.
    count
        How many events it stands for.
    alert_ids
        Which alerts, each once, in order.
    """

    patient: str
    team: str
    priority: str
    alert: Mapping[str, Any]
    count: int
    alert_ids: tuple[str, ...]


@dataclass
class _Window:
    until: int
    told: int
    """Highest priority told in it."""
    gathered: list[Mapping[str, Any]] = field(default_factory=list)


class Grouper:
    """Gathers the notifications of each patient and team."""

    def __init__(self, window_us: int = WINDOW_US) -> None:
        self._window_us = window_us
        self._windows: dict[tuple[str, str], _Window] = {}
        self._seen: dict[str, None] = {}

    def take(self, event: Mapping[str, Any], now_us: int) -> list[Notification]:
        """What is to be told of an event now; a repeat of one is none."""
        if event["event_id"] in self._seen:
            return []
        self._seen[event["event_id"]] = None
        if len(self._seen) > 4 * MOST:
            self._seen.pop(next(iter(self._seen)))
        told = self.due(now_us)
        key = (event["team"], event["patient"])
        rank = ORDER[event["priority"]]
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= MOST:
                told += self._close(next(iter(self._windows)), now_us)
            self._windows[key] = _Window(now_us + self._window_us, rank)
            return [*told, _notification([event])]
        window.gathered.append(event)
        if rank <= window.told:
            return told
        window.told = rank
        gathered, window.gathered = window.gathered, []
        return [*told, _notification(gathered)]

    def due(self, now_us: int) -> list[Notification]:
        """What has been gathered in windows that are over by now."""
        over = [key for key, window in self._windows.items() if window.until <= now_us]
        return [one for key in over for one in self._close(key, now_us)]

    def next_due(self) -> int | None:
        """When the next window is over, us; None when none is open."""
        return min((window.until for window in self._windows.values()), default=None)

    def _close(self, key: tuple[str, str], now_us: int) -> list[Notification]:
        window = self._windows.pop(key)
        if not window.gathered:
            return []
        # What goes on gathers in a window of its own: a storm of an hour is a notification a minute.
        rank = max(ORDER[event["priority"]] for event in window.gathered)
        self._windows[key] = _Window(max(window.until, now_us) + self._window_us, rank)
        return [_notification(window.gathered)]


def _notification(events: list[Mapping[str, Any]]) -> Notification:
    best = max(reversed(events), key=lambda event: ORDER[event["priority"]])
    ids = tuple(dict.fromkeys(event["alert_id"] for event in events))
    return Notification(best["patient"], best["team"], best["priority"], best, len(events), ids)
