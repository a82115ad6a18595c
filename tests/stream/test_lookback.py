"""Reading back: a compacted partition whole, another from a time or between offsets."""

from __future__ import annotations

import asyncio
import time

from confluent_kafka import Producer

from tests.stream.stream_probe import MakeSettings
from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings
from vitalgate.stream import lookback
from vitalgate.stream.worker import Record


def put(kafka: KafkaSettings, topic: topics.Topic, rows: list[tuple[str, str | None, int]]) -> None:
    """(key, value, timestamp in ms) to partition 1."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for key, value, at in rows:
        producer.produce(topics.full(topic, kafka), value, key, partition=1, timestamp=at, headers=[("n", b"1")])
    producer.flush()


async def collect(kafka: KafkaSettings, topic: topics.Topic, **where: int) -> list[Record]:
    return [record async for chunk in lookback.read(kafka, topic, 1, **where) for record in chunk]


def test_newest_record_of_each_key_without_tombstones(make_settings: MakeSettings) -> None:
    kafka = make_settings(topics.SEQUENCES).kafka
    now = int(time.time() * 1000)
    put(kafka, topics.SEQUENCES, [(f"k{n % 300}", str(n), now) for n in range(5000)] + [("k7", None, now)])
    found = asyncio.run(lookback.load_compacted(kafka, topics.SEQUENCES, 1))
    assert {key: record.value for key, record in found.items()} == {
        f"k{n % 300}".encode(): str(n).encode() for n in range(4700, 5000) if n % 300 != 7
    }
    assert found[b"k1"].header("n") == "1"
    assert asyncio.run(lookback.load_compacted(kafka, topics.SEQUENCES, 2)) == {}


def test_from_a_time_and_between_offsets(make_settings: MakeSettings) -> None:
    kafka = make_settings(topics.INPUTS).kafka
    start = int(time.time() * 1000) - 100_000
    put(kafka, topics.INPUTS, [("k", str(n), start + n * 1000) for n in range(100)])
    since = asyncio.run(collect(kafka, topics.INPUTS, since_ms=start + 89_500))
    assert [record.value for record in since] == [str(n).encode() for n in range(90, 100)]
    part = asyncio.run(collect(kafka, topics.INPUTS, since_ms=start + 49_500, stop=55))
    assert [record.offset for record in part] == [50, 51, 52, 53, 54]
    assert [record.offset for record in asyncio.run(collect(kafka, topics.INPUTS, start=97))] == [97, 98, 99]
    assert asyncio.run(collect(kafka, topics.INPUTS, since_ms=start + 1_000_000)) == []


def test_a_group_that_committed_nothing(make_settings: MakeSettings) -> None:
    kafka = make_settings(topics.INPUTS).kafka
    assert asyncio.run(lookback.committed(kafka, "nobody", topics.INPUTS, frozenset({0, 2}))) == {0: None, 2: None}
