"""What is worth telling whom, in which words, and when: no clinical word goes outside. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

#: By (record, verb): the kind of notification.
KINDS: dict[tuple[str, str], str] = {
    ("message", "create"): "new-message",
    ("ecg_report", "publish"): "new-ecg-report",
    ("lab_result", "publish"): "new-lab-result",
    ("monitoring_log", "publish"): "new-review",
    ("treatment_plan", "activate"): "new-plan",
    ("appointment", "create"): "new-appointment",
    ("appointment", "request"): "appointment-requested",
    ("appointment", "confirm"): "new-appointment",
    ("appointment", "reschedule"): "appointment-moved",
    ("appointment", "cancel"): "appointment-cancelled",
    ("break_glass", "create"): "record-opened",
    ("alert", "raised"): "alert",
}
TITLES: dict[str, str] = {
    "new-message": "You have a new message",
    "new-ecg-report": "A new ECG report is there",
    "new-lab-result": "A new laboratory result is there",
    "new-review": "Your care team has looked at your data",
    "new-plan": "A treatment plan has become active",
    "new-appointment": "You have a new appointment",
    "appointment-requested": "An appointment is asked for",
    "appointment-moved": "An appointment was moved",
    "appointment-cancelled": "An appointment was cancelled",
    "record-opened": "A record was opened in an emergency",
    "alert": "An alert was raised",
}
#: Told at once, quiet hours or not.
URGENT = frozenset({"alert", "record-opened"})
_FIRST_S, _LONGEST_S = 15.0, 3600.0
#: After so many tries a letter or post is given up: about a day.
MOST_ATTEMPTS = 30


@dataclass(frozen=True)
class Wishes:
    """How a user wants to be told."""

    email: bool = False
    webhook: str = ""
    muted: Sequence[str] = ()
    quiet_from: time | None = None
    quiet_to: time | None = None
    zone: str = "UTC"

    def channels(self) -> list[str]:
        """Where to, beside the application itself."""
        return [name for name, wanted in (("email", self.email), ("webhook", bool(self.webhook))) if wanted]


def due(now: datetime, wishes: Wishes, kind: str) -> datetime:
    """When to tell outside: now, or at the end of the quiet hours of the user's local day.

    On a day on which the clock is put forward over that end, it is the first moment after.
    """
    if kind in URGENT or wishes.quiet_from is None or wishes.quiet_to is None:
        return now
    start, stop = wishes.quiet_from, wishes.quiet_to
    if start == stop:
        return now
    zone = ZoneInfo(wishes.zone)
    local = now.astimezone(zone)
    at = local.time().replace(tzinfo=None)
    quiet = start <= at < stop if start < stop else at >= start or at < stop
    if not quiet:
        return now
    day = local.date() if at < stop else local.date() + timedelta(days=1)
    return datetime.combine(day, stop, zone).astimezone(now.tzinfo)


def backoff(attempts: int) -> timedelta:
    """How long to wait after so many failed attempts."""
    return timedelta(seconds=min(_LONGEST_S, _FIRST_S * 2.0 ** min(attempts - 1, 12)))
