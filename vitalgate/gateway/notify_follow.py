"""A Kafka topic to MQTT, record by record, offsets committed after the broker's acknowledgement."""

from __future__ import annotations

import logging
import threading
from typing import Any

from confluent_kafka import Consumer, Message

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.config.topics import Topic
from vitalgate.gateway.consume import Offsets, burst, consumer, position
from vitalgate.gateway.notify_loop import COMMIT_S, DRAIN_S, Loop, NotifierFailed
from vitalgate.gateway.publisher import Outgoing, Publisher
from vitalgate.gateway.receipts import Position
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)


class Follow(Loop):
    """Consumes one topic in the group `notifier.{part}`; `outgoing` says what each record becomes."""

    def __init__(
        self, settings: Settings, publisher: Publisher, stop: threading.Event, part: str, topic: Topic
    ) -> None:
        super().__init__(settings, part, stop)
        self._publisher = publisher
        self._topic = topics.full(topic, self.kafka)
        self._sent: dict[int, Position] = {}
        self._number = 0
        self._lock = threading.Lock()

    def outgoing(self, value: bytes) -> Outgoing | None:
        """The message that a record becomes, or None.

        Raises
        ------
        ValueError, KeyError, TypeError, AttributeError
            When it is no record of this topic; it is counted and passed over.
        """
        raise NotImplementedError

    def run(self) -> None:
        """Consume until told to stop."""
        source = consumer(self.kafka, f"notifier.{self.part}", self.slot, fatal=self.fail)
        offsets = Offsets()
        source.subscribe([self._topic], on_assign=self._assigned, on_revoke=lambda _s, _p: offsets.forget())
        paused = False
        try:
            while not self.stop.is_set() and self.failure is None:
                if (self._publisher.room() == 0) != paused:
                    paused = not paused
                    (source.pause if paused else source.resume)(source.assignment())
                out = []
                for message in burst(source, 0.02 if paused else 0.2):
                    offsets.consumed(message)
                    made = self._made(message)
                    if made is not None:
                        out.append(made)
                self._publisher.publish(out)
                if offsets.due(COMMIT_S):
                    offsets.commit(source, self._under_way())
            self._publisher.flush(DRAIN_S)
            offsets.commit(source, self._under_way(), wait=True)
        finally:
            source.close()
        if self.failure is not None:
            raise NotifierFailed(self.failure)

    def _assigned(self, source: Consumer, partitions: list[Any]) -> None:
        self.ready = True
        log.info("partitions assigned", extra={"loop": self.part, "partitions": len(partitions)})

    def _under_way(self) -> list[Position]:
        with self._lock:
            return list(self._sent.values())

    def _made(self, message: Message) -> Outgoing | None:
        value = message.value()
        if value is None:
            return None
        try:
            made = self.outgoing(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            metrics.POISON.labels("notifier").inc()
            log.error(
                "a record could not be read and was passed over",
                extra={**position(message)._asdict(), "detail": repr(error)},
            )
            return None
        if made is None:
            return None
        self._number += 1
        number = self._number
        with self._lock:
            self._sent[number] = position(message)

        def done() -> None:
            with self._lock:
                self._sent.pop(number, None)

        return made._replace(done=done)
