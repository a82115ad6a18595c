"""Tell when two processes run in one slot: Kafka gives it to each in turn, and both repeat the work of the other."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

#: So many assignments within so many seconds are no ordinary rebalancing.
MANY = 6
WITHIN_S = 20.0


class SlotWatch:
    """Counts assignments of one worker process."""

    def __init__(self, worker: str, slot: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker = worker
        self._slot = slot
        self._clock = clock
        self._times: deque[float] = deque(maxlen=MANY)

    def assigned(self) -> None:
        """Partitions were assigned anew."""
        self._times.append(self._clock())
        trouble = self.trouble()
        if trouble is not None:
            log.error(trouble, extra={"worker": self._worker, "slot": self._slot})

    def trouble(self) -> str | None:
        """What seems wrong and the remedy, or None."""
        if len(self._times) < MANY or self._clock() - self._times[0] > WITHIN_S:
            return None
        return (
            f"{MANY} assignments in {WITHIN_S:.0f} s: does another {self._worker} run in slot {self._slot!r}? "
            "Give each its own --slot"
        )
