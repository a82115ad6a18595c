"""Messages that make a handler raise."""

from __future__ import annotations

import os
from typing import ClassVar

from vitalgate.config.topics import FEATURES, INPUTS, RAW, VALIDATED, full
from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.rig import Rig

_TOPICS = (RAW, VALIDATED, INPUTS, FEATURES)


class Poison(Fault):
    """Records that no handler can read, written by a stranger onto our topics, among the good ones.

    Each must end in a dead letter or be set aside after bounded tries, nothing behind it may be skipped, and no worker
    may be down in the end.
    """

    name: ClassVar[str] = "poison"
    row: ClassVar[str] = "poison"
    seconds: ClassVar[float] = 10.0

    async def strike(self, field: Field) -> None:
        """A few on every topic."""
        for _ in range(3):
            field.say("poison on " + ", ".join(topic.name for topic in _TOPICS))
            await field.do(_write, field.rig, [field.chance.randbytes(40) for _ in range(4)])
            await field.pause(1, 2)


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
