"""How much may go to one destination now: so many at once, so many a minute, and patience while it fails. Pure."""

from __future__ import annotations

MINUTE_US = 60 * 1_000_000
#: After so many failures in a row one notification is tried at a time, until one gets through.
DOUBT = 3


class Bucket:
    """So many a minute on average, and as many at once after a quiet minute."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._there = self._most
        self._at: int | None = None

    def next_us(self, now_us: int) -> int:
        """When one more may go, us; now when one may."""
        self._fill(now_us)
        return now_us if self._there >= 1 else now_us + round((1 - self._there) * MINUTE_US / self._most) + 1

    def take(self, now_us: int) -> None:
        """One goes."""
        self._fill(now_us)
        self._there = max(0.0, self._there - 1)

    def _fill(self, now_us: int) -> None:
        if self._at is not None:
            gained = max(0, now_us - self._at) * self._most / MINUTE_US
            self._there = min(self._most, self._there + gained)
        self._at = now_us


class Lane:
    """The way to one destination.

    Parameters
    ----------
    per_minute
        Most notifications a minute; those of high priority have as many of their own, so that a flood of others never
        holds them up.
    at_once
        Most under way at the same time.
    """

    def __init__(self, per_minute: int, at_once: int) -> None:
        self.at_once = at_once
        self.under_way = 0
        self.failures = 0
        """In a row."""
        self.paused_until = 0
        """The destination asked for a pause until then, us."""
        self._high = Bucket(per_minute)
        self._other = Bucket(per_minute)

    def may(self, high: bool, now_us: int) -> bool:
        """Whether one more may go now."""
        most = 1 if self.failures >= DOUBT else self.at_once
        if self.under_way >= most or now_us < self.paused_until:
            return False
        return (self._high if high else self._other).next_us(now_us) <= now_us

    def begin(self, high: bool, now_us: int) -> None:
        """One goes."""
        self.under_way += 1
        (self._high if high else self._other).take(now_us)

    def end(self, got_through: bool, pause_until_us: int = 0) -> None:
        """One has ended; the destination may have asked for a pause."""
        self.under_way = max(0, self.under_way - 1)
        self.failures = 0 if got_through else self.failures + 1
        self.paused_until = max(self.paused_until, pause_until_us)
