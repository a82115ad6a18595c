"""The harness against a real Kafka: nothing is lost, whatever happens to a worker."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.stream.stream_probe import MakeSettings, Running, read_sink
from vitalgate.config import topics
from vitalgate.config.kafka_client import schema_headers
from vitalgate.config.settings import KafkaSettings, Settings
from vitalgate.stream.producer import configuration


def send(kafka: KafkaSettings, topic: topics.Topic, numbers: range, rate: float = 0) -> None:
    """Numbered records, keyed so that they spread over the partitions."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random", "linger.ms": 2})
    for n in numbers:
        producer.produce(topics.full(topic, kafka), str(n), f"key-{n % 40}", headers=schema_headers(topic))
        if rate:
            producer.poll(0)
            time.sleep(1 / rate)
    producer.flush()


def wait_for(check: Callable[[], bool], seconds: float = 60.0) -> None:
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


def test_kill_9_again_and_again_loses_nothing(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(topics.RAW)
    chance = random.Random(1)
    sender = threading.Thread(target=send, args=(settings.kafka, topics.RAW, range(3500), 500))
    sender.start()
    kills = 0
    while sender.is_alive() or kills < 3:
        with Running(settings, tmp_path, transient_every=7) as worker:
            before = len(values(tmp_path))
            wait_for(lambda: len(values(tmp_path)) > before or not sender.is_alive())  # noqa: B023 - used here only
            time.sleep(chance.uniform(0.05, 0.6))
            worker.kill()
            kills += 1
    with Running(settings, tmp_path):
        wait_for(lambda: committed(settings, topics.RAW) == ends(settings, topics.RAW))
    assert kills >= 3
    assert set(values(tmp_path)) == set(range(3500))


def test_workers_joining_and_leaving_lose_nothing(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(topics.RAW, topics.READINGS, worker__session_timeout_s="2")
    names = ["device.raw", "device.readings"]
    both: dict[str, Any] = {"topics": names, "seconds": 0.01}

    def owners() -> dict[str, str]:
        rows = [words for words in read_sink(tmp_path) if words[1] == "assigned"]
        return {words[0]: words[2] for words in rows}

    def send_both() -> None:
        for first in range(0, 2500, 100):
            send(settings.kafka, topics.RAW, range(first, first + 100))
            send(settings.kafka, topics.READINGS, range(first, first + 100))
            time.sleep(0.1)

    sender = threading.Thread(target=send_both)
    sender.start()
    with Running(settings, tmp_path, "0", **both) as first:
        wait_for(lambda: owners() == {"0": "0,1,2,3"})
        with Running(settings, tmp_path, "1", **both) as second:
            wait_for(lambda: set("".join(owners().values())) == set("0123,") and len(owners()) == 2)
            assert sorted(owners().values()) == ["0,1", "2,3"] or {len(v) for v in owners().values()} == {3}
            time.sleep(0.5)
            assert second.stop()[0] == 0
        wait_for(lambda: owners()["0"] == "0,1,2,3")
        with Running(settings, tmp_path, "1", **both) as second:
            wait_for(lambda: len(owners()["0"]) == 3)
            time.sleep(0.5)
            second.kill()
        sender.join()
        wait_for(lambda: {len(set(values(tmp_path, topic))) for topic in names} == {2500})
        time.sleep(0.6)
        assert first.stop()[0] == 0
    for topic in (topics.RAW, topics.READINGS):
        assert committed(settings, topic) == ends(settings, topic)

    # The same partition number of both topics was always with the same worker: follow the sink line by line.
    holding: dict[str, set[str]] = {}
    for words in read_sink(tmp_path):
        if words[1] == "assigned":
            holding[words[0]] = set(words[2].split(","))
        elif words[1] in names:
            assert words[2] in holding[words[0]], words


def test_deferred_acknowledgement_follows_what_the_worker_says(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(topics.RAW)
    send(settings.kafka, topics.RAW, range(500))
    with Running(settings, tmp_path, deferred=True) as worker:
        wait_for(lambda: len(values(tmp_path)) == 500)
        time.sleep(1.2)
        assert set(committed(settings, topics.RAW).values()) == {-1001}
        assert worker.stop()[0] == 0
    with Running(settings, tmp_path, deferred=True, tick_s=0.3) as worker:
        wait_for(lambda: len(values(tmp_path)) == 1000)
        wait_for(lambda: committed(settings, topics.RAW) == ends(settings, topics.RAW))
        assert worker.stop()[0] == 0


def test_records_of_megabytes_pass(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(topics.RAW)
    producer = Producer(configuration(settings.kafka, "test"))
    for n in range(8):
        producer.produce(topics.full(topics.RAW, settings.kafka), f"{n} ".encode() + b"x" * 3_000_000, "one-key")
    producer.flush()
    with Running(settings, tmp_path) as worker:
        wait_for(lambda: values(tmp_path) == list(range(8)))
        assert worker.stop()[0] == 0


def test_topics_of_different_partition_counts_are_refused(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(topics.RAW, topics.AUDIT_INBOX)
    with Running(settings, tmp_path, topics=["device.raw", "audit.inbox"]) as worker:
        assert worker.process.wait(60) == 3
    assert "must have the same number of partitions" in (tmp_path / "log-0").read_text()


def test_a_handler_that_refuses_everything_ends_the_process_and_acknowledges_nothing(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(topics.RAW, topics.SETASIDE)
    send(settings.kafka, topics.RAW, range(200))
    with Running(settings, tmp_path, poison_all=True) as worker:
        assert worker.process.wait(60) == 3
    assert set(committed(settings, topics.RAW).values()) == {-1001}


def test_a_rebalance_while_the_handler_is_blocked_loses_nothing(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(topics.RAW, worker__session_timeout_s="2")
    block = tmp_path / "block"
    block.touch()
    send(settings.kafka, topics.RAW, range(400))
    with Running(settings, tmp_path, "0", block=str(block)) as first:
        wait_for(lambda: any(words[:2] == ["0", "assigned"] for words in read_sink(tmp_path)))
        time.sleep(0.5)
        with Running(settings, tmp_path, "1", block=str(block)) as second:
            wait_for(lambda: any(words[:2] == ["1", "assigned"] and words[2] for words in read_sink(tmp_path)))
            assert values(tmp_path) == []
            block.unlink()
            wait_for(lambda: committed(settings, topics.RAW) == ends(settings, topics.RAW))
            assert first.stop()[0] == 0
            assert second.stop()[0] == 0
    assert sorted(values(tmp_path)) == list(range(400))
    assert {words[0] for words in read_sink(tmp_path) if words[1] == "device.raw"} == {"0", "1"}
