"""Finds what became of fuzzed payloads: raw records, rows of the tables, dead letters."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.transport import kafka_options
from vitalgate.devices.records import Message
from vitalgate.local import control
from vitalgate.storage.connect import Connection

Place = tuple[int, int]
"""Partition and offset of a raw record."""
_TABLES = ("readings", "waveforms", "device_status", "pending_corrections", "dead_letters")
_PATIENCE_S = 60.0


class Ranges:
    """Reads topics from where they stood to their end."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._consumer = Consumer({**kafka_options(kafka), "group.id": "vg-fuzz", "enable.auto.commit": False})

    def __enter__(self) -> Ranges:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def ends(self, topic: topics.Topic) -> dict[int, int]:
        """End offset of each partition."""
        name = topics.full(topic, self._kafka)
        partitions = self._consumer.list_topics(name, timeout=10).topics[name].partitions
        return {n: self._consumer.get_watermark_offsets(TopicPartition(name, n), timeout=10)[1] for n in partitions}

    def read(self, topic: topics.Topic, start: dict[int, int]) -> Iterable[Any]:
        """All records from these offsets to the present end. Raises TimeoutError when Kafka does not give them."""
        name = topics.full(topic, self._kafka)
        left = {n: end for n, end in self.ends(topic).items() if end > start[n]}
        self._consumer.assign([TopicPartition(name, n, start[n]) for n in left])
        limit = time.monotonic() + _PATIENCE_S
        while left:
            records = self._consumer.consume(2000, timeout=0.2)
            for record in records:
                if record.error() is None:
                    yield record
            if records:
                limit = time.monotonic() + _PATIENCE_S
            elif time.monotonic() > limit:
                raise TimeoutError(f"{name} cannot be read to its end")
            at = self._consumer.position([TopicPartition(name, n) for n in left])
            left = {place.partition: left[place.partition] for place in at if place.offset < left[place.partition]}
        self._consumer.unassign()

    def applied(self, connection: Connection) -> bool:
        """Whether the ledger has reached the end of device.raw."""
        found = connection.execute(
            "SELECT partition, max(last_offset) FROM ledger WHERE topic = %s GROUP BY partition",
            (topics.full(topics.RAW, self._kafka),),
        ).fetchall()
        marks: dict[int, int] = dict(found)
        return all(marks.get(partition, -1) + 1 >= end for partition, end in self.ends(topics.RAW).items())

    def behind(self, data: Path) -> int:
        """Records that some worker has not finished, by its own account; the ticks of alerting never end."""
        lag = control.status(data, figures=True)["figures"]["lag"]
        return sum(int(count) for worker, count in lag.items() if worker != "alerting")


def places(connection: Connection, devices: Iterable[str]) -> set[Place]:
    """The raw records that rows of these devices were made from."""
    one = "SELECT raw_partition, raw_offset FROM {} WHERE device_id = ANY(%(devices)s)"
    query = " UNION ".join(one.format(table) for table in _TABLES)
    return {(int(n), int(at)) for n, at in connection.execute(query.encode(), {"devices": list(devices)}).fetchall()}


def dead_letters(connection: Connection, devices: Iterable[str]) -> dict[bytes, set[str]]:
    """Reasons by the hash of the payload."""
    found: dict[bytes, set[str]] = defaultdict(set)
    rows = connection.execute(
        "SELECT payload_hash, reason FROM dead_letters WHERE device_id = ANY(%s)", (list(devices),)
    )
    for digest, reason in rows.fetchall():
        found[bytes(digest)].add(reason)
    return found


def stored(connection: Connection, message: Message) -> list[bool]:
    """Whether each item is in the tables: the same measurement, block or status, whichever message it came with."""

    def exists(query: str, *values: Any) -> bool:
        return connection.execute(query.encode(), (message.device, *values)).fetchone() is not None

    at = "to_timestamp(0) + %s * interval '1 microsecond'"
    found = [
        exists(
            f"SELECT 1 FROM readings WHERE device_id = %s AND metric = %s AND site = %s AND time = {at} AND idx = %s"  # noqa: S608  a constant
            " AND value_num IS NOT DISTINCT FROM %s AND value_code IS NOT DISTINCT FROM %s",
            reading.metric, reading.site, reading.time_us, reading.index, reading.value_num, reading.value_code,
        )
        for reading in message.readings
    ]  # fmt: skip
    found += [
        exists(
            "SELECT 1 FROM waveforms WHERE device_id = %s AND channel = %s AND recording = %s"
            " AND first_sample <= %s AND first_sample + count >= %s",
            block.channel, block.recording, block.first_sample, block.first_sample + block.count,
        )
        for block in message.waveforms
    ]  # fmt: skip
    if message.status is not None:
        query = f"SELECT 1 FROM device_status WHERE device_id = %s AND time = {at}"  # noqa: S608  a constant
        found.append(exists(query, message.status.time_us))
    return found + [False] * len(message.dead)
