"""What the database cannot know of the ledger: raw records not applied yet, and open gaps in devices' numbering."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import RAW, SEQUENCES, full
from vitalgate.config.transport import kafka_options
from vitalgate.devices.records import DeviceSequences, decode_sequences
from vitalgate.devices.sequences import gaps
from vitalgate.storage.errors import StorageError
from vitalgate.storage.ledger import Ledger
from vitalgate.storage.log_base import Bases, read_bases

TIMEOUT_S = 10.0


def complete(ledger: Ledger, kafka: KafkaSettings) -> Ledger:
    """Fill in `in_flight` and `gaps`.

    Raises
    ------
    StorageError
        When Kafka does not answer.
    """
    consumer = Consumer(
        {
            **kafka_options(kafka), "group.id": f"{kafka.prefix}vitalgate-ledger", "log_level": 0,
            "enable.auto.commit": False, "error_cb": lambda _: None, "broker.address.family": "v4",
        }
    )  # fmt: skip
    try:
        ledger.in_flight = _beyond(consumer, kafka, ledger.high_water.get(full(RAW, kafka), {}), read_bases(kafka))
        ledger.gaps = open_gaps(_newest(consumer, full(SEQUENCES, kafka)).values())
    except KafkaException as error:
        raise StorageError(f"Kafka at {kafka.bootstrap} (kafka.bootstrap) does not answer: {error}") from error
    finally:
        consumer.close()
    return ledger


def open_gaps(states: Iterable[DeviceSequences]) -> list[dict[str, Any]]:
    """The numbers that each device has not sent yet although later ones came. Pure."""
    found = [
        {
            "device_id": state.device,
            "epoch": kept.epoch,
            "missing": [list(stretch) for stretch in missing],
            "since_us": kept.gap_since_us,
        }
        for state in states
        for kept in state.epochs
        if (missing := gaps(kept))
    ]
    return sorted(found, key=lambda gap: (gap["device_id"], gap["epoch"]))


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    found = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
    return [] if found.error is not None else sorted(found.partitions)


def _beyond(consumer: Consumer, kafka: KafkaSettings, applied: Mapping[int, int], bases: Bases) -> int:
    """Records beyond the high-water marks."""
    topic = full(RAW, kafka)
    total = 0
    for partition in _partitions(consumer, topic):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)
        total += max(0, high - max(low, applied.get(partition, -1) + 1 - bases.of(RAW, partition)))
    return total


def _newest(consumer: Consumer, topic: str) -> dict[str, DeviceSequences]:
    """The newest record of each device."""
    ends: dict[int, int] = {}
    for partition in _partitions(consumer, topic):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)
        if high > low:
            ends[partition] = high
    found: dict[str, DeviceSequences] = {}
    if not ends:
        return found
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in ends])
    deadline = time.monotonic() + TIMEOUT_S
    while ends:
        records = consumer.consume(1000, timeout=0.5)
        for record in records:
            if record.error() is not None:
                continue
            value, place = record.value(), (record.partition(), record.offset())
            if value:
                with suppress(msgspec.MsgspecError, ValueError):  # a stranger's record
                    state = decode_sequences(value)
                    found[state.device] = state
            if place[0] in ends and (place[1] or 0) + 1 >= ends[place[0]]:
                del ends[place[0]]
        if records:
            deadline = time.monotonic() + TIMEOUT_S
        else:
            # Compaction may have removed the very last record: then the position is at the end all the same.
            for at in consumer.position([TopicPartition(topic, partition) for partition in ends]):
                if at.offset >= ends[at.partition]:
                    del ends[at.partition]
        if time.monotonic() > deadline:
            raise StorageError(f"{topic} cannot be read to its end: nothing came for {TIMEOUT_S:g} s")
    return found
