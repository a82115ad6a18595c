"""A worker as a process for tests, and what it wrote: ``python worker_process.py SETTINGS.json NAME SLOT``."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings, Settings
from vitalgate.stream import harness
from vitalgate.stream.workers import make_worker


class WorkerProcess:
    """Runs until it is killed or stopped; ``start`` again as often as wanted."""

    def __init__(self, settings: Settings, name: str, folder: Path, slot: str = "0") -> None:
        self.arguments = [str(folder / "settings.json"), name, slot]
        (folder / "settings.json").write_text(settings.model_dump_json())
        self.log = (folder / f"{name}-{slot}.log").open("ab")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, __file__, *self.arguments], stderr=self.log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@contextmanager
def running(settings: Settings, name: str, folder: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(settings, name, folder)
    try:
        yield worker
    finally:
        worker.kill()
        worker.log.close()


def send(kafka: KafkaSettings, records: Iterable[tuple[topics.Topic, str | None, bytes]]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random", "linger.ms": 2})
    for topic, key, value in records:
        producer.produce(topics.full(topic, kafka), value, key)
    assert producer.flush(20) == 0


def read_all(kafka: KafkaSettings, topic: topics.Topic) -> list[Message]:
    """Every record on a topic now."""
    source = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "test-reader", "enable.auto.commit": False})
    name = topics.full(topic, kafka)
    count = topic.partitions or kafka.partitions
    ends = [source.get_watermark_offsets(TopicPartition(name, n), timeout=10)[1] for n in range(count)]
    source.assign([TopicPartition(name, n, OFFSET_BEGINNING) for n in range(count)])
    found: list[Message] = []
    left = {n for n in range(count) if ends[n]}
    stop = time.monotonic() + 20
    while left and time.monotonic() < stop:
        message = source.poll(0.5)
        if message is None or message.error():
            continue
        found.append(message)
        if message.offset() == ends[message.partition()] - 1:
            left.discard(message.partition())
    source.close()
    assert not left, f"{name} could not be read to its end"
    return found


def wait_for(check: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


if __name__ == "__main__":
    settings_file, worker_name, own_slot = sys.argv[1:]
    harness.run(make_worker(worker_name), Settings.model_validate_json(Path(settings_file).read_text()), own_slot)
