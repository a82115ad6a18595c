"""How full the broker's queues are, and what it refused: from $SYS or RabbitMQ's API, and from its log."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import paho.mqtt.client as mqtt

from vitalgate.config.settings import MqttSettings
from vitalgate.config.transport import context
from vitalgate.gateway.access import AccessError
from vitalgate.gateway.address import Address, backoff, service_client_id
from vitalgate.gateway.link import LinkDown, open_link
from vitalgate.gateway.rabbit_api import RabbitApi
from vitalgate.gateway.rabbit_rights import session_queue
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

QUEUE_BYTES = "$SYS/broker/store/messages/bytes"
#: The share of the bound at which an alarm is due: behind it the broker drops what it has acknowledged.
ALARM_RATIO = 0.5
#: What Mosquitto writes when it refuses a message (acknowledged all the same to a 3.1.1 client) or a connection.
REFUSALS = (b"Denied PUBLISH from", b"disconnected, not authorised")
#: What RabbitMQ writes; it closes the connection.
RABBIT_REFUSALS = (b"refused for user", b"MQTT login failed")
#: RabbitMQ itself counts anew every five seconds.
RABBIT_POLL_S = 5.0
_READ_MOST = 4 * 1024 * 1024


class LogTail:
    """Counts refusals in a log file that others write, cut or replace."""

    def __init__(self, path: Path, refusals: Sequence[bytes] = REFUSALS) -> None:
        self._path = path
        self._refusals = refusals
        self._at = path.stat().st_size if path.is_file() else 0
        self._inode = path.stat().st_ino if path.is_file() else 0
        self._rest = b""

    def count(self) -> int:
        """Refusals written since the last call."""
        try:
            status = self._path.stat()
        except OSError:  # moved away: what comes under its name next is new
            self._at, self._rest, self._inode = 0, b"", 0
            return 0
        if status.st_ino != self._inode or status.st_size < self._at:  # replaced, or cut to nothing
            self._at, self._rest, self._inode = 0, b"", status.st_ino
        found = 0
        with self._path.open("rb") as stream:
            stream.seek(self._at)
            while data := stream.read(_READ_MOST):
                self._at += len(data)
                lines = (self._rest + data).split(b"\n")
                self._rest = lines.pop()[-10_000:]
                found += sum(any(words in line for words in self._refusals) for line in lines)
        return found


class _Watch:
    """Keeps the broker's gauges; one thread."""

    refusals: Sequence[bytes] = REFUSALS

    def __init__(self, broker: MqttSettings) -> None:
        self._bound = broker.max_queued_bytes
        self._log = LogTail(Path(broker.log_file), self.refusals) if broker.log_file else None
        self._stop = threading.Event()
        self._alarmed = False
        self._thread = threading.Thread(target=self._run, name="broker-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns at once."""
        self._stop.set()

    def _run(self) -> None:
        raise NotImplementedError

    def _queue(self, size: int) -> None:
        ratio = size / self._bound
        metrics.BROKER_QUEUE.set(size)
        metrics.BROKER_QUEUE_RATIO.set(ratio)
        if (ratio >= ALARM_RATIO) != self._alarmed:
            self._alarmed = not self._alarmed
            if self._alarmed:
                log.warning(
                    "the broker's queue is half full; behind its bound Mosquitto drops acknowledged messages, and "
                    "RabbitMQ takes no more: are all gateways running, and is Kafka?",
                    extra={"bytes": size, "bound": self._bound},
                )
            else:
                log.info("the broker's queue is below half again", extra={"bytes": size, "bound": self._bound})

    def _count(self) -> None:
        if self._log is not None and (found := self._log.count()):
            metrics.BROKER_DENIED.inc(found)
            log.warning("the broker refused messages or connections", extra={"count": found})


class BrokerWatch(_Watch):
    """Mosquitto's, which tells of its queues on $SYS."""

    def __init__(self, broker: MqttSettings, password: str, *, name: str = "vg-registrar-watch") -> None:
        super().__init__(broker)
        client = service_client_id(name, password)
        self._address = Address(
            broker.host, broker.port, client, broker.admin_username, password, context(broker, "mqtt"), clean=True
        )

    def _run(self) -> None:
        waits = backoff()
        while not self._stop.is_set():
            try:
                link = open_link(self._address, on_message=self._told)
            except LinkDown:
                self._count()
                self._stop.wait(next(waits))
                continue
            waits = backoff()
            try:
                link.subscribe([QUEUE_BYTES], qos=0)
                while not self._stop.is_set():
                    link.step(1.0)
                    self._count()
                link.goodbye()
            except LinkDown as error:
                link.close()
                log.info("broker watch lost its connection", extra={"detail": str(error)})
                self._stop.wait(next(waits))

    def _told(self, message: mqtt.MQTTMessage) -> None:
        if message.topic == QUEUE_BYTES:
            with contextlib.suppress(ValueError):
                self._queue(int(message.payload))


class RabbitWatch(_Watch):
    """RabbitMQ's: the bytes in the fullest of the gateways' queues."""

    refusals = RABBIT_REFUSALS

    def __init__(self, broker: MqttSettings, password: str) -> None:
        super().__init__(broker)
        self._broker, self._password = broker, password

    def _run(self) -> None:
        while not self._stop.wait(RABBIT_POLL_S):
            self._count()
            try:
                api = RabbitApi(self._broker, self._broker.admin_username, self._password)
                try:
                    self._queue(self._fullest(api))
                finally:
                    api.close()
            except (LinkDown, AccessError) as error:
                log.info("how full the broker is, is not known", extra={"detail": str(error)})

    @staticmethod
    def _fullest(api: RabbitApi) -> int:
        gateways = session_queue("vg-gateway-").removesuffix("qos1")
        queues = api.queues("message_bytes")
        return max((int(q.get("message_bytes", 0)) for q in queues if q["name"].startswith(gateways)), default=0)


def watch(broker: MqttSettings, password: str) -> BrokerWatch | RabbitWatch:
    """The watch over the broker that the settings name; the password is the administrator's."""
    return RabbitWatch(broker, password) if broker.broker == "rabbitmq" else BrokerWatch(broker, password)
