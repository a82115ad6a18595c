"""What all our Kafka producers have in common, as librdkafka's options."""

from __future__ import annotations

from typing import Any, Final

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import Topic
from vitalgate.config.transport import kafka_options

MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
"""Largest record; the brokers are configured for the same."""


def producer_options(kafka: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Idempotent, acknowledged by all replicas, and keys to partitions as every other client of ours and Java's do."""
    return {
        **kafka_options(kafka),
        "client.id": client_id,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": kafka.linger_ms,
        "compression.type": "lz4",
        "message.max.bytes": MAX_RECORD_BYTES,
    }


def schema_headers(topic: Topic) -> list[tuple[str, bytes]]:
    """The headers that say what a record is: every record of ours begins with them."""
    return [("schema", topic.name.encode()), ("schema_version", b"1")]
