"""All devices of a run on one asyncio loop: what is due by the virtual clock is made and sent, and nothing else waits.

The fleet keeps one queue, ordered by virtual time, of the next message of each device and of what a scenario has in
store. A machine too slow for the speed asked falls behind; nothing is left out, and `behind_s` says by how much.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from vitalgate.simulators.clock import VirtualClock
from vitalgate.simulators.device import SimulatedDevice
from vitalgate.simulators.firmware import Emission
from vitalgate.simulators.journal import Journal

Action = Callable[[], None]
_TURN_S = 0.02
"""Longest time spent on what is due before the connections get their turn."""
_SETTLE_S = 0.5
_CONNECTS_AT_ONCE = 50


@dataclass(order=True)
class _Due:
    at: float
    order: int
    device: SimulatedDevice | None = field(compare=False)
    emission: Emission | None = field(compare=False)
    action: Action | None = field(compare=False)


@dataclass(frozen=True)
class Progress:
    """How a run stands, for a display."""

    virtual_s: float
    """Virtual seconds since its start."""
    connected: int
    devices: int
    messages: int
    items: int
    publishes: int
    pending: int
    """Messages without a receipt."""
    behind_s: float
    """By how much sending is behind the clock, seconds of the machine."""


class Fleet:
    """Runs devices from the clock's start for `seconds` virtual seconds.

    Parameters
    ----------
    actions
        (virtual time, what to do): a scenario's happenings.
    """

    def __init__(
        self, devices: Sequence[SimulatedDevice], clock: VirtualClock, seconds: float, journal: Journal,
        actions: Sequence[tuple[float, Action]] = (),
    ) -> None:  # fmt: skip
        self.devices = list(devices)
        self.clock = clock
        self.stop_at = clock.start + seconds
        self.journal = journal
        self.behind_s = 0.0
        self._order = itertools.count()
        self._queue: list[_Due] = []
        self._streams: dict[int, Iterator[Emission]] = {}
        for at, action in actions:
            heapq.heappush(self._queue, _Due(at, next(self._order), None, None, action))

    async def run(self, watch: Callable[[Progress], None] | None = None, drain_s: float = 60.0) -> bool:
        """Send everything, then wait until all is receipted.

        Parameters
        ----------
        watch
            Called a few times a second.
        drain_s
            How long to wait at the end for receipts.

        Returns
        -------
        True when every message was receipted (or, without number, acknowledged by the broker).
        """
        allow_files(len(self.devices))
        upkeep = asyncio.create_task(self._upkeep(watch))
        try:
            await self._connect()
            for device in self.devices:
                self._streams[id(device)] = device.firmware.emissions(self.stop_at)
                self._next_of(device)
            await self._send_all()
            return await self._drain(drain_s)
        finally:
            upkeep.cancel()
            for device in self.devices:
                device.close()
            await asyncio.sleep(0)
            self.journal.flush()

    def progress(self) -> Progress:
        """How it stands."""
        return Progress(
            min(self.clock.now(), self.stop_at) - self.clock.start, sum(device.connected for device in self.devices),
            len(self.devices), self.journal.messages, self.journal.items,
            sum(device.publishes for device in self.devices), sum(device.pending for device in self.devices),
            self.behind_s,
        )  # fmt: skip

    async def _connect(self) -> None:
        for batch in _batches(self.devices, _CONNECTS_AT_ONCE):
            for device in batch:
                device.connect()
            give_up = time.monotonic() + 5
            while time.monotonic() < give_up and not all(device.connected or device.refused for device in batch):
                await asyncio.sleep(0.005)

    def _next_of(self, device: SimulatedDevice) -> None:
        emission = next(self._streams[id(device)], None)
        if emission is not None:
            heapq.heappush(self._queue, _Due(emission.at, next(self._order), device, emission, None))

    async def _send_all(self) -> None:
        while self._queue:
            now = self.clock.now()
            turn_ends = time.monotonic() + _TURN_S
            while self._queue and self._queue[0].at <= now and time.monotonic() < turn_ends:
                due = heapq.heappop(self._queue)
                if due.action is not None:
                    due.action()
                elif due.device is not None and due.emission is not None:
                    due.device.take(due.emission)
                    self._next_of(due.device)
            if not self._queue:
                return
            self.behind_s = max(0.0, (self.clock.now() - self._queue[0].at) / self.clock.speed)
            wait = min(self.clock.wall(self._queue[0].at) - time.time(), 0.1)
            await asyncio.sleep(max(0.0, wait))

    async def _drain(self, drain_s: float) -> bool:
        for device in self.devices:
            device.connect()
        give_up = time.monotonic() + drain_s
        while time.monotonic() < give_up:
            if not any(device.pending for device in self.devices):
                # The last repeats (and their receipts) may still be on their way.
                await asyncio.sleep(_SETTLE_S)
                return True
            await asyncio.sleep(0.05)
        return False

    async def _upkeep(self, watch: Callable[[Progress], None] | None) -> None:
        turn = 0
        while True:
            await asyncio.sleep(0.25)
            turn += 1
            if turn % 4 == 0:
                for device in self.devices:
                    device.pump()
            self.journal.flush()
            if watch is not None:
                watch(self.progress())


def allow_files(connections: int) -> None:
    """Raise the soft limit of open files where many connections need it.

    Raises
    ------
    OSError
        When the hard limit is too low; the text says what to do.
    """
    import resource

    need = connections + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= need or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < need:
        raise OSError(f"{connections} devices need {need} open files, the limit is {hard}; raise it (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def _batches(devices: Sequence[SimulatedDevice], size: int) -> Iterator[Sequence[SimulatedDevice]]:
    for first in range(0, len(devices), size):
        yield devices[first : first + size]
