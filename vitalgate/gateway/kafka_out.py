"""Records to Kafka, counted from the moment they are taken until Kafka has acknowledged them.

All in the thread of who calls it: delivery reports arrive in `poll`. What is pending is bounded, which is what keeps
the gateway's memory flat.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from vitalgate.config import topics
from vitalgate.config.kafka_client import producer_options
from vitalgate.config.settings import Settings
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: A producer that gets nothing acknowledged this long while Kafka answers is wedged: the supervisor starts us anew.
WEDGED_S = 60.0
STALLED_S = 5.0
WATCH_S = 0.2
#: Counted for each message beside its payload: topic, headers, librdkafka's and our bookkeeping.
OVERHEAD = 512
#: An oversize payload is kept up to here.
OVERSIZE_KEEP = 65_536
Headers = list[tuple[str, str | bytes | None]]


class Entry:
    """One message under way to Kafka."""

    __slots__ = ("done", "mid", "out", "size")

    def __init__(self, out: KafkaOut, mid: int, size: int) -> None:
        self.out = out
        self.mid = mid
        """MQTT packet identifier; 0 at QoS 0."""
        self.size = size
        self.done = False

    def delivered(self, error: KafkaError | None, message: Any) -> None:
        """Kafka's delivery report."""
        if error is not None:
            self.out.undelivered(error, self, message)
            return
        self.done = True
        self.out.done_bytes += self.size
        self.out.done_count += 1


class KafkaOut:
    """An idempotent producer for device.raw with bounds."""

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka
        self.topic = topics.full(topics.RAW, kafka)
        self.failure: str | None = None
        """Why the process has to end, once it has to."""
        self.taken_bytes = self.taken_count = 0
        self.done_bytes = self.done_count = 0
        self.max_bytes = settings.gateway.max_pending_bytes
        self._max_count = kafka.max_pending
        self._progress = time.monotonic()
        self._answers_since: float | None = None
        self._next_probe = self._next_watch = 0.0
        self._producer = Producer(
            producer_options(kafka, f"vg-gateway-{settings.gateway.slot}")
            | {
                # Never give a message up: it stays unacknowledged, and the bounds keep what waits small.
                "message.timeout.ms": 0,
                "queue.buffering.max.messages": self._max_count + settings.mqtt.receive_maximum,
                "queue.buffering.max.kbytes": 2 * self.max_bytes // 1024 + 8192,
                "error_cb": self._error,
                "logger": logging.getLogger("librdkafka"),
            }
        )

    def full(self) -> bool:
        """Whether a bound is reached, so that nothing more may be taken."""
        return (
            self.taken_bytes - self.done_bytes >= self.max_bytes
            or self.taken_count - self.done_count >= self._max_count
        )

    def room_left(self) -> bool:
        """The opposite of `full`."""
        return not self.full()

    def pending(self) -> int:
        """Messages taken that Kafka has not acknowledged."""
        return self.taken_count - self.done_count

    def take(self, mid: int, size: int) -> Entry:
        """Count a message as taken."""
        self.taken_bytes += size + OVERHEAD
        self.taken_count += 1
        return Entry(self, mid, size + OVERHEAD)

    def produce(self, entry: Entry, payload: bytes, key: str, headers: Headers, stopping: Callable[[], bool]) -> None:
        """Hand a message to Kafka; waits while librdkafka's own queue is full, unless told to stop."""
        while True:
            try:
                self._producer.produce(self.topic, payload, key, headers=headers, on_delivery=entry.delivered)
                return
            except BufferError:
                if self.failure is not None or stopping():
                    return  # it stays with the broker
                self.poll(0.1)
            except KafkaException as error:
                self.fail(f"Kafka's producer refused a record: {error}")
                return

    def undelivered(self, error: KafkaError, entry: Entry, message: Any) -> None:
        """A record that Kafka refused for good. Never acknowledged, so the broker keeps it."""
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and len(message.value()) > OVERSIZE_KEEP:
            # The topic's own limit is below ours: go on as with any oversize payload.
            self._producer.produce(
                self.topic,
                message.value()[:OVERSIZE_KEEP],
                message.key(),
                headers=[*message.headers(), ("oversize", b"%d" % len(message.value()))],
                on_delivery=entry.delivered,
            )
            return
        self.fail(f"Kafka did not take a record: {error}")

    def fail(self, text: str) -> None:
        """Note why the process has to end."""
        if self.failure is None:
            self.failure = text
            log.error("gateway cannot go on", extra={"detail": text})

    def stalled(self) -> str | None:
        """For readiness: None, or for how long Kafka has acknowledged nothing of what is pending."""
        waited = time.monotonic() - self._progress
        return f"Kafka has acknowledged nothing for {waited:.0f} s" if waited > STALLED_S else None

    def drain(self, seconds: float) -> None:
        """Wait until Kafka has what was taken, at most this long."""
        until = time.monotonic() + seconds
        if self.failure is None:
            self._producer.flush(seconds)
        while self.pending() and time.monotonic() < until and self.failure is None:
            self.poll(0.05)

    def close(self) -> None:
        """Forget what is pending, so that the process can end."""
        self._producer.purge()

    def _error(self, error: KafkaError) -> None:
        if error.fatal():
            self.fail(f"fatal error of Kafka's producer: {error}")
        else:
            log.warning("Kafka", extra={"detail": str(error)})

    def poll(self, timeout_s: float) -> None:
        """Take delivery reports, waiting for the first."""
        before = self.done_count
        try:
            self._producer.poll(timeout_s)
        except KafkaException as error:  # a fatal producer error surfaces here as well
            self.fail(f"Kafka's producer failed: {error}")
        now = time.monotonic()
        if self.done_count != before:
            self._progress = now
            self._answers_since = None
        if now >= self._next_watch or (self.done_count != before and not self.pending()):
            self._next_watch = now + WATCH_S
            self._watch(now)

    def _watch(self, now: float) -> None:
        """Gauges, and the watch for a wedged producer."""
        pending = self.pending()
        metrics.PENDING.set(pending)
        metrics.PENDING_BYTES.set(self.taken_bytes - self.done_bytes)
        if pending == 0:
            self._progress = now
            self._answers_since = None
        elif now - self._progress > STALLED_S and now >= self._next_probe:
            self._next_probe = now + STALLED_S
            try:
                self._producer.list_topics(self.topic, timeout=0.5)
            except KafkaException:
                self._answers_since = None
                return
            if self._answers_since is None:
                self._answers_since = now
            elif now - self._answers_since > WEDGED_S:
                self.fail(f"Kafka answers but has acknowledged nothing for {now - self._progress:.0f} s")
