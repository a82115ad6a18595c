"""Records out: an idempotent confluent-kafka producer for one asyncio process, bounded and confirmed by batches."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as _Confluent

from vitalgate.config.kafka_client import MAX_RECORD_BYTES, producer_options
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import Topic
from vitalgate.stream.errors import NotDeliveredError, RecordRefusedError

log = logging.getLogger(__name__)

#: Bytes that may wait for Kafka; `produce` waits beyond.
MAX_PENDING_KBYTES = 128 * 1024
#: After this long without Kafka a record counts as failed, so that the batch is handled anew.
DELIVERY_TIMEOUT_MS = 120_000
_FULL_PAUSE_S = 0.005
COMPLAIN_EVERY_S = 10.0


class _Batch:
    """Records between two confirmations. `produced` is written by the loop, `delivered` by the poll thread only."""

    __slots__ = ("delivered", "done", "error", "future", "loop", "produced")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.produced = 0
        self.delivered = 0
        self.error: str | None = None
        self.future: asyncio.Future[None] | None = None
        self.done = False

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self.error is None:
            self.error = f"{message.topic()}/{message.partition()}: {error.str()} ({error.name()})"
        self.delivered += 1

    def finish(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class Producer:
    """Bounded, idempotent, acks=all, murmur2 partitions (as Java, aiokafka and Faust have them).

    Use from one event loop: ``await produce(…)`` for each record, then ``await flush_batch()``.
    """

    def __init__(
        self, settings: KafkaSettings, *, client_id: str, on_fatal: Callable[[str], None] | None = None
    ) -> None:
        self._prefix = settings.prefix
        self._on_fatal = on_fatal or _exit
        self._loop = asyncio.get_running_loop()
        self._batch = _Batch(self._loop)
        self._waiting: list[_Batch] = []
        self._closing = threading.Event()
        self._complained = -COMPLAIN_EVERY_S
        self._kafka = _Confluent(configuration(settings, client_id) | {"error_cb": self._on_error})
        self._thread = threading.Thread(target=self._poll, name="producer", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Records that Kafka has not acknowledged yet."""
        return len(self._kafka)

    async def produce(
        self,
        topic: Topic,
        *,
        key: str | bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> None:
        """Hand one record over; waits only while the bound on pending records or bytes is reached.

        Raises
        ------
        RecordRefusedError
            When the record can never be sent (larger than 4 MB).
        NotDeliveredError
            When it could not even be handed over.
        """
        batch = self._batch
        where: dict[str, Any] = {} if partition is None else {"partition": partition}
        while True:
            try:
                self._kafka.produce(
                    self._prefix + topic.name, value, key, on_delivery=batch.on_delivery,
                    headers=headers if isinstance(headers, list) else list(headers), **where,
                )  # fmt: skip
            except BufferError:
                await asyncio.sleep(_FULL_PAUSE_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise NotDeliveredError(f"{topic.name}: {error.args[0].str()}") from error
                size = 0 if value is None else len(value)
                raise RecordRefusedError(
                    f"{topic.name}: a record of {size} bytes was refused ({error}); the limit is {MAX_RECORD_BYTES}"
                ) from error
            else:
                batch.produced += 1
                return

    async def flush_batch(self) -> None:
        """Return when Kafka has acknowledged every record produced since the last call.

        Raises
        ------
        NotDeliveredError
            When one of them was not taken; handle the whole batch again (records may then be there twice).
        """
        batch, self._batch = self._batch, _Batch(self._loop)
        if batch.produced:
            batch.future = self._loop.create_future()
            self._waiting.append(batch)
            if batch.delivered != batch.produced:
                await batch.future
            else:
                batch.done = True
        if batch.error is not None:
            raise NotDeliveredError(batch.error)

    def close(self, timeout_s: float = 1.0) -> int:
        """Send what is pending, for at most this long; says how many records remained."""
        left = self._kafka.flush(timeout_s)
        self._closing.set()
        self._thread.join(timeout_s)
        return int(left)

    def _poll(self) -> None:
        poll = self._kafka.poll
        while not self._closing.is_set():
            poll(0.1)
            waiting = self._waiting
            while waiting and (waiting[0].done or waiting[0].delivered == waiting[0].produced):
                batch = waiting.pop(0)
                if not batch.done:
                    try:
                        self._loop.call_soon_threadsafe(batch.finish)
                    except RuntimeError:  # the loop is closed: the process ends
                        return

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._on_fatal(error.str())
            return
        now = time.monotonic()
        if now - self._complained > COMPLAIN_EVERY_S:  # librdkafka tells every attempt to connect
            self._complained = now
            log.warning("Kafka", extra={"error": error.str(), "code": error.name()})


def configuration(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """librdkafka's settings of a worker's producer."""
    return producer_options(settings, client_id) | {
        "message.timeout.ms": DELIVERY_TIMEOUT_MS,
        "queue.buffering.max.messages": settings.max_pending,
        "queue.buffering.max.kbytes": MAX_PENDING_KBYTES,
        "reconnect.backoff.max.ms": 1000,
        "socket.keepalive.enable": True,
        "log.connection.close": False,
        "log_level": 2,
    }


def _exit(reason: str) -> None:
    """A fatal producer error (such as a lost sequence) is cured by a new process only."""
    log.critical("producer failed for good; the process ends and is restarted", extra={"error": reason})
    os._exit(3)
