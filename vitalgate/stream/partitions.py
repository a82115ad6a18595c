"""Are a worker's topics there, and do they fit together?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from kafka.partitioner.default import murmur2

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import Topic, full
from vitalgate.config.transport import kafka_options
from vitalgate.stream.errors import TransientError

_TIMEOUT_S = 5.0


@lru_cache(maxsize=65536)
def partition_of(key: str, count: int) -> int:
    """The partition that a key goes to, of so many (murmur2, as Java's clients and ours choose it)."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % count)


async def partition_counts(topics: Sequence[Topic], kafka: KafkaSettings) -> dict[str, int]:
    """Partition count of each topic, by its base name.

    Raises
    ------
    TransientError
        When Kafka does not answer or a topic is missing; the text says how to make it.
    """
    return await asyncio.to_thread(_counts, topics, kafka)


def _counts(topics: Sequence[Topic], kafka: KafkaSettings) -> dict[str, int]:
    admin = AdminClient({**kafka_options(kafka), "log_level": 0})
    try:
        found = admin.list_topics(timeout=_TIMEOUT_S).topics
    except KafkaException as error:
        raise TransientError(f"Kafka at {kafka.bootstrap} does not answer ({error.args[0].str()})") from error
    counts = {}
    for topic in topics:
        name = full(topic, kafka)
        if name not in found or found[name].error is not None:
            raise TransientError(f"topic {name} is not there yet; `vitalgate topics create` makes it")
        counts[topic.name] = len(found[name].partitions)
    return counts


async def check_partitions(topics: Sequence[Topic], kafka: KafkaSettings, *, equal: bool = True) -> None:
    """See that topics are there and, with `equal`, have as many partitions as each other.

    Raises
    ------
    TransientError
        As `partition_counts`.
    ValueError
        When the counts differ: the same key would then be handled by two processes.
    """
    counts = await partition_counts(topics, kafka)
    if equal and len(set(counts.values())) > 1:
        raise ValueError(
            f"topics read together must have the same number of partitions, but have {counts}; "
            "a partition count cannot be changed later: make the topic anew under another prefix"
        )
