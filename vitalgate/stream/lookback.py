"""Read a stretch of a topic partition again: a compacted one whole, another one from a time or an offset on.

Workers rebuild their memory with these when partitions are assigned to them. The readers belong to no group and
commit nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import Topic, full
from vitalgate.config.transport import kafka_options
from vitalgate.stream.errors import TransientError
from vitalgate.stream.worker import Record

_CHUNK = 2000
_POLL_S = 0.5
_ANSWER_S = 5.0
#: Without a single record for this long although the end is not reached, Kafka counts as away.
_STALLED_S = 10.0


def reader_configuration(kafka: KafkaSettings) -> dict[str, object]:
    """librdkafka's settings of a consumer that is assigned by hand and commits nothing."""
    return {
        **kafka_options(kafka),
        "group.id": f"{kafka.prefix}vitalgate-reader",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.error.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "queued.max.messages.kbytes": 16 * 1024,
        "log.connection.close": False,
        "log_level": 2,
    }


async def load_compacted(kafka: KafkaSettings, topic: Topic, partition: int) -> dict[bytes, Record]:
    """The newest record of each key of one partition, up to its present end; tombstones are left out.

    Raises
    ------
    TransientError
        When Kafka does not answer.
    """
    newest: dict[bytes, Record] = {}
    async for chunk in read(kafka, topic, partition):
        for record in chunk:
            if record.key is None:
                continue
            if record.value is None:
                newest.pop(record.key, None)
            else:
                newest[record.key] = record
    return newest


async def read(
    kafka: KafkaSettings,
    topic: Topic,
    partition: int,
    *,
    since_ms: int | None = None,
    start: int | None = None,
    stop: int | None = None,
) -> AsyncIterator[list[Record]]:
    """Records of one partition in order, in chunks.

    Parameters
    ----------
    since_ms
        Begin with the first record of this Kafka timestamp (milliseconds) or later.
    start
        Begin with this offset; by default with the oldest that is kept.
    stop
        Offset before which to end; by default the end of the partition as it is now.

    Raises
    ------
    TransientError
        When Kafka does not answer.
    """
    consumer = Consumer(reader_configuration(kafka))
    try:
        where = TopicPartition(full(topic, kafka), partition)
        low, end = await asyncio.to_thread(_bounds, consumer, where, kafka)
        if stop is not None:
            end = min(end, stop)
        if since_ms is not None:
            start = await asyncio.to_thread(_offset_at, consumer, where, since_ms, kafka)
            if start is None:
                return
        at = max(low, start or 0)
        if at >= end:
            return
        consumer.assign([TopicPartition(where.topic, partition, at if at > low else OFFSET_BEGINNING)])
        moved = time.monotonic()
        while at < end:
            chunk = []
            for message in await asyncio.to_thread(consume, consumer, _CHUNK, _POLL_S):
                error = message.error()
                offset = message.offset()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF and offset is not None:
                        at = max(at, offset)
                    continue
                assert offset is not None
                at = offset + 1
                if offset < end:
                    chunk.append(to_record(message, topic.name))
            if chunk:
                moved = time.monotonic()
                yield chunk
            elif time.monotonic() - moved > _STALLED_S:
                raise TransientError(
                    f"reading {where.topic}/{partition} stands at offset {at} of {end} for {_STALLED_S:.0f} s; "
                    f"is Kafka at {kafka.bootstrap} up?"
                )
    finally:
        await asyncio.to_thread(consumer.close)


async def end_offset(kafka: KafkaSettings, topic: Topic, partition: int) -> int:
    """Offset that the next record of a partition will get.

    Raises
    ------
    TransientError
        When Kafka does not answer.
    """

    def ask() -> int:
        consumer = Consumer(reader_configuration(kafka))
        try:
            return _bounds(consumer, TopicPartition(full(topic, kafka), partition), kafka)[1]
        finally:
            consumer.close()

    return await asyncio.to_thread(ask)


def ends(kafka: KafkaSettings, topic: Topic) -> dict[int, int]:
    """The end offset of every partition that holds or held records, blocking.

    Raises
    ------
    TransientError
        When Kafka does not answer, or has not the topic.
    """
    name = full(topic, kafka)
    consumer = Consumer(reader_configuration(kafka))
    try:
        found = consumer.list_topics(name, timeout=_ANSWER_S).topics[name]
        if found.error is not None:
            raise TransientError(f"{name}: {found.error}; create the topics (`vitalgate topics create`)")
        highs = {
            partition: _bounds(consumer, TopicPartition(name, partition), kafka)[1] for partition in found.partitions
        }
    except KafkaException as error:
        raise _away(kafka, error) from error
    finally:
        consumer.close()
    return {partition: high for partition, high in highs.items() if high > 0}


def fetch(kafka: KafkaSettings, topic: Topic, partition: int, offset: int) -> bytes | None:
    """Value of one record, blocking; None when it is no longer kept or Kafka does not answer within seconds."""
    consumer = Consumer(reader_configuration(kafka))
    try:
        consumer.assign([TopicPartition(full(topic, kafka), partition, offset)])
        until = time.monotonic() + _ANSWER_S
        while time.monotonic() < until:
            message: Any = consumer.poll(_POLL_S)
            if message is None:
                continue
            if message.error() is not None:
                if message.error().code() == KafkaError._PARTITION_EOF:
                    return None
                continue
            value: bytes | None = message.value()
            return value if message.offset() == offset else None
        return None
    finally:
        consumer.close()


async def committed(
    kafka: KafkaSettings, group: str, topic: Topic, partitions: frozenset[int]
) -> dict[int, int | None]:
    """Offset from which a group goes on, by partition; None where it has committed nothing.

    Raises
    ------
    TransientError
        When Kafka does not answer.
    """
    return await asyncio.to_thread(committed_now, kafka, group, topic, partitions)


def committed_now(kafka: KafkaSettings, group: str, topic: Topic, partitions: Iterable[int]) -> dict[int, int | None]:
    """As `committed`, blocking."""
    consumer = Consumer(reader_configuration(kafka) | {"group.id": group})
    try:
        asked = [TopicPartition(full(topic, kafka), partition) for partition in sorted(partitions)]
        found = consumer.committed(asked, timeout=_ANSWER_S)
        return {tp.partition: tp.offset if tp.offset >= 0 else None for tp in found}
    except KafkaException as error:
        raise _away(kafka, error) from error
    finally:
        consumer.close()


def to_record(message: Message, name: str) -> Record:
    """A confluent-kafka message in our form, under the topic's base name."""
    one: Any = message  # the stubs of confluent-kafka are vague about bytes
    return Record(
        name, one.partition(), one.offset(), one.key(), one.value(),
        [(key, value or b"") for key, value in one.headers() or ()], one.timestamp()[1],
    )  # fmt: skip


def consume(consumer: Consumer, most: int, timeout_s: float) -> list[Message]:
    """Wait for a message, then take all that is there: `Consumer.consume` alone waits until it has `most`."""
    first = consumer.poll(timeout_s)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)]


def _bounds(consumer: Consumer, where: TopicPartition, kafka: KafkaSettings) -> tuple[int, int]:
    try:
        low, high = consumer.get_watermark_offsets(where, timeout=_ANSWER_S, cached=False)
    except KafkaException as error:
        raise _away(kafka, error) from error
    return low, high


def _offset_at(consumer: Consumer, where: TopicPartition, since_ms: int, kafka: KafkaSettings) -> int | None:
    try:
        [found] = consumer.offsets_for_times(
            [TopicPartition(where.topic, where.partition, max(0, since_ms))], timeout=_ANSWER_S
        )
    except KafkaException as error:
        raise _away(kafka, error) from error
    return found.offset if found.offset >= 0 else None


def _away(kafka: KafkaSettings, error: KafkaException) -> TransientError:
    return TransientError(f"Kafka at {kafka.bootstrap} does not answer ({error.args[0].str()})")
