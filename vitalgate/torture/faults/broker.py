"""The MQTT broker killed, and its queue filled to the bound."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.shape import Shape
from vitalgate.torture.stranger import Burst, queue_share
from vitalgate.torture.traffic import PLAIN

_BOUND = 4 * 1024 * 1024


def plain_roles(field: Field) -> set[str]:
    """Patients whose devices have no outbox."""
    return {role for role in field.traffic.patients().values() if role.startswith(PLAIN)}


class KillBroker(Fault):
    """`kill -9` of Mosquitto, once or twice.

    Devices with an outbox lose nothing. A plain QoS 1 device loses what Mosquitto had acknowledged from memory and not
    yet handed to the gateway: a window of milliseconds while the gateway keeps up, measured and told by each round.
    """

    name: ClassVar[str] = "kill-broker"
    row: ClassVar[str] = "broker"

    async def strike(self, field: Field) -> None:
        """Kill it."""
        field.hurt |= plain_roles(field)
        for _ in range(field.chance.randint(1, 2)):
            field.say("kill -9 mosquitto")
            await field.do(field.rig.kill, "mosquitto")
            await field.pause(2, 5)


class KillBrokerWithGateway(Fault):
    """`kill -9` of Mosquitto while the gateway is away, so that its queue is lost with it.

    The worst for plain QoS 1: all that was acknowledged meanwhile is gone, and a device that sends `seq` shows it as a
    gap. Devices with an outbox lose nothing.
    """

    name: ClassVar[str] = "kill-broker-with-queue"
    row: ClassVar[str] = "broker"

    async def strike(self, field: Field) -> None:
        """Take the gateway away, let a queue grow, kill the broker, let both come back."""
        field.hurt |= plain_roles(field)
        field.say("stop gateway")
        await field.do(field.rig.stop_one, "gateway")
        await field.pause(2, 4)
        field.say("kill -9 mosquitto with its queue")
        await field.do(field.rig.kill, "mosquitto")
        await field.pause(1, 2)
        field.say("start gateway")
        await field.do(field.rig.start_one, "gateway")


class FullQueue(Fault):
    """The gateway away until the broker's queue has reached its bound in bytes, which is alarmed at half of it.

    A stranger of plain QoS 1 with `seq` fills it. What the broker drops beyond its bound is dropped although it was
    acknowledged: every hole must be visible as a gap in the stranger's numbers. Devices with an outbox lose nothing.
    """

    name: ClassVar[str] = "full-queue"
    row: ClassVar[str] = "broker"
    shape: ClassVar[Shape] = Shape(flags=(("mqtt.max_queued_bytes", str(_BOUND)),))
    seconds: ClassVar[float] = 18.0
    alone: ClassVar[bool] = True

    def __init__(self) -> None:
        self.burst: Burst | None = None

    async def prepare(self, field: Field) -> None:
        """Register the stranger."""
        self.burst = await Burst.enrol(field)

    async def strike(self, field: Field) -> None:
        """Fill the queue twice over while nobody empties it."""
        assert self.burst is not None
        field.hurt |= plain_roles(field)
        field.say("stop gateway")
        await field.do(field.rig.stop_one, "gateway")
        shares: list[float] = []
        sending = asyncio.create_task(self.burst.send(2 * _BOUND))
        while not sending.done():
            shares.append(await field.do(queue_share, field.rig, _BOUND))
            await asyncio.sleep(1)
        await sending
        until = time.monotonic() + 8
        while time.monotonic() < until and max(shares) < 0.5:
            shares.append(await field.do(queue_share, field.rig, _BOUND))
            await asyncio.sleep(1)
        field.notes["broker queue, largest share of its bound seen"] = round(max(shares), 2)
        if max(shares) < 0.5:
            field.faults.append(
                f"the queue gauge showed {max(shares):.2f} of the bound at most while twice that was sent"
            )
        field.say("start gateway")
        await field.do(field.rig.start_one, "gateway", 60)
        await asyncio.sleep(2)  # the queue is handed out; what comes now shows what is missing before it
        await self.burst.send(8_000)

    async def after(self, field: Field) -> None:
        """Every message is stored, or its number is in an open gap."""
        assert self.burst is not None
        await self.burst.account(field)
