"""When the beats of each block were published, by the time that their Kafka records bear."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import orjson
from confluent_kafka import Consumer, TopicPartition

from vitalgate.config.settings import Settings
from vitalgate.config.topics import BEATS, full
from vitalgate.config.transport import kafka_options


class BeatsWatch:
    """Reads patient.beats from its end on; the first publication of each block counts."""

    def __init__(self, settings: Settings) -> None:
        self._topic = full(BEATS, settings.kafka)
        self._consumer = Consumer(
            {
                **kafka_options(settings.kafka), "group.id": "bench-beats", "enable.auto.commit": False,
                "broker.address.family": "v4",
            }
        )  # fmt: skip
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beats-watch", daemon=True)
        self.blocks: dict[tuple[str, int], float] = {}
        """(device, block) -> seconds since 1970."""
        self.moved = time.monotonic()

    def __enter__(self) -> Self:
        partitions = self._consumer.list_topics(self._topic, timeout=10).topics[self._topic].partitions
        places = [TopicPartition(self._topic, number) for number in partitions]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=10)[1]
        self._consumer.assign(places)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for record in self._consumer.consume(500, timeout=0.2):
                value = record.value()
                if record.error() is None and value:
                    document = orjson.loads(value)
                    self.blocks.setdefault((document["device_id"], document["block"]), record.timestamp()[1] / 1000)
                    self.moved = time.monotonic()

    def settle(self, quiet_s: float) -> None:
        """Until no beats have come for so long."""
        while time.monotonic() - self.moved < quiet_s:
            time.sleep(0.1)
