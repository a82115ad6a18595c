"""What the server says on a device's `down` topic, and what a device's clock is off by. Pure: times come in."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

#: Answers remembered for the estimate; the one with the shortest round trip counts.
REMEMBERED = 8


class DownError(ValueError):
    """A message on `down` that cannot be read."""


@dataclass(frozen=True)
class TimeAnswer:
    """The server's answer to a status message. Seconds since 1970 by the server's clock, but for `sent_at`."""

    time: float
    """When the answer left the server."""
    received_at: float
    """When the status message reached it."""
    sent_at: float | None
    """What the status message said of when it was sent, by the device's clock; None when it did not say."""


@dataclass(frozen=True)
class Settings:
    """What the operator wishes this device to do. Keys that a device does not know it passes over."""

    revision: int
    """Rises with every change."""
    settings: Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class ClockEstimate:
    """How a device's clock differs from the server's; both in seconds."""

    offset: float
    """To be added to the device's clock. It is off by at most half the round trip."""
    round_trip: float


def read_down(payload: bytes) -> TimeAnswer | Settings | None:
    """A message of the `down` topic; None for an empty one (settings taken back) and for types yet to come.

    Raises
    ------
    DownError
        When it is not JSON of the documented form.
    """
    if not payload:
        return None
    try:
        document = json.loads(payload)
        match document["type"]:
            case "time":
                sent = document.get("sent_at_of_status")
                return TimeAnswer(
                    _seconds(document["time"]),
                    _seconds(document["received_at"]),
                    None if sent is None else _seconds(sent),
                )
            case "settings":
                settings = document["settings"]
                if not isinstance(settings, dict) or not all(_is_setting(value) for value in settings.values()):
                    raise ValueError("settings must be an object of texts, numbers, true and false")
                return Settings(int(document["revision"]), settings)
            case _:
                return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DownError(f"not a message for a device ({error!r}): {payload[:200]!r}") from error


class ClockFilter:
    """The offset of a device's clock from answers to its status messages, as NTP reckons it (RFC 5905, section 8).

    Of the last few answers the one with the shortest round trip counts: the least of it can be delay on one way.
    """

    def __init__(self) -> None:
        self._heard: deque[ClockEstimate] = deque(maxlen=REMEMBERED)

    def answer(self, answer: TimeAnswer, now: float) -> ClockEstimate | None:
        """Take an answer that arrived at `now` by the device's clock; the best estimate, None as long as there is none.

        An answer to a message that told no time says nothing of the device's clock. One that cannot be (it came
        before it was asked for, or it took the server longer than the whole round trip) means that the device's clock
        was set meanwhile: what was known before is forgotten then.
        """
        if answer.sent_at is not None:
            round_trip = (now - answer.sent_at) - (answer.time - answer.received_at)
            if round_trip < 0 or now < answer.sent_at:
                self._heard.clear()
            else:
                offset = ((answer.received_at - answer.sent_at) + (answer.time - now)) / 2
                self._heard.append(ClockEstimate(offset, round_trip))
        return min(self._heard, key=lambda one: one.round_trip, default=None)


def _seconds(text: Any) -> float:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset")
    return moment.timestamp()


def _is_setting(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))
