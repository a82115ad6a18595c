"""Kafka consumers of the notifier: settings, reading in bursts, reading a compacted topic whole."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from vitalgate.config.kafka_client import MAX_RECORD_BYTES
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.transport import kafka_options
from vitalgate.gateway.receipts import Position

log = logging.getLogger(__name__)


def consumer(kafka: KafkaSettings, group: str, slot: str, *, fatal: Callable[[str], None]) -> Consumer:
    """A consumer that commits only when told, and is back at once after a crash (static membership)."""

    def complain(error: KafkaError) -> None:
        if error.fatal():
            fatal(f"fatal error of Kafka's consumer {group}: {error}")
        else:
            log.warning("Kafka", extra={"detail": str(error)})

    options: dict[str, Any] = {
        **kafka_options(kafka),
        "client.id": f"vg-{group}-{slot}",
        "group.id": f"{kafka.prefix}{group}",
        "group.instance.id": f"{kafka.prefix}{group}-{slot}",
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 1000,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 50,
        "queued.max.messages.kbytes": 16_384,
        "message.max.bytes": MAX_RECORD_BYTES,
        "topic.metadata.refresh.interval.ms": 30_000,
        "allow.auto.create.topics": False,
        "error_cb": complain,
        "logger": logging.getLogger("librdkafka"),
    }
    return Consumer(options)


def burst(source: Consumer, timeout_s: float, most: int = 500) -> list[Message]:
    """The first record within the time, with all that is there behind it; empty when none came.

    `Consumer.consume` alone would wait out its time for the full number.
    """
    first = source.poll(timeout_s)
    if first is None:
        return []
    return [message for message in (first, *source.consume(most - 1, 0.0)) if usable(message)]


def usable(message: Message) -> bool:
    """False, with a log line, for what librdkafka hands out in place of a record."""
    error = message.error()
    if error is not None:
        log.warning("Kafka", extra={"detail": str(error)})
    return error is None


def position(message: Message) -> Position:
    """Where a record that was consumed (and is no error) stands."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise LookupError("a record without a position")
    return Position(topic, partition, offset)


def assign_whole(source: Consumer, topic: str, *, timeout_s: float = 5.0) -> dict[int, int]:
    """Assign all partitions from their beginning; returns the end offset of each that has records now.

    Raises
    ------
    KafkaException
        When Kafka does not answer or the topic is not there.
    """
    description = source.list_topics(topic, timeout=timeout_s).topics[topic]
    if description.error is not None:
        raise LookupError(f"Kafka topic {topic}: {description.error}; create the topics (`vitalgate topics create`)")
    ends: dict[int, int] = {}
    for partition in description.partitions:
        low, high = source.get_watermark_offsets(TopicPartition(topic, partition), timeout=timeout_s, cached=False)
        if high > low:
            ends[partition] = high
    source.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in description.partitions])
    return ends


def assign_all(source: Consumer, names: Iterable[str], *, timeout_s: float = 5.0) -> dict[tuple[str, int], int]:
    """As `assign_whole` for several topics; end offsets by topic and partition. Raises as that does."""
    ends: dict[tuple[str, int], int] = {}
    places: list[TopicPartition] = []
    for name in names:
        ends |= {(name, partition): end for partition, end in assign_whole(source, name, timeout_s=timeout_s).items()}
        places += source.assignment()
    source.assign([TopicPartition(place.topic, place.partition, OFFSET_BEGINNING) for place in places])
    return ends


def reached(source: Consumer, topic: str, ends: dict[int, int]) -> bool:
    """Whether everything below `ends` has been handed out (compaction may have removed the very last records)."""
    places = source.position([TopicPartition(topic, partition) for partition in ends])
    return all(place.offset >= ends[place.partition] for place in places)


class Offsets:
    """What may be committed: everything consumed, but nothing beyond what is still under way."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], int] = {}
        self._committed: dict[tuple[str, int], int] = {}
        self.commit_at = 0.0

    def consumed(self, message: Message) -> None:
        """Note that a record was taken."""
        place = position(message)
        self._next[place.topic, place.partition] = place.offset + 1

    def forget(self) -> None:
        """After a rebalance the positions are somebody else's."""
        self._next.clear()
        self._committed.clear()

    def ready(self, under_way: Iterable[Position]) -> list[TopicPartition]:
        """The offsets to commit that differ from those committed last."""
        limit = dict(self._next)
        for topic, partition, offset in under_way:
            if offset < limit.get((topic, partition), -1):
                limit[topic, partition] = offset
        out = [
            TopicPartition(topic, partition, offset)
            for (topic, partition), offset in limit.items()
            if self._committed.get((topic, partition)) != offset
        ]
        self._committed.update(limit)
        return out

    def commit(self, source: Consumer, under_way: Iterable[Position], *, wait: bool = False) -> None:
        """Commit what is ready; a failure is logged only, for the records then come again and do the same again."""
        ready = self.ready(under_way)
        if not ready:
            return
        try:
            if wait:
                source.commit(offsets=ready, asynchronous=False)
            else:
                source.commit(offsets=ready)
        except KafkaException as error:
            self._committed.clear()
            log.warning("offsets were not committed", extra={"detail": str(error)})

    def due(self, interval_s: float) -> bool:
        """Whether it is time to commit again."""
        now = time.monotonic()
        if now < self.commit_at:
            return False
        self.commit_at = now + interval_s
        return True
