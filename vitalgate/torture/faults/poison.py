"""Messages that make a handler raise."""

from __future__ import annotations

import os
from typing import ClassVar

from vitalgate.config.topics import FEATURES, INPUTS, RAW, SETASIDE, VALIDATED, full
from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.rig import Rig

_TIMES, _EACH = 3, 4
_TOPICS = (RAW, VALIDATED, INPUTS, FEATURES)


class Poison(Fault):
    """Records that no handler can read, written by a stranger onto our topics, among the good ones.

    Each must end in a dead letter or be set aside after bounded tries, nothing behind it may be skipped, and no worker
    may be down in the end.
    """

    name: ClassVar[str] = "poison"
    row: ClassVar[str] = "poison"
    seconds: ClassVar[float] = 10.0

    def __init__(self) -> None:
        self.before = 0

    async def strike(self, field: Field) -> None:
        """A few on every topic."""
        self.before = await field.do(_set_aside, field.rig)
        for _ in range(_TIMES):
            field.say("poison on " + ", ".join(topic.name for topic in _TOPICS))
            await field.do(_write, field.rig, [field.chance.randbytes(40) for _ in range(_EACH)])
            await field.pause(1, 2)

    async def after(self, field: Field) -> None:
        """Every record that a worker could not read has been set aside, with its bytes."""
        there = await field.do(_set_aside, field.rig) - self.before
        field.notes["poison records set aside"] = there
        if there < _TIMES * _EACH:  # those on the recorder's topic alone
            field.faults.append(f"{there} records were set aside of at least {_TIMES * _EACH} that nobody can read")


def _set_aside(rig: Rig) -> int:
    from kafka import KafkaConsumer, TopicPartition

    kafka = rig.settings.kafka
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap.split(","), enable_auto_commit=False)
    try:
        where = TopicPartition(full(SETASIDE, kafka), 0)
        return int(consumer.end_offsets([where])[where])
    finally:
        consumer.close()


def _write(rig: Rig, payloads: list[bytes]) -> None:
    from kafka import KafkaProducer

    kafka = rig.settings.kafka
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap.split(","), acks="all", client_id=f"stranger-{os.getpid()}"
    )
    try:
        for topic in _TOPICS:
            for number, payload in enumerate(payloads):
                # The raw topic's partitions are the device's; elsewhere any.
                producer.send(full(topic, kafka), key=f"stranger-{number}".encode(), value=payload)
        producer.flush(20)
    finally:
        producer.close(5)
