"""Kafka killed: the single node, one of three, all three."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.shape import Shape

_THREE = Shape(nodes=3)


class KillKafka(Fault):
    """`kill -9` of Kafka's only node, which its supervisor starts again."""

    name: ClassVar[str] = "kill-kafka"
    row: ClassVar[str] = "kafka"
    weight: ClassVar[float] = 2.0

    async def strike(self, field: Field) -> None:
        """Kill it."""
        field.say("kill -9 kafka")
        await field.do(field.rig.kill, "kafka")


class KafkaAway(Fault):
    """Kafka's only node stopped by `kill -9` and kept away for six to ten seconds."""

    name: ClassVar[str] = "kafka-away"
    row: ClassVar[str] = "kafka"

    async def strike(self, field: Field) -> None:
        """Kill and hold."""
        field.say("kill -9 kafka, held")
        await field.do(field.rig.kill, "kafka")
        await field.do(field.rig.stop_one, "kafka")
        await field.pause(6, 10)
        field.say("start kafka")
        await field.do(field.rig.start_one, "kafka")


class KillOneOfThree(Fault):
    """`kill -9` of one of three Kafka nodes; replication 3, two in sync needed: nothing may stop for over 10 s."""

    name: ClassVar[str] = "kill-one-of-three"
    row: ClassVar[str] = "kafka-three"
    shape: ClassVar[Shape] = _THREE

    async def strike(self, field: Field) -> None:
        """Kill one and keep it away until the others must have taken over."""
        name = field.chance.choice(field.rig.kafka_nodes())
        field.say(f"kill -9 {name}, held")
        killed = time.time()
        await field.do(field.rig.kill, name)
        await field.do(field.rig.stop_one, name)
        await field.pause(8, 11)
        field.notes["one of three away, seconds"] = round(time.time() - killed, 1)
        await field.do(field.rig.start_one, name)


class KillAllThree(Fault):
    """`kill -9` of all three Kafka nodes at the same moment."""

    name: ClassVar[str] = "kill-all-three"
    row: ClassVar[str] = "kafka-three"
    shape: ClassVar[Shape] = _THREE

    async def strike(self, field: Field) -> None:
        """Kill all."""
        field.say("kill -9 of all three")
        await asyncio.gather(*(field.do(field.rig.kill, name) for name in field.rig.kafka_nodes()))
