"""Kafka killed: the single node, one of three, all three."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import ClassVar

import psycopg

from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.shape import Shape

_THREE = Shape(nodes=3)
_STOP_S = 10.0


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
    """`kill -9` of one of three Kafka nodes; replication 3, two in sync needed: nothing may stop for over 10 s.

    The longest time without a committed row while it is away is noted by every round; over 10 s is a fault where the
    machine has a core for each that wants one, for elsewhere it says nothing of Kafka.
    """

    name: ClassVar[str] = "kill-one-of-three"
    row: ClassVar[str] = "kafka-three"
    shape: ClassVar[Shape] = _THREE

    def __init__(self) -> None:
        self.away = (0.0, 0.0)

    async def strike(self, field: Field) -> None:
        """Kill one and keep it away until the others must have taken over."""
        name = field.chance.choice(field.rig.kafka_nodes())
        field.say(f"kill -9 {name}, held")
        killed = time.time()
        await field.do(field.rig.kill, name)
        await field.do(field.rig.stop_one, name)
        await field.pause(8, 11)
        self.away = (killed, time.time())
        field.notes["one of three away, seconds"] = round(self.away[1] - killed, 1)
        await field.do(field.rig.start_one, name)

    async def after(self, field: Field) -> None:
        """How long nothing was stored."""
        stop = await field.do(_longest_stop, field, *self.away)
        field.notes["longest stop while one of three was away, seconds"] = round(stop, 1)
        if stop > _STOP_S and os.getloadavg()[0] <= (os.cpu_count() or 1):
            field.faults.append(f"nothing was stored for {stop:.1f} s while one of three nodes was away")


class KillAllThree(Fault):
    """`kill -9` of all three Kafka nodes at the same moment."""

    name: ClassVar[str] = "kill-all-three"
    row: ClassVar[str] = "kafka-three"
    shape: ClassVar[Shape] = _THREE

    async def strike(self, field: Field) -> None:
        """Kill all."""
        field.say("kill -9 of all three")
        await asyncio.gather(*(field.do(field.rig.kill, name) for name in field.rig.kafka_nodes()))


def _longest_stop(field: Field, began: float, ended: float) -> float:
    """Longest time without a batch stored of the round's devices, begun between two moments, seconds."""
    database = field.rig.settings.database
    with psycopg.connect(database.dsn, options=f"-c search_path={database.db_schema}_data") as connection:
        rows = connection.execute(
            "SELECT DISTINCT extract(epoch FROM l.applied_at)::float8 FROM readings r JOIN ledger l"
            " ON l.partition = r.raw_partition AND r.raw_offset BETWEEN l.first_offset AND l.last_offset"
            " WHERE r.device_id = ANY(%s) AND l.applied_at > to_timestamp(%s) ORDER BY 1",
            (list(field.traffic.roles()), began),
        ).fetchall()
    moments = [began, *(at for (at,) in rows)]
    return max((later - earlier for earlier, later in itertools.pairwise(moments) if earlier < ended), default=0.0)
