"""Time as Kafka records, for the alert engine: one to every partition of patient.ticks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import orjson
from confluent_kafka import KafkaException, Producer

from vitalgate.config import topics
from vitalgate.config.kafka_client import producer_options, schema_headers
from vitalgate.config.settings import KafkaSettings

log = logging.getLogger(__name__)

Headers = list[tuple[str, str | bytes | None]]


def tick_value(time_us: int) -> bytes:
    """The JSON of a tick: ``{"time": RFC 3339, "time_us": microseconds since 1970}``."""
    text = datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"time": text, "time_us": time_us})


class Ticker:
    """Sends a tick at every whole multiple of the interval; one thread.

    A tick that Kafka does not take in time is dropped: the next one says more.
    """

    def __init__(self, kafka: KafkaSettings, interval_s: float, clock: Callable[[], float] = time.time) -> None:
        self._topic = topics.full(topics.TICKS, kafka)
        self._interval = interval_s
        self._clock = clock
        self._stop = threading.Event()
        self._partitions = 0
        self.last = 0.0
        """When the last tick was sent, by the monotonic clock."""
        self._producer = Producer(
            producer_options(kafka, "vg-ticks")
            | {
                "linger.ms": 0,
                "message.timeout.ms": 10_000,
                "logger": logging.getLogger("librdkafka"),
            }
        )
        self._thread = threading.Thread(target=self._run, name="ticks", daemon=True)

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self) -> None:
        """End after the tick in hand."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        self._producer.flush(0.5)
        self._producer.purge()

    def send(self, time_us: int) -> None:
        """One tick to every partition."""
        if not self._partitions:
            self._partitions = len(self._producer.list_topics(self._topic, timeout=5.0).topics[self._topic].partitions)
        value = tick_value(time_us)
        headers: Headers = [*schema_headers(topics.TICKS), ("message_id", b"%016x" % time_us)]
        for partition in range(self._partitions):
            self._producer.produce(self._topic, value, partition=partition, headers=headers)
        self._producer.poll(0)
        self.last = time.monotonic()

    def _run(self) -> None:
        while not self._stop.is_set():
            now = self._clock()
            due = (now // self._interval + 1) * self._interval
            if self._stop.wait(min(due - now, 5.0)):
                return
            now = self._clock()
            if now < due:  # the clock was set back, or the interval is long
                continue
            try:
                self.send(int(due * 1e6))
            except (KafkaException, BufferError, KeyError) as error:
                self._partitions = 0
                log.warning("a tick was not sent", extra={"detail": str(error)})
