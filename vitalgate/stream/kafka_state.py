"""What of Kafka a backup keeps: where every topic ends, how far every group is, and the compacted topics whole."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings, Settings
from vitalgate.config.topics import Topic, full
from vitalgate.config.transport import kafka_options
from vitalgate.stream import lookback
from vitalgate.stream.errors import NotDeliveredError, TransientError
from vitalgate.stream.groups import group
from vitalgate.stream.producer import configuration
from vitalgate.stream.workers import WORKERS, make_worker

_ANSWER_S = 10.0
_GROUP_S = 30.0
#: Workers whose results are in the database: after a restore they go on where the backup stood. The others have all
#: that they know in Kafka.
STORING = ("recorder", "archiver")
#: Topics that are read anew from their source, and those that only matter for the Kafka they are in.
_NOT_KEPT = (topics.LOG_BASES,)


def compacted() -> list[Topic]:
    """The topics that a backup keeps whole."""
    return [topic for topic in topics.ALL if topic.compacted and topic not in _NOT_KEPT]


def count(topic: Topic, kafka: KafkaSettings) -> int:
    """Partitions of a topic."""
    return topic.partitions or kafka.partitions


def cluster_id(kafka: KafkaSettings) -> str:
    """Kafka's own id. Raises TransientError when it does not answer."""
    consumer = _consumer(kafka)
    try:
        return str(consumer.list_topics(timeout=_ANSWER_S).cluster_id or "")
    except KafkaException as error:
        raise TransientError(f"Kafka at {kafka.bootstrap} does not answer ({error.args[0].str()})") from error
    finally:
        consumer.close()


def bounds(kafka: KafkaSettings) -> dict[str, dict[str, list[int]]]:
    """First and end offset of every partition of every topic: {topic: {partition: [low, end]}}.

    Raises
    ------
    TransientError
        When Kafka does not answer: topics that were made a moment ago are waited for.
    """
    until = time.monotonic() + _GROUP_S
    while True:
        try:
            return _bounds(kafka)
        except TransientError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def _bounds(kafka: KafkaSettings) -> dict[str, dict[str, list[int]]]:
    consumer = _consumer(kafka)
    found: dict[str, dict[str, list[int]]] = {}
    try:
        there = consumer.list_topics(timeout=_ANSWER_S).topics
        for topic in topics.ALL:
            name = full(topic, kafka)
            if name not in there:
                continue  # made by an earlier release
            found[topic.name] = {
                str(partition): list(
                    consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=_ANSWER_S, cached=False)
                )
                for partition in sorted(there[name].partitions)
            }
    except KafkaException as error:
        raise TransientError(f"Kafka at {kafka.bootstrap} does not answer ({error.args[0].str()})") from error
    finally:
        consumer.close()
    return found


def committed(settings: Settings) -> dict[str, dict[str, dict[str, int | None]]]:
    """How far each worker's group is: {worker: {topic: {partition: offset or null}}}. Raises TransientError."""
    found: dict[str, dict[str, dict[str, int | None]]] = {}
    for name in WORKERS:
        found[name] = {}
        for topic in make_worker(name).topics:
            partitions = range(count(topic, settings.kafka))
            offsets = lookback.committed_now(settings.kafka, group(settings, name), topic, partitions)
            found[name][topic.name] = {str(partition): offset for partition, offset in offsets.items()}
    return found


def dump_compacted(kafka: KafkaSettings, topic: Topic, file: Path) -> int:
    """The newest record of each key of a topic as JSON lines, gzipped; how many. Raises TransientError."""
    held = 0
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        for partition in range(count(topic, kafka)):
            for record in asyncio.run(lookback.load_compacted(kafka, topic, partition)).values():
                line = {
                    "partition": partition,
                    "key": _text(record.key),
                    "value": _text(record.value),
                    "headers": [[name, _text(value)] for name, value in record.headers],
                }
                stream.write(json.dumps(line, separators=(",", ":")) + "\n")
                held += 1
    file.chmod(0o600)
    return held


def fill_compacted(kafka: KafkaSettings, topic: Topic, file: Path) -> int:
    """Put such a file back, each record into the partition that it was in; how many. Raises NotDeliveredError."""
    return produce(kafka, topic, records_of(file))


def records_of(file: Path) -> Iterator[dict[str, Any]]:
    """What such a file holds, as `produce` takes it."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        for line in stream:
            held = json.loads(line)
            yield {
                "partition": held["partition"], "key": _bytes(held["key"]), "value": _bytes(held["value"]),
                "headers": [(name, _bytes(value)) for name, value in held["headers"]],
            }  # fmt: skip


def produce(kafka: KafkaSettings, topic: Topic, records: Iterable[Mapping[str, Any]]) -> int:
    """Produce records and wait until Kafka has all; how many.

    Raises
    ------
    NotDeliveredError
        When Kafka does not take one of them.
    """
    producer = Producer(configuration(kafka, "vitalgate-restore") | {"log_level": 0, "error_cb": lambda _: None})
    failed: list[str] = []
    sent = 0

    def told(error: Any, _: Any) -> None:
        if error is not None:
            failed.append(error.str())

    for record in records:
        while True:
            try:
                producer.produce(full(topic, kafka), on_delivery=told, **record)
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
        if sent % 1000 == 0:
            producer.poll(0)
    if producer.flush(60) or failed:
        raise NotDeliveredError(
            f"Kafka at {kafka.bootstrap} did not take all records of {topic.name}: {''.join(failed[:1]) or 'no answer'}"
        )
    return sent


def set_committed(settings: Settings, name: str, offsets: Mapping[str, Mapping[str, int | None]]) -> None:
    """Have a worker's group go on from these offsets; one without an offset goes on from the beginning.

    Raises
    ------
    TransientError
        When the group still has a member: a worker runs, or was killed a moment ago.
    """
    places = [
        TopicPartition(settings.kafka.prefix + topic, int(partition), offset or 0)
        for topic, partitions in offsets.items()
        for partition, offset in partitions.items()
    ]
    consumer = Consumer(
        {**kafka_options(settings.kafka), "group.id": group(settings, name), "enable.auto.commit": False,
         "log_level": 0, "error_cb": lambda _: None}
    )  # fmt: skip
    until = time.monotonic() + _GROUP_S
    try:
        while True:
            try:
                consumer.commit(offsets=places, asynchronous=False)
                return
            except KafkaException as error:
                # A worker that was killed is a member of its group for some seconds more.
                if time.monotonic() > until:
                    raise TransientError(
                        f"the group {group(settings, name)} cannot be set back ({error.args[0].str()}): stop the "
                        f"{name} first"
                    ) from error
                time.sleep(0.5)
    finally:
        consumer.close()


def _consumer(kafka: KafkaSettings) -> Consumer:
    return Consumer(
        {**kafka_options(kafka), "group.id": f"{kafka.prefix}vitalgate-reader", "enable.auto.commit": False,
         "log_level": 0, "error_cb": lambda _: None}
    )  # fmt: skip


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
