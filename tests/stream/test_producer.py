"""The producer: confirmed by batches, bounded while Kafka stands still, murmur2 partitions as everybody else has."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.stream.stream_probe import MakeSettings
from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.config.settings import KafkaSettings
from vitalgate.local.stack import Stack
from vitalgate.local.topics import create_topics
from vitalgate.stream.errors import RecordRefusedError
from vitalgate.stream.producer import Producer


def total(kafka: KafkaSettings, topic: topics.Topic) -> int:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "count"})
    name = topics.full(topic, kafka)
    places = [TopicPartition(name, n) for n in range(kafka.partitions)]
    ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
    consumer.close()
    return sum(ends)


def test_a_flush_confirms_everything_since_the_last_one(make_settings: MakeSettings) -> None:
    kafka = make_settings(topics.READINGS).kafka

    async def main() -> None:
        producer = Producer(kafka, client_id="test")
        for batch in range(1, 21):
            for n in range(100):
                await producer.produce(topics.READINGS, key=f"k{n}", value=b"v" * 100, headers=[("a", b"b")])
            await producer.flush_batch()
            assert total(kafka, topics.READINGS) == batch * 100
        await producer.flush_batch()
        assert producer.close() == 0

    asyncio.run(main())


def test_a_record_that_is_too_large_is_refused_and_the_rest_goes_on(make_settings: MakeSettings) -> None:
    kafka = make_settings(topics.READINGS).kafka

    async def main() -> None:
        producer = Producer(kafka, client_id="test")
        with pytest.raises(RecordRefusedError, match=r"5242880 bytes .* limit is 4194304"):
            await producer.produce(topics.READINGS, key="k", value=b"v" * (5 * 1024 * 1024))
        await producer.produce(topics.READINGS, key="k", value=b"v" * (3 * 1024 * 1024))
        await producer.flush_batch()
        producer.close()

    asyncio.run(main())
    assert total(kafka, topics.READINGS) == 1


def test_keys_go_where_java_and_faust_put_them(make_settings: MakeSettings) -> None:
    from aiokafka.partitioner import DefaultPartitioner  # type: ignore[import-untyped] # Java's murmur2

    kafka = make_settings(topics.READINGS).kafka
    keys = [f"device-{n}" for n in range(60)]

    async def main() -> None:
        producer = Producer(kafka, client_id="test")
        for key in keys:
            await producer.produce(topics.READINGS, key=key, value=key.encode())
        await producer.flush_batch()
        producer.close()

    asyncio.run(main())
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "where", "auto.offset.reset": "earliest"})
    consumer.subscribe([topics.full(topics.READINGS, kafka)])
    found: dict[str, int] = {}
    while len(found) < len(keys):
        message = consumer.poll(10)
        assert message is not None
        found[(message.value() or b"").decode()] = message.partition() or 0
    consumer.close()
    partitions = list(range(kafka.partitions))
    assert found == {key: DefaultPartitioner()(key.encode(), partitions, partitions) for key in keys}


def test_it_waits_instead_of_growing_while_kafka_stands_still(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.mktemp("still")
    with Stack(folder, only={"kafka"}) as stack:
        flags = {"kafka.bootstrap": stack.settings.settings.kafka.bootstrap, "kafka.max_pending": "500"}
        kafka = load(flags=flags, env={}, data=str(folder / "none")).settings.kafka
        create_topics(kafka, [topics.READINGS])
        node = next(p for p in _below(stack) if "kafka.Kafka" in " ".join(p.cmdline()))

        async def main() -> int:
            producer = Producer(kafka, client_id="test")
            await producer.produce(topics.READINGS, key="k", value=b"first")
            await producer.flush_batch()
            node.send_signal(signal.SIGSTOP)
            sent = 1

            async def flood() -> None:
                nonlocal sent
                while True:
                    await producer.produce(topics.READINGS, key=f"k{sent}", value=b"v" * 1000)
                    sent += 1

            flooding = asyncio.create_task(flood())
            await asyncio.sleep(2)
            assert len(producer) <= 500
            assert sent <= 501
            node.send_signal(signal.SIGCONT)
            began = time.monotonic()
            while sent < 5000:
                await asyncio.sleep(0.05)
                assert time.monotonic() - began < 30
            flooding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flooding
            await producer.flush_batch()
            producer.close()
            return sent

        assert asyncio.run(main()) == total(kafka, topics.READINGS)


def _below(stack: Stack) -> list[psutil.Process]:
    assert stack._supervisor is not None
    return psutil.Process(stack._supervisor.pid).children(recursive=True)
