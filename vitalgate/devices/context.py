"""What the validators need to know besides the message and the device's kind."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vitalgate.config.settings import IntakeSettings
from vitalgate.devices import times
from vitalgate.devices.reasons import Reason, Refused, show
from vitalgate.devices.recordings import Placer
from vitalgate.devices.records import NO_SEQ


@dataclass(slots=True)
class Context:
    """One message's surroundings. All times in microseconds."""

    received_us: int
    skew_us: int
    """Taken off every time of the device (device clock minus ours)."""
    earliest_us: int
    latest_us: int
    max_readings: int
    max_samples: int
    placer: Placer
    epoch: str = ""
    seq: int = NO_SEQ
    sample_rate: Fraction | None = None
    """Rate of this very device by the registry; a block without `rate` has it."""

    @classmethod
    def of(cls, settings: IntakeSettings, received_us: int, skew_s: int = 0, **more: Any) -> Context:
        """The context of a message received then, with the limits of the settings."""
        return cls(
            received_us=received_us,
            skew_us=skew_s * 1_000_000,
            earliest_us=received_us - settings.max_backfill_days * 86_400_000_000,
            latest_us=received_us + round(settings.max_ahead_s * 1_000_000),
            max_readings=settings.max_readings,
            max_samples=settings.max_samples,
            placer=more.pop("placer", None) or Placer({}, {}),
            **more,
        )

    def event(self, value: Any, name: str = "time") -> tuple[int, int, int]:
        """(event time, time as sent, UTC offset in minutes) of a time as the device wrote it.

        Raises
        ------
        Refused
            SCHEMA when it is no RFC 3339 text with an offset, TIME_UNEXPLAINED when it lies outside the window that
            arrival time, backfill and skew explain.
        """
        if type(value) is not str:
            raise Refused(
                Reason.SCHEMA,
                f"{name} is missing; send it as 2026-11-21T10:00:00+01:00"
                if value is None
                else f"{name} is {show(value)}; send an RFC 3339 text such as 2026-11-21T10:00:00+01:00",
            )
        sent_us, offset_min = times.parse(value)
        event_us = sent_us - self.skew_us
        if not self.earliest_us <= event_us <= self.latest_us:
            self._unexplained(name, value, event_us)
        return event_us, sent_us, offset_min

    def _unexplained(self, name: str, value: str, event_us: int) -> None:
        after = f" ({times.text(event_us)} after a clock skew of {self.skew_us // 1_000_000} s)" if self.skew_us else ""
        if event_us > self.latest_us:
            limit = f"ahead of the latest time accepted, {times.text(self.latest_us)}"
        else:
            limit = f"before the earliest time accepted, {times.text(self.earliest_us)}"
        raise Refused(
            Reason.TIME_UNEXPLAINED,
            f"{name} {show(value)}{after} is {limit}; set the clock and send sent_at so that its skew is seen",
        )
