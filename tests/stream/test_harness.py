"""The harness against a real Kafka: nothing is lost, whatever happens to a worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.stream.stream_probe import MakeSettings, Running, read_sink
from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings, Settings


def send(kafka: KafkaSettings, topic: topics.Topic, numbers: range, rate: float = 0) -> None:
    """Numbered records, keyed so that they spread over the partitions."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random", "linger.ms": 2})
    for n in numbers:
        producer.produce(topics.full(topic, kafka), str(n), f"key-{n % 40}")
        if rate:
            producer.poll(0)
            time.sleep(1 / rate)
    producer.flush()


def wait_for(check: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def values(folder: Path, topic: str = "device.raw") -> list[int]:
    return [int(words[4]) for words in read_sink(folder) if words[1] == topic]


def committed(settings: Settings, topic: topics.Topic) -> dict[int, int]:
    group = f"{settings.kafka.prefix}vitalgate-probe"
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap, "group.id": group})
    name = topics.full(topic, settings.kafka)
    found = consumer.committed([TopicPartition(name, n) for n in range(settings.kafka.partitions)], timeout=10)
    consumer.close()
    return {tp.partition: tp.offset for tp in found}


def ends(settings: Settings, topic: topics.Topic) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap, "group.id": "ends"})
    name = topics.full(topic, settings.kafka)
    found = {
        n: consumer.get_watermark_offsets(TopicPartition(name, n), timeout=10)[1]
        for n in range(settings.kafka.partitions)
    }
    consumer.close()
    return found


def test_one_exception_inside_a_batch_loses_nothing(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(topics.RAW)
    send(settings.kafka, topics.RAW, range(2000))
    with Running(settings, tmp_path, raise_at=2) as worker:
        wait_for(lambda: len(set(values(tmp_path))) == 2000)
        status, _ = worker.stop()
    assert status == 0
    assert sorted(values(tmp_path)) == list(range(2000))
    assert committed(settings, topics.RAW) == ends(settings, topics.RAW)


def test_a_poison_record_is_set_aside_and_everything_else_goes_through(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(topics.RAW, topics.SETASIDE)
    send(settings.kafka, topics.RAW, range(1000))
    with Running(settings, tmp_path, poison="700") as worker:
        wait_for(lambda: len(set(values(tmp_path))) == 999)
        assert worker.stop()[0] == 0
    assert set(range(1000)) - set(values(tmp_path)) == {700}
    assert committed(settings, topics.RAW) == ends(settings, topics.RAW)
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka.bootstrap, "group.id": "x", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topics.full(topics.SETASIDE, settings.kafka)])
    message = consumer.poll(10)
    consumer.close()
    assert message is not None
    document = json.loads(message.value() or b"")
    assert (document["worker"], document["topic"], document["error"]) == ("probe", "device.raw", "ValueError: poison")
    assert document["value_base64"] == "NzAw"


def test_sigterm_with_a_blocked_handler_ends_quickly_and_loses_nothing(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(topics.RAW)
    block = tmp_path / "block"
    with Running(settings, tmp_path, block=str(block)) as worker:
        send(settings.kafka, topics.RAW, range(300))
        wait_for(lambda: len(values(tmp_path)) == 300)
        block.touch()
        send(settings.kafka, topics.RAW, range(300, 600))
        time.sleep(1)
        status, seconds = worker.stop()
    assert status == 0
    assert seconds < 3
    assert sorted(values(tmp_path)) == list(range(300))
    block.unlink()
    with Running(settings, tmp_path, block=str(block)):
        wait_for(lambda: len(set(values(tmp_path))) == 600)
    assert sorted(values(tmp_path)) == list(range(600))
