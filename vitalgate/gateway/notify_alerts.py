"""Kafka to MQTT: alerts to care teams, as retained state and as events."""

from __future__ import annotations

import logging
import threading

import orjson
import paho.mqtt.client as mqtt
from confluent_kafka import Consumer, KafkaException, Message

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.gateway.alert_board import AlertBoard, Retained
from vitalgate.gateway.alert_topics import events_topic
from vitalgate.gateway.consume import assign_whole, burst, consumer, position, reached
from vitalgate.gateway.notify_follow import Follow
from vitalgate.gateway.notify_index import OpenIndex
from vitalgate.gateway.notify_loop import Loop, NotifierFailed
from vitalgate.gateway.publisher import Outgoing, Publisher
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)


class AlertEvents(Follow):
    """patient.alerts to `v1/alerts/{team}/events`, each event once it is there, without delay."""

    def __init__(self, settings: Settings, publisher: Publisher, stop: threading.Event) -> None:
        super().__init__(settings, publisher, stop, "alerts", topics.ALERTS)

    def outgoing(self, value: bytes) -> Outgoing:
        """The event, as it is."""
        return Outgoing(events_topic(orjson.loads(value)), value)


class OpenAlerts(Loop):
    """patient.alerts.state to retained `v1/alerts/{team}/{patient}/{alert}`.

    The compacted topic is read from its beginning at every start: what is open is asserted again, and a retained
    message that belongs to no open alert is removed.
    """

    def __init__(self, settings: Settings, publisher: Publisher, stop: threading.Event) -> None:
        super().__init__(settings, "state", stop)
        self._publisher = publisher
        self._topic = topics.full(topics.ALERT_STATE, self.kafka)
        self._board = AlertBoard()
        self._lock = threading.Lock()
        #: Keeps lists of what is open, for a broker that needs them.
        self.index: OpenIndex | None = None

    def run(self) -> None:
        """Load the open alerts, then follow."""
        source = consumer(self.kafka, "notifier.state", self.slot, fatal=self.fail)
        try:
            ends = self._assign(source)
            while not self.stop.is_set() and self.failure is None:
                if not self.ready and reached(source, self._topic, ends):
                    self._loaded()
                changes: list[Retained] = []
                for message in burst(source, 0.2 if self.ready else 0.02):
                    changes += self._apply(message)
                # Without a connection nothing need wait: at the next one everything is asserted.
                if self._publisher.connected:
                    self._publish_listed(changes)
        finally:
            source.close()
        if self.failure is not None:
            raise NotifierFailed(self.failure)

    def _assign(self, source: Consumer) -> dict[int, int]:
        while True:
            try:
                return assign_whole(source, self._topic)
            except (KafkaException, LookupError, KeyError) as error:
                log.warning("open alerts cannot be read yet", extra={"detail": str(error)})
                if self.stop.wait(1.0):
                    return {}

    def _apply(self, message: Message) -> list[Retained]:
        try:
            with self._lock:
                return self._board.apply(message.key() or b"", message.value())
        except ValueError as error:
            metrics.POISON.labels("notifier").inc()
            log.error(
                "an alert's state could not be read and was passed over",
                extra={**position(message)._asdict(), "detail": str(error)},
            )
            return []

    def _loaded(self) -> None:
        self.ready = True
        log.info("open alerts loaded", extra={"open": len(self._board)})
        self._publisher.start()

    def assert_all(self) -> None:
        """After each connection: the broker may have lost its retained messages."""
        with self._lock:
            self._publish(self._board.all())

    def count(self) -> dict[str, int]:
        """How many alerts are open in each team that has any, by the team's level of the topic."""
        with self._lock:
            return self._board.count()

    def topics(self) -> list[str]:
        """The topics of all open alerts."""
        with self._lock:
            return self._board.topics()

    def remove_stale(self, message: mqtt.MQTTMessage) -> None:
        """A retained message that the broker holds: removed when no open alert has it."""
        name = message.topic
        if message.retain and message.payload:
            with self._lock:
                if not self._board.is_open(name):
                    log.info("stale retained alert removed", extra={"topic": name})
                    self._publish([Retained(name, b"")])

    def _publish(self, changes: list[Retained]) -> None:
        self._publisher.publish([Outgoing(item.topic, item.payload, True) for item in changes])

    def _publish_listed(self, changes: list[Retained]) -> None:
        """The same, with the lists that go with it."""
        index = self.index
        if index is None or not changes:
            self._publish(changes)
            return
        messages = [Outgoing(item.topic, item.payload, True) for item in changes]
        self._publisher.publish([*index.before(changes), *messages, *index.after(changes)])
