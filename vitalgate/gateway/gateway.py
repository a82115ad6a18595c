"""MQTT to Kafka: take a device's message, hand it to Kafka, acknowledge it to the broker once Kafka has it.

The promise is *kept means kept*: PUBACK goes out only after Kafka's acknowledgement (``acks=all``, idempotent), in
the order of arrival, and only on the connection that the message came on. Nothing is decoded here.

Two threads: the caller's reads the broker and produces; one polls Kafka's delivery reports and acknowledges. What has
been taken and not yet acknowledged by Kafka is bounded by ``gateway.max_pending_bytes`` and ``kafka.max_pending``;
at the bound the gateway stops reading, so a stalled Kafka fills the broker's queue and not our memory.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.gateway import wire
from vitalgate.gateway.link import Address, Link, LinkDown, WrongVersion, backoff
from vitalgate.telemetry import metrics
from vitalgate.telemetry.health import Health

log = logging.getLogger(__name__)

#: How long the broker keeps a gateway's session, and what it queued for it, while the gateway is away.
SESSION_EXPIRY_S = 7 * 86_400
DRAIN_S = 3.0
#: A producer that gets nothing acknowledged this long while Kafka answers is wedged: the supervisor starts us anew.
WEDGED_S = 60.0
#: Above this rate, reading pauses this long between two rounds. librdkafka and Kafka pay by the request (about
#: 300 µs of processor time together, measured), so that a few messages in each are far cheaper than one.
BUSY_PER_S = 300.0
GATHER_S = 0.008
#: Routes (topics seen) remembered; forgotten as a whole beyond it.
ROUTES_MAX = 50_000
_RANDOM_BLOCK = 16 * 512
#: Counted for each message beside its payload: topic, headers, librdkafka's and our bookkeeping.
_OVERHEAD = 512


class GatewayFailed(Exception):
    """Going on could lose messages: the process has to end, and its supervisor starts it again."""


class _Entry:
    """One QoS 1 message under way to Kafka."""

    __slots__ = ("done", "mid", "session", "size")

    def __init__(self, session: _Session, mid: bytes, size: int) -> None:
        self.session = session
        self.mid = mid
        self.size = size
        self.done = False

    def delivered(self, error: KafkaError | None, message: Any) -> None:
        gateway = self.session.gateway
        if error is not None:
            gateway.undelivered(error, self, message)
            return
        self.done = True
        gateway.done_bytes += self.size
        gateway.done_count += 1


class _Session:
    """The unacknowledged messages of one connection (one generation), oldest first."""

    def __init__(self, gateway: Gateway, link: Link) -> None:
        self.gateway = gateway
        self.link = link
        self.entries: deque[_Entry] = deque()

    def acknowledge(self) -> int:
        """Acknowledge every message up to the first that Kafka does not have yet, in one write; returns how many."""
        entries = self.entries
        out: list[bytes] = []
        while entries and entries[0].done:
            entry = entries.popleft()
            if entry.mid:
                out.append(wire.PUBACK_HEAD + entry.mid)
        if out:
            self.link.send(b"".join(out))
        return len(out)


class Gateway:
    """Construct, then `run()` until `stop()`; see the module's text for the guarantees."""

    def __init__(self, settings: Settings, password: str, *, health: Health | None = None) -> None:
        mqtt, kafka = settings.mqtt, settings.kafka
        self._slot = settings.gateway.slot
        self._address = Address(
            mqtt.host,
            mqtt.port,
            f"vg-gateway-{self._slot}",
            mqtt.username,
            password,
            session_expiry_s=SESSION_EXPIRY_S,
            receive_maximum=mqtt.receive_maximum,
            limit=mqtt.max_payload_bytes,
        )
        share = f"$share/{mqtt.share_group}/{topics.MQTT_DEVICES}/+"
        self._filters = [f"{share}/{leaf}" for leaf in topics.MQTT_KINDS]
        self._topic = topics.full(topics.RAW, kafka)
        self._max_bytes = settings.gateway.max_pending_bytes
        self._max_count = kafka.max_pending
        self._stop = threading.Event()
        self._polling = True
        self._room = threading.Event()
        self._failure: str | None = None
        self._session: _Session | None = None
        self._subscribed = False
        self._version = wire.V5
        self._static = [("schema", b"device.raw"), ("schema_version", b"1"), ("gateway", self._slot.encode())]
        self._routes: dict[bytes, tuple[bytes, str]] = {}
        self._random = ""
        self._random_at = 0
        self._received = {leaf: metrics.RECEIVED.labels(leaf) for leaf in (*topics.MQTT_KINDS, "other")}
        # Written by the reading thread only, and by the polling thread only: their difference is what is pending.
        self.taken_bytes = self.taken_count = 0
        self.done_bytes = self.done_count = 0
        self._progress = time.monotonic()
        self._kafka_answers_since: float | None = None
        self._next_probe = 0.0
        self._rate = 0.0
        self._rate_since, self._rate_from = time.monotonic(), 0
        self._producer = Producer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "client.id": f"vg-gateway-{self._slot}",
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": "murmur2_random",
                "linger.ms": kafka.linger_ms,
                "compression.type": "lz4",
                "message.max.bytes": 4_000_000,
                "message.timeout.ms": 0,
                "queue.buffering.max.messages": self._max_count + mqtt.receive_maximum,
                "queue.buffering.max.kbytes": 2 * self._max_bytes // 1024 + 8192,
                "error_cb": self._kafka_error,
                "logger": logging.getLogger("librdkafka"),
            }
        )
        if health is not None:
            health.ready["mqtt"] = lambda: None if self._subscribed else "not subscribed at the broker"
            health.ready["kafka"] = self._kafka_stalled
            health.alive["producer"] = lambda: self._failure

    # --- running ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask `run` to drain and return; any thread may call it."""
        self._stop.set()
        self._room.set()

    def run(self) -> None:
        """Carry messages until `stop()`.

        Raises
        ------
        GatewayFailed
            After a fault of the producer that only a new process can mend.
        """
        poller = threading.Thread(target=self._poll_kafka, name="kafka-poll", daemon=True)
        poller.start()
        waits = backoff()
        try:
            while not self._stop.is_set() and self._failure is None:
                try:
                    link = Link(self._address, version=self._version)
                except WrongVersion as error:
                    if self._version == wire.V311:
                        raise GatewayFailed(str(error)) from error
                    self._version = wire.V311
                    log.warning("the broker does not speak MQTT 5, going on with 3.1.1", extra={"detail": str(error)})
                    continue
                except LinkDown as error:
                    log.warning("no connection to the broker", extra={"detail": str(error)})
                    self._stop.wait(next(waits))
                    continue
                self._session = _Session(self, link)
                metrics.MQTT_CONNECTED.set(1)
                log.info(
                    "connected to the broker",
                    extra={"client_id": self._address.client_id, "session_present": link.session_present},
                )
                try:
                    self._carry(link, self._session)
                    waits = backoff()
                except LinkDown as error:
                    if link.last_read - link.opened > 5.0:
                        waits = backoff()
                    log.warning("connection to the broker lost", extra={"detail": str(error)})
                    link.close()
                    self._stop.wait(next(waits))
                finally:
                    self._subscribed = False
                    metrics.MQTT_CONNECTED.set(0)
        finally:
            self._drain(poller)
        if self._failure is not None:
            raise GatewayFailed(self._failure)

    def _carry(self, link: Link, session: _Session) -> None:
        """Read and produce until asked to stop; raises LinkDown."""
        waiting = link.subscribe(self._filters, live=True)
        while not self._stop.is_set() and self._failure is None:
            if self._full():
                self._wait_for_room(link)
                continue
            packets = link.read(0.5)
            if packets:
                others = self._take(packets, session)
                for packet in others:
                    if packet.kind == wire.SUBACK:
                        mid, codes = wire.read_suback(packet.body, link.version)
                        if mid == waiting:
                            self._check_suback(codes)
                    elif packet.kind == wire.DISCONNECT:
                        code = packet.body[0] if packet.body else 0
                        raise LinkDown(f"the broker ended the connection (reason code {code})")
            link.keep_alive()
            if packets and self._busy():
                time.sleep(GATHER_S)

    def _busy(self) -> bool:
        """Whether messages come so fast that taking them in bunches is worth the wait."""
        now = time.monotonic()
        if now - self._rate_since >= 0.25:
            self._rate = (self.taken_count - self._rate_from) / (now - self._rate_since)
            self._rate_since, self._rate_from = now, self.taken_count
        return self._rate > BUSY_PER_S

    def _check_suback(self, codes: list[int]) -> None:
        refused = [name for name, code in zip(self._filters, codes, strict=False) if code >= 0x80]
        if refused:
            raise LinkDown(
                f"the broker refused the subscription to {', '.join(refused)}: let user {self._address.username!r} "
                "read them in the broker's access rules"
            )
        self._subscribed = True
        log.info("subscribed", extra={"filters": self._filters})

    def _full(self) -> bool:
        return (
            self.taken_bytes - self.done_bytes >= self._max_bytes
            or self.taken_count - self.done_count >= self._max_count
        )

    def _wait_for_room(self, link: Link) -> None:
        """Stop reading until Kafka has taken what is pending; the broker's connection is kept alive meanwhile."""
        log.warning(
            "Kafka does not keep up: reading stopped",
            extra={"pending_bytes": self.taken_bytes - self.done_bytes, "limit": self._max_bytes},
        )
        while self._full() and not self._stop.is_set() and self._failure is None:
            self._room.clear()
            self._room.wait(0.2)
            link.keep_alive(reading=False)
        link.last_read = time.monotonic()

    # --- taking -----------------------------------------------------------------------------------------------------

    def _take(self, packets: list[wire.Packet], session: _Session) -> list[wire.Control]:
        """Produce every PUBLISH; return the other packets."""
        others: list[wire.Control] = []
        received_at = ("received_at", b"%d" % (time.time_ns() // 1000))
        produce, topic, static, routes = self._producer.produce, self._topic, self._static, self._routes
        entries, counts = session.entries, dict.fromkeys(self._received, 0)
        for packet in packets:
            if type(packet) is not wire.Publish:
                assert isinstance(packet, wire.Control)
                others.append(packet)
                continue
            name, payload, length, mid, _, retain, _ = packet
            size = len(payload)
            route = routes.get(name)
            if route is None:
                route = self._route(name)
            key, leaf = route
            at = self._random_at
            if at >= len(self._random):
                self._random, at = os.urandom(_RANDOM_BLOCK).hex(), 0
            self._random_at = at + 32
            headers: list[tuple[str, str | bytes | None]] = [
                *static,
                ("topic", name),
                received_at,
                ("trace", self._random[at : at + 32]),
            ]
            if retain:
                headers.append(("retain", b"1"))
            if length != size:
                headers.append(("oversize", b"%d" % length))
            entry = _Entry(session, mid, size + _OVERHEAD)
            entries.append(entry)
            self.taken_bytes += size + _OVERHEAD
            self.taken_count += 1
            counts[leaf] += 1
            try:
                produce(topic, payload, key, headers=headers, on_delivery=entry.delivered)
            except BufferError:
                self._produce_when_room(payload, key, headers, entry)
            except KafkaException as error:
                self._fail(f"Kafka's producer refused a record: {error}")
                break
        for leaf, count in counts.items():
            if count:
                self._received[leaf].inc(count)
        return others

    def _route(self, name: bytes) -> tuple[bytes, str]:
        """(Kafka key, leaf) of an MQTT topic; the key is its third segment, the device, else `unknown`."""
        if len(self._routes) >= ROUTES_MAX:
            self._routes.clear()
        parts = name.split(b"/")
        key = parts[2] if len(parts) > 2 and parts[2] else b"unknown"
        leaf = parts[-1].decode("ascii", "replace")
        route = key, leaf if leaf in self._received else "other"
        self._routes[name] = route
        return route

    def _produce_when_room(self, payload: bytes, key: bytes, headers: list[Any], entry: _Entry) -> None:
        """librdkafka's own queue is full: wait for the polling thread to make room (reading stands still)."""
        while self._failure is None and not self._stop.is_set():
            self._room.clear()
            self._room.wait(0.1)
            try:
                self._producer.produce(self._topic, payload, key, headers=headers, on_delivery=entry.delivered)
                return
            except BufferError:
                continue
            except KafkaException as error:
                self._fail(f"Kafka's producer refused a record: {error}")

    # --- Kafka's answers --------------------------------------------------------------------------------------------

    def _poll_kafka(self) -> None:
        last = self.done_count
        while self._polling:
            try:
                self._producer.poll(0.1)
            except KafkaException as error:  # a fatal producer error surfaces here as well
                self._fail(f"Kafka's producer failed: {error}")
            if self.done_count != last:
                last = self.done_count
                self._progress = time.monotonic()
                self._kafka_answers_since = None
                self._acknowledge()
                self._room.set()
            self._watch()

    def _acknowledge(self) -> None:
        session = self._session
        if session is None:
            return
        try:
            count = session.acknowledge()
        except LinkDown:
            return  # the reading thread notices and reconnects; the broker sends these again
        metrics.ACKED.inc(count)

    def _watch(self) -> None:
        """Gauges, and the watch for a wedged producer; cheap, called after every poll."""
        now = time.monotonic()
        pending = self.taken_count - self.done_count
        metrics.PENDING.set(pending)
        metrics.PENDING_BYTES.set(self.taken_bytes - self.done_bytes)
        if pending == 0:
            self._progress = now
            self._kafka_answers_since = None
        elif now - self._progress > 5.0 and now >= self._next_probe:
            self._next_probe = now + 5.0
            try:
                self._producer.list_topics(self._topic, timeout=0.5)
            except KafkaException:
                self._kafka_answers_since = None
                return
            if self._kafka_answers_since is None:
                self._kafka_answers_since = now
            elif now - self._kafka_answers_since > WEDGED_S:
                self._fail(f"Kafka answers but has acknowledged nothing for {now - self._progress:.0f} s")

    def _kafka_stalled(self) -> str | None:
        waited = time.monotonic() - self._progress
        return f"Kafka has acknowledged nothing for {waited:.0f} s" if waited > 5.0 else None

    def undelivered(self, error: KafkaError, entry: _Entry, message: Any) -> None:
        """A record that Kafka refused for good. Never acknowledged, so the broker keeps it."""
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and len(message.value()) > wire.OVERSIZE_KEEP:
            # The topic's own limit is below ours: go on as with any oversize payload.
            headers = [*message.headers(), ("oversize", b"%d" % len(message.value()))]
            self._producer.produce(
                self._topic,
                message.value()[: wire.OVERSIZE_KEEP],
                message.key(),
                headers=headers,
                on_delivery=entry.delivered,
            )
            return
        self._fail(f"Kafka did not take a record: {error}")

    def _kafka_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fail(f"fatal error of Kafka's producer: {error}")
        else:
            log.warning("Kafka", extra={"detail": str(error)})

    def _fail(self, text: str) -> None:
        if self._failure is None:
            self._failure = text
            log.error("gateway cannot go on", extra={"detail": text})
        self._room.set()

    def _drain(self, poller: threading.Thread) -> None:
        """Let Kafka finish what was taken, acknowledge it, leave; what is not acknowledged stays with the broker."""
        until = time.monotonic() + DRAIN_S
        if self._failure is None:
            self._producer.flush(max(0.0, until - time.monotonic()))
        while self.done_count < self.taken_count and time.monotonic() < until and self._failure is None:
            time.sleep(0.01)
        self._polling = False
        poller.join(1.0)
        self._acknowledge()
        left = self.taken_count - self.done_count
        if self._session is not None:
            self._session.link.goodbye()
        self._producer.purge()
        log.info("gateway stopped", extra={"taken": self.taken_count, "left_with_broker": left})
