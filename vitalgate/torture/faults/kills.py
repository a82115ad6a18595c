"""Our own processes killed."""

from __future__ import annotations

import signal
from typing import ClassVar

from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.rig import OURS
from vitalgate.torture.shape import Shape


class KillGateway(Fault):
    """`kill -9` of the gateway, one to three times.

    What it had taken from the broker without Kafka's word is not acknowledged, so the broker gives it out again; a
    plain QoS 1 device loses nothing either, for the broker lives.
    """

    name: ClassVar[str] = "kill-gateway"
    row: ClassVar[str] = "processes"

    async def strike(self, field: Field) -> None:
        """Kill it, and again when it may just be back."""
        for _ in range(field.chance.randint(1, 3)):
            field.say("kill -9 gateway")
            await field.do(field.rig.kill, "gateway")
            await field.pause(1, 4)


class KillWorker(Fault):
    """`kill -9` of one worker, or of notifier or registrar, one to three times."""

    name: ClassVar[str] = "kill-worker"
    row: ClassVar[str] = "processes"
    weight: ClassVar[float] = 2.0

    async def strike(self, field: Field) -> None:
        """Kill one again and again, or one after the other."""
        for _ in range(field.chance.randint(1, 3)):
            name = field.chance.choice([one for one in OURS if one != "gateway"])
            field.say(f"kill -9 {name}")
            await field.do(field.rig.kill, name)
            await field.pause(0.5, 3)


class KillSeveral(Fault):
    """`kill -9` of three to nine of our processes at the same moment."""

    name: ClassVar[str] = "kill-several"
    row: ClassVar[str] = "processes"
    seconds: ClassVar[float] = 4.0
    weight: ClassVar[float] = 2.0

    async def strike(self, field: Field) -> None:
        """All at once."""
        names = field.chance.sample(OURS, field.chance.randint(3, len(OURS)))
        field.say(f"kill -9 {', '.join(names)}")
        for name in names:
            await field.do(field.rig.kill, name)


class KillAtStart(Fault):
    """A process killed again while it starts: in its imports, while it reads back, before it is ready."""

    name: ClassVar[str] = "kill-at-start"
    row: ClassVar[str] = "processes"

    async def strike(self, field: Field) -> None:
        """Kill, wait a moment of its start, kill again."""
        name = field.chance.choice(OURS)
        for _ in range(3):
            field.say(f"kill -9 {name}")
            await field.do(field.rig.kill, name)
            await field.pause(0.3, 3.5)


class FreezeWorker(Fault):
    """A worker stopped for longer than its session (SIGSTOP), then woken: it must not act on partitions it has lost."""

    name: ClassVar[str] = "freeze-worker"
    row: ClassVar[str] = "processes"
    seconds: ClassVar[float] = 14.0

    async def strike(self, field: Field) -> None:
        """Freeze for seven to ten seconds; the session is six."""
        name = field.chance.choice(("intake", "recorder", "analysis", "alerting", "gateway"))
        field.say(f"SIGSTOP {name}")
        await field.do(field.rig.kill, name, signal.SIGSTOP)
        try:
            await field.pause(7, 10)
        finally:
            field.say(f"SIGCONT {name}")
            await field.do(field.rig.kill, name, signal.SIGCONT)


class KillInRebalance(Fault):
    """A worker killed in the middle of a rebalance: its twin has just joined or left the group."""

    name: ClassVar[str] = "kill-in-rebalance"
    row: ClassVar[str] = "processes"
    shape: ClassVar[Shape] = Shape(copies="gateway=2,intake=2,recorder=2")
    seconds: ClassVar[float] = 14.0

    async def strike(self, field: Field) -> None:
        """Take the twin away, kill the first while it takes over, bring the twin back, kill again."""
        name = field.chance.choice(("intake", "recorder"))
        field.say(f"stop {name}-1, kill -9 {name} in the rebalance")
        await field.do(field.rig.stop_one, f"{name}-1")
        await field.pause(0, 1)
        await field.do(field.rig.kill, name)
        await field.pause(0.5, 4)
        await field.do(field.rig.start_one, f"{name}-1")
        await field.pause(1, 3)
        field.say(f"kill -9 {name} as {name}-1 joins")
        await field.do(field.rig.kill, name)
