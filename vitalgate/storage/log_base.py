"""What is added to the offsets of logs that began anew in another Kafka, so that numbers once given never come again.

High-water marks of the ledger, ids of dead letters, the order of messages without `seq`, revisions of beats, and the
audit chain are all numbered by offsets. A Kafka that was lost and made anew counts from 0 again. `vitalgate restore`
then writes, on the topic log.bases, where the old numbering ended; every process that makes numbers from offsets adds
that. Offsets as Kafka has them are used for talking to Kafka alone.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import LOG_BASES, Topic, full
from vitalgate.config.transport import kafka_options
from vitalgate.storage.errors import StorageError

log = logging.getLogger(__name__)

_ANSWER_S = 10.0


class Bases:
    """The bases of all logs; 0 where nothing was ever lost."""

    def __init__(self, bases: Mapping[tuple[str, int], int] | None = None) -> None:
        self._bases = dict(bases or {})

    def of(self, topic: Topic, partition: int) -> int:
        """What to add to Kafka's offsets in a partition."""
        return self._bases.get((topic.name, partition), 0)

    def ends(self, topic: Topic, ends: Mapping[int, int]) -> dict[int, int]:
        """Offsets of Kafka by partition, as our numbers."""
        return {partition: end + self.of(topic, partition) for partition, end in ends.items()}

    def document(self) -> dict[str, int]:
        """Keys and values as on the topic."""
        return {f"{name}/{partition}": base for (name, partition), base in sorted(self._bases.items())}


def read_bases(kafka: KafkaSettings) -> Bases:
    """Read the topic log.bases, blocking. Without the topic, made by an earlier release, every base is 0.

    Raises
    ------
    StorageError
        When Kafka does not answer.
    """
    options = {
        **kafka_options(kafka), "group.id": f"{kafka.prefix}vitalgate-reader", "enable.auto.commit": False,
        "enable.partition.eof": True, "log_level": 0, "error_cb": lambda _: None,
    }  # fmt: skip
    consumer = Consumer(options)
    where = TopicPartition(full(LOG_BASES, kafka), 0, OFFSET_BEGINNING)
    found: dict[tuple[str, int], int] = {}
    try:
        topics = consumer.list_topics(where.topic, timeout=_ANSWER_S).topics
        if where.topic not in topics or topics[where.topic].error is not None:
            return Bases()
        _, end = consumer.get_watermark_offsets(where, timeout=_ANSWER_S, cached=False)
        if not end:
            return Bases()
        consumer.assign([where])
        until = time.monotonic() + _ANSWER_S
        while True:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                entry = _entry(message.key(), message.value())
                if entry is not None:  # bases only rise: nothing makes numbers come again
                    found[entry[:2]] = max(entry[2], found.get(entry[:2], 0))
            at = consumer.position([where])[0].offset
            if at >= end or (message is not None and message.error() is not None):
                return Bases(found)
            if time.monotonic() > until:
                raise StorageError(f"{where.topic} cannot be read to its end within {_ANSWER_S:g} s")
    except KafkaException as error:
        raise StorageError(f"Kafka at {kafka.bootstrap} (kafka.bootstrap) does not answer: {error}") from error
    finally:
        consumer.close()


def _entry(key: str | bytes | None, value: str | bytes | None) -> tuple[str, int, int] | None:
    """(topic, partition, base); None for a record that is not of `vitalgate restore`."""
    try:
        name, _, partition = (key.decode() if isinstance(key, bytes) else key or "").partition("/")
        base = json.loads(value or b"")["base"]
        if not isinstance(base, int) or not 0 <= base < 1 << 62:
            raise ValueError(f"a base of {base!r}")
        return name, int(partition), base
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        log.error("a record on log.bases is not ours and is left out", extra={"error": repr(error)})
        return None
