"""Libraries that log every attempt to connect, a hundred lines a second while Kafka is away, are heard now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

NAMES = ("aiokafka", "kafka", "faust", "mode")
EVERY_S = 10.0
_MOST = 1000


class Thrift(logging.Filter):
    """Lets the same line of these libraries through once in `every_s` seconds, and says how often it was repeated."""

    def __init__(self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.name.split(".")[0] not in NAMES:
            return True
        key = (record.name, str(record.msg))
        now = self._clock()
        last, held = self._seen.get(key, (-self._every_s, 0))
        if now - last < self._every_s:
            self._seen[key] = (last, held + 1)
            return False
        if len(self._seen) >= _MOST:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if held:
            record.__dict__["repeated"] = held
        return True


def install() -> None:
    """Put it before every handler of the root logger."""
    thrift = Thrift()
    for handler in logging.getLogger().handlers:
        handler.addFilter(thrift)
