"""Records to Kafka, a handful at a time, with an answer: all of them are there, or it says which is not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from vitalgate.config import topics
from vitalgate.config.kafka_client import producer_options, schema_headers
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.transport import kafka_options

Headers = list[tuple[str, str | bytes | None]]
OnDelivery = Callable[["KafkaError | None", Message], None]


class NotDelivered(Exception):
    """Kafka did not acknowledge; nothing may be taken for done, and sending again does no harm."""


class Record(NamedTuple):
    """One record to send."""

    topic: topics.Topic
    key: str | None
    value: bytes | None
    message_id: str
    """Content identity, hex."""
    trace: str = ""
    partition: int = -1
    extra: tuple[tuple[str, bytes], ...] = ()
    """Further headers."""


class ConfirmedProducer:
    """Idempotent, acks=all, Java's partitions; `send` returns when Kafka has everything."""

    def __init__(self, kafka: KafkaSettings, client_id: str, *, timeout_s: float = 15.0) -> None:
        self._kafka = kafka
        self._timeout_s = timeout_s
        self._producer = Producer(
            producer_options(kafka, client_id)
            | {
                "message.timeout.ms": int(timeout_s * 1000),
                "logger": logging.getLogger("librdkafka"),
            }
        )

    def send(self, records: Sequence[Record]) -> None:
        """Send records, in order for each key.

        Raises
        ------
        NotDelivered
            When one was not acknowledged in time.
        """
        failed: list[str] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append(f"{message.topic()}: {error}")

        for record in records:
            headers: Headers = [*schema_headers(record.topic), ("message_id", record.message_id.encode())]
            if record.trace:
                headers.append(("trace", record.trace.encode()))
            headers += record.extra
            self._produce(record, headers, delivered)
        left = self._producer.flush(self._timeout_s + 1.0)
        if left or failed:
            self._producer.purge()
            raise NotDelivered("; ".join(failed[:3]) or f"Kafka did not acknowledge {left} of {len(records)} records")

    def _produce(self, record: Record, headers: Headers, delivered: OnDelivery) -> None:
        name = topics.full(record.topic, self._kafka)
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                self._producer.produce(
                    name, record.value, record.key, partition=record.partition, headers=headers, on_delivery=delivered
                )
                return
            except BufferError:
                if time.monotonic() > until:
                    raise NotDelivered(f"Kafka took nothing for {self._timeout_s:g} s") from None
                self._producer.poll(0.1)
            except KafkaException as error:
                raise NotDelivered(f"{name}: {error}") from error

    def ends(self, topic: topics.Topic) -> dict[int, int]:
        """The end offset of every partition that holds or held records.

        Raises
        ------
        NotDelivered
            When Kafka does not answer or has not the topic.
        """
        name = topics.full(topic, self._kafka)
        reader = Consumer({**kafka_options(self._kafka), "group.id": "vg-none", "log_level": 2})
        try:
            found = reader.list_topics(name, timeout=5.0).topics[name]
            if found.error is not None:
                raise NotDelivered(f"{name}: {found.error}; create the topics (`vitalgate topics create`)")
            ends = {
                partition: reader.get_watermark_offsets(TopicPartition(name, partition), timeout=5.0, cached=False)[1]
                for partition in found.partitions
            }
        except KafkaException as error:
            raise NotDelivered(f"{name}: {error}") from error
        finally:
            reader.close()
        return {partition: end for partition, end in ends.items() if end > 0}

    def close(self) -> None:
        """Give up what is pending."""
        self._producer.purge()
        self._producer.flush(1.0)
