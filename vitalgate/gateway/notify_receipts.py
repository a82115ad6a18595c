"""Kafka to MQTT: receipts to devices."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import Any

import msgspec
import orjson
from confluent_kafka import Consumer, Message

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.devices import records
from vitalgate.gateway.consume import Offsets, burst, consumer, position
from vitalgate.gateway.notify_loop import COMMIT_S, DRAIN_S, Loop, NotifierFailed, address
from vitalgate.gateway.publisher import Outgoing, Publisher
from vitalgate.gateway.receipts import Coalescer, Position, Receipt, receipt_of_dead_letter, receipts_of
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: Devices whose kept numbers are remembered, to answer refusals found by the recorder; also the most that may wait.
KEPT_MAX = 100_000


class Receipts(Loop):
    """device.sequences (and refusals found later) to `v1/devices/{device}/receipts`."""

    def __init__(self, settings: Settings, password: str, stop: threading.Event) -> None:
        super().__init__(settings, "receipts", stop)
        self._publisher = Publisher(address(settings, password, "receipts"))
        self._coalescer = Coalescer(settings.gateway.receipt_interval_ms / 1000)
        self._sequences = topics.full(topics.SEQUENCES, self.kafka)
        self._dead = topics.full(topics.DEADLETTER, self.kafka)
        self._kept: OrderedDict[tuple[str, str], records.Kept] = OrderedDict()
        self._sent: dict[int, Position] = {}
        self._number = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        """Consume until told to stop; drains at the end."""
        source = consumer(self.kafka, "notifier.receipts", self.slot, fatal=self.fail)
        offsets = Offsets()
        source.subscribe(
            [self._sequences, self._dead],
            on_assign=self._assigned,
            on_revoke=lambda _source, _parts: offsets.forget(),
        )
        self._publisher.start()
        paused = False
        try:
            while not self.stop.is_set() and self.failure is None:
                now = time.monotonic()
                room = self._publisher.room()
                if (room == 0 or len(self._coalescer) > KEPT_MAX) != paused:
                    paused = not paused
                    (source.pause if paused else source.resume)(source.assignment())
                for message in burst(source, self._coalescer.wait(now, 0.2 if room else 0.02)):
                    offsets.consumed(message)
                    self._take(message)
                self._send()
                if offsets.due(COMMIT_S):
                    offsets.commit(source, self._under_way())
            self._send()
            self._publisher.flush(DRAIN_S)
            offsets.commit(source, self._under_way(), wait=True)
        finally:
            self._publisher.close()
            source.close()
        if self.failure is not None:
            raise NotifierFailed(self.failure)

    def _assigned(self, source: Consumer, partitions: list[Any]) -> None:
        self.ready = True
        log.info("receipts: partitions assigned", extra={"partitions": len(partitions)})

    def _under_way(self) -> list[Position]:
        with self._lock:
            return [*self._sent.values(), *self._coalescer.positions()]

    def _take(self, message: Message) -> None:
        value = message.value()
        if value is None:
            return
        place = position(message)
        now = time.monotonic()
        try:
            if place.topic == self._sequences:
                sequences = records.decode_sequences(value)
                for kept in sequences.epochs:
                    self._remember(sequences.device, kept)
                for receipt in receipts_of(sequences):
                    self._coalescer.offer(receipt, place, now)
            else:
                document = orjson.loads(value)
                kept_now = self._kept.get((document.get("device_id"), document.get("epoch")))
                extra = receipt_of_dead_letter(document, kept_now)
                if extra is not None:
                    self._coalescer.offer(extra, place, now, extra=True)
        except (msgspec.MsgspecError, orjson.JSONDecodeError, AttributeError, TypeError, UnicodeError) as error:
            metrics.POISON.labels("notifier").inc()
            log.error(
                "a record could not be read and was passed over",
                extra={**place._asdict(), "detail": repr(error)},
            )

    def _remember(self, device: str, kept: records.Kept) -> None:
        self._kept[device, kept.epoch] = kept
        self._kept.move_to_end((device, kept.epoch))
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)

    def _send(self) -> None:
        room = self._publisher.room()
        if not room:
            return
        due = self._coalescer.due(time.monotonic(), room)
        if not due:
            return
        messages = []
        with self._lock:
            for receipt, place in due:
                self._number += 1
                self._sent[self._number] = place
                messages.append(self._message(receipt, self._number))
        self._publisher.publish(messages)
        metrics.RECEIPTS.inc(len(messages))

    def _message(self, receipt: Receipt, number: int) -> Outgoing:
        def done() -> None:
            with self._lock:
                self._sent.pop(number, None)

        topic = topics.device_topic(receipt.device, "receipts")
        return Outgoing(topic, receipt.payload, False, done)
