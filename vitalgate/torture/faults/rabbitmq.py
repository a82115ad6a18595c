"""The second broker killed: the one whose PUBACK is durable."""

from __future__ import annotations

from typing import ClassVar

from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.shape import Shape

_RABBIT = Shape(flags=(("mqtt.broker", "rabbitmq"),))


class KillRabbit(Fault):
    """`kill -9` of RabbitMQ, the broker whose PUBACK is durable, and of the gateway now and then.

    Nothing may be lost, of plain QoS 1 devices neither.
    """

    name: ClassVar[str] = "kill-rabbitmq"
    row: ClassVar[str] = "rabbitmq"
    shape: ClassVar[Shape] = _RABBIT

    async def strike(self, field: Field) -> None:
        """Kill it."""
        if field.chance.random() < 0.5:
            field.say("kill -9 gateway")
            await field.do(field.rig.kill, "gateway")
            await field.pause(0.2, 1.5)
        field.say("kill -9 rabbitmq")
        await field.do(field.rig.kill, "rabbitmq")


class RabbitWithoutGateway(Fault):
    """RabbitMQ killed while the gateway is away and a queue has grown: the queue is on disk and comes back."""

    name: ClassVar[str] = "kill-rabbitmq-with-queue"
    row: ClassVar[str] = "rabbitmq"
    shape: ClassVar[Shape] = _RABBIT

    async def strike(self, field: Field) -> None:
        """Take the gateway away, let a queue grow, kill the broker, let both come back."""
        field.say("stop gateway")
        await field.do(field.rig.stop_one, "gateway")
        await field.pause(2, 4)
        field.say("kill -9 rabbitmq with its queue")
        await field.do(field.rig.kill, "rabbitmq")
        await field.pause(1, 2)
        field.say("start gateway")
        await field.do(field.rig.start_one, "gateway")
