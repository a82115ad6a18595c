"""Rate limits: a token bucket for each caller, in this process's memory."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass


@dataclass
class _Bucket:
    tokens: float
    at: float


@dataclass(frozen=True)
class Verdict:
    """Whether a request may go on, and what to tell the caller."""

    allowed: bool
    remaining: int
    retry_after_s: int


class Limiter:
    """So many requests a second for each key, with a burst; several processes each allow as much.

    Parameters
    ----------
    per_s
        Tokens that come back each second.
    burst
        Tokens of a full bucket.
    most
        Keys remembered; the least recently seen goes first, and begins again with a full bucket.
    """

    def __init__(self, per_s: float, burst: int, most: int = 100_000) -> None:
        self.per_s = per_s
        self.burst = burst
        self._most = most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str, now: float, cost: float = 1.0) -> Verdict:
        """Take tokens for one request at `now` (seconds of a clock that does not go back)."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(float(self.burst), now)
            while len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
            bucket.tokens = min(self.burst, bucket.tokens + max(0.0, now - bucket.at) * self.per_s)
            bucket.at = now
        if bucket.tokens >= cost:
            bucket.tokens -= cost
            return Verdict(True, int(bucket.tokens), 0)
        return Verdict(False, 0, max(1, math.ceil((cost - bucket.tokens) / self.per_s)))
