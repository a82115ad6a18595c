"""One virtual clock for a run: real time, or faster, in which case it starts in the past and ends at the present.

A device may not report from the future. So a run of 3600 virtual seconds at speed 60 takes a minute, starts 59 minutes
ago and reaches the present at its end. Messages of an accelerated run carry no ``sent_at``: a clock that runs fast is
not a clock that is wrong, and must not be taken for skew.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass


@dataclass
class VirtualClock:
    """Virtual seconds since 1970 UTC."""

    start: float
    """Virtual time at which the run starts."""
    speed: float
    wall_start: float
    """The machine's time (``time.time``) at which it starts."""

    @classmethod
    def for_run(cls, seconds: float, speed: float = 1.0, now: float | None = None) -> VirtualClock:
        """A clock that starts now and reaches the present when `seconds` virtual seconds have passed.

        Raises
        ------
        ValueError
            For a speed that is not above zero, or below 1 (a slow clock would run into the future's opposite: its
            readings would look ever later).
        """
        if not speed >= 1 or math.isinf(speed):
            raise ValueError(f"speed {speed} is not usable; give 1 for real time or more, such as 60")
        wall = time.time() if now is None else now
        return cls(wall + seconds / speed - seconds, speed, wall)

    @property
    def accelerated(self) -> bool:
        """True when virtual time is not the machine's."""
        return self.speed != 1.0

    def now(self) -> float:
        """Virtual time."""
        return self.start + (time.time() - self.wall_start) * self.speed

    def wall(self, virtual: float) -> float:
        """The machine's time at a virtual time."""
        return self.wall_start + (virtual - self.start) / self.speed

    async def until(self, virtual: float) -> None:
        """Wait for a virtual time; at once when it has passed."""
        delay = self.wall(virtual) - time.time()
        await asyncio.sleep(max(0.0, delay))
