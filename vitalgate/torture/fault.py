"""What a fault is: a small class of its own, found by name."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vitalgate.simulators.cast import Registry
from vitalgate.torture.rig import Rig
from vitalgate.torture.shape import PLAIN, Shape
from vitalgate.torture.traffic import Traffic

#: The table of docs/reliability.md, in its order: key, heading, what must hold.
ROWS: Mapping[str, tuple[str, str]] = {
    "none": ("nothing (control)", "an undisturbed round equals another"),
    "processes": (
        "`kill -9` of the gateway, each worker, several at once, at start-up, in a rebalance",
        "outbox and plain QoS 1: lost 0, duplicates 0, results identical",
    ),
    "broker": (
        "`kill -9` of Mosquitto; its queue at its bound",
        "with outbox: lost 0; plain QoS 1: a stated window, seen as gaps",
    ),
    "rabbitmq": (
        "`kill -9` of RabbitMQ in Mosquitto's place, with and without the gateway",
        "outbox and plain QoS 1: lost 0, results identical",
    ),
    "kafka": ("Kafka's only node killed and back", "lost 0"),
    "kafka-three": ("Kafka of three nodes: one killed, all killed", "lost 0; one of three: no stop over 10 s"),
    "device": ("device reset, replaced, restored from an old outbox", "nothing deleted unsent or refused as a repeat"),
    "database": (
        "PostgreSQL killed, refused, locked, slow, out of connections", "lost 0; alerts go out meanwhile",
    ),
    "network": ("network cut, slow, lossy, stalled, half-open between any two parts", "lost 0"),
    "room": ("disk full for Kafka, Mosquitto, PostgreSQL; a worker out of memory", "clear error, recovers, lost 0"),
    "poison": ("messages that make a handler raise", "dead letter, nothing skipped behind it"),
    "clock": (
        "devices' clocks hours off, jumping, in another zone, at the epoch; the server's clock stepping",
        "event time kept, skew estimated",
    ),
    "herd": ("1,000 devices offline, then all back at once", "lost 0; alerts in time"),
    "scale": ("gateways and workers added and taken away", "lost 0, order kept"),
    "upgrade": ("old and new worker side by side, schema migration under load", "lost 0"),
}  # fmt: skip


@dataclass
class Field:
    """Where a fault is at work: the running round."""

    rig: Rig
    traffic: Traffic
    chance: random.Random
    """Of this fault, from the round's seed."""
    hurt: set[str] = field(default_factory=set)
    """Roles of patients whose results may differ (plain devices under a killed broker)."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Figures for the report."""
    faults: list[str] = field(default_factory=list)
    """What the fault itself found to be wrong."""
    lifted: float = 0.0
    """When the last fault was over, seconds since 1970."""
    told: Callable[[str], None] = lambda _text: None
    registry: Registry | None = None
    """For faults that bring devices of their own."""

    async def do(self, what: Callable[..., Any], *arguments: Any) -> Any:
        """Call something that blocks, off the loop on which the devices live."""
        return await asyncio.to_thread(what, *arguments)

    async def pause(self, low: float, high: float | None = None) -> None:
        """Wait, a random time when a second bound is given."""
        await asyncio.sleep(low if high is None else self.chance.uniform(low, high))

    def say(self, text: str) -> None:
        """What is done now, for whoever watches and for the report; the last of it is the last blow."""
        self.lifted = time.time()
        self.told(f"{time.time() - self.traffic.wall(0):5.1f} s  {text}")


class Fault(ABC):
    """One way to do harm. The docstring of each class explains it; its first line is its title."""

    name: ClassVar[str]
    row: ClassVar[str]
    """Which line of the table it belongs to."""
    shape: ClassVar[Shape] = PLAIN
    seconds: ClassVar[float] = 12.0
    """How long it takes at most, so that it can begin early enough."""
    alone: ClassVar[bool] = False
    """Not mixed with another fault in a round."""
    weight: ClassVar[float] = 1.0
    """How often it is drawn."""

    async def prepare(self, field: Field) -> None:  # noqa: B027  few need it
        """Before the round's devices start."""

    @abstractmethod
    async def strike(self, field: Field) -> None:
        """Do it, and return when it has been lifted."""

    async def after(self, field: Field) -> None:  # noqa: B027  few need it
        """When all is quiet: check what is special to this fault, into `field.faults`."""

    @property
    def title(self) -> str:
        """One line."""
        return (self.__doc__ or self.name).partition("\n")[0].rstrip(".")

    @property
    def explanation(self) -> str:
        """The whole docstring."""
        return "\n".join(line.strip() for line in (self.__doc__ or "").strip().splitlines())


def known() -> dict[str, Fault]:
    """All faults by name."""
    from vitalgate.torture import faults

    found: dict[str, Fault] = {}
    for module in sorted(entry.name for entry in pkgutil.iter_modules(faults.__path__)):
        for value in vars(importlib.import_module(f"{faults.__name__}.{module}")).values():
            if isinstance(value, type) and issubclass(value, Fault) and "name" in vars(value):
                found[value.name] = value()
    return dict(sorted(found.items(), key=lambda pair: (list(ROWS).index(pair[1].row), pair[0])))


class UnknownFault(ValueError):
    """There is no fault of that name."""


def choose(names: Iterable[str]) -> list[tuple[Fault, ...]]:
    """Faults by their names or by the rows of the table; ``a+b`` stands for both in one round.

    Raises
    ------
    UnknownFault
        Naming what there is.
    """
    faults = known()
    chosen: list[tuple[Fault, ...]] = []
    for name in names:
        of_row = [(fault,) for fault in faults.values() if fault.row == name]
        together = name.split("+")
        if all(one in faults for one in together):
            chosen.append(tuple(faults[one] for one in together))
        elif of_row:
            chosen.extend(of_row)
        else:
            raise UnknownFault(f"there is no fault {name!r}; there are {', '.join(faults)}, or rows {', '.join(ROWS)}")
    return list(dict.fromkeys(chosen))


async def until(condition: Callable[[], Awaitable[bool]], patience_s: float) -> bool:
    """Wait until it holds; False when patience ran out."""
    give_up = time.monotonic() + patience_s
    while not await condition():
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(0.1)
    return True
