"""MQTT to Kafka: take a device's message, hand it to Kafka, acknowledge it to the broker once Kafka has it.

The promise is *kept means kept*: PUBACK goes out only after Kafka's acknowledgement (``acks=all``, idempotent), in
the order of arrival, and only on the connection that the message came on. Nothing is decoded here, but for the time in
a status message, which is answered with ours.

One thread does all of it: waits for the broker, lets paho read, hands over to Kafka, takes Kafka's delivery reports,
acknowledges (librdkafka sends in threads of its own). What has been taken and not yet acknowledged by Kafka is bounded
by ``gateway.max_pending_bytes`` and ``kafka.max_pending``; at the bound the gateway stops reading, so a stalled Kafka
fills the broker's queue and not our memory. A single packet is bounded by the broker's limit, and in MQTT 5 by
`link.LARGEST_PACKET`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from dataclasses import replace

import paho.mqtt.client as mqtt

from vitalgate.config import topics
from vitalgate.config.kafka_client import schema_headers
from vitalgate.config.settings import Settings
from vitalgate.config.transport import context
from vitalgate.gateway.address import Address, backoff, manner, service_client_id
from vitalgate.gateway.kafka_out import OVERSIZE_KEEP, Entry, Headers, KafkaOut
from vitalgate.gateway.link import LARGEST_PACKET, Link, LinkDown, open_link
from vitalgate.gateway.rabbit_slots import Slots
from vitalgate.gateway.tell_time import Asked, answer, asked
from vitalgate.telemetry import metrics
from vitalgate.telemetry.health import Health

log = logging.getLogger(__name__)

#: How long the broker keeps a gateway's session, and what it queued for it, while the gateway is away.
SESSION_EXPIRY_S = 7 * 86_400
DRAIN_S = 3.0
#: A retiring gateway leaves when the broker has sent nothing for this long.
RETIRE_QUIET_S = 3.0
#: Above this rate, reading pauses this long between two rounds. librdkafka and Kafka pay by the request (about
#: 300 µs of processor time together, measured), so that a few messages in each are far cheaper than one.
BUSY_PER_S = 300.0
GATHER_S = 0.008
#: How often Kafka's reports are looked for while messages are under way to it and the broker is silent.
REPORT_S = 0.005
#: Routes (topics seen) remembered; forgotten as a whole beyond it.
ROUTES_MAX = 50_000
_RANDOM_BLOCK = 16 * 512


class GatewayFailed(Exception):
    """Going on could lose messages: the process has to end, and its supervisor starts it again."""


class _Session:
    """The unacknowledged messages of one connection (one generation), oldest first."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.asked: deque[tuple[Entry, str, Asked]] = deque()
        """Status messages that want our time, with their devices, oldest first."""

    def acknowledge(self, link: Link) -> int:
        """Acknowledge every message up to the first that Kafka does not have yet; returns how many."""
        entries = self.entries
        mids: list[int] = []
        while entries and entries[0].done:
            mid = entries.popleft().mid
            if mid:
                mids.append(mid)
        if mids:
            link.acknowledge(mids)
        return len(mids)

    def answer(self, link: Link) -> None:
        """Tell the time to devices whose status Kafka has; an answer that nobody waits for is not kept."""
        asked = self.asked
        while asked and asked[0][0].done:
            _, device, what = asked.popleft()
            link.publish(topics.device_topic(device, "down"), answer(what, time.time()), qos=0)


class Gateway:
    """Construct, then `run()` until `stop()`; see the module's text for the guarantees.

    With `retire` it takes what the broker still holds for its slot, asks for no more, and ends the session for good.
    """

    def __init__(
        self, settings: Settings, password: str, *, health: Health | None = None, retire: bool = False
    ) -> None:
        broker = settings.mqtt
        self._slot = settings.gateway.slot
        self._limit = broker.max_payload_bytes
        self._address = Address(
            broker.host,
            broker.port,
            service_client_id(f"vg-gateway-{self._slot}", password),
            broker.username,
            password,
            context(broker, "mqtt"),
            session_expiry_s=SESSION_EXPIRY_S,
            receive_maximum=broker.receive_maximum,
            **manner(broker),
        )
        share = f"$share/{broker.share_group}/{topics.MQTT_DEVICES}/+"
        self._filters = [f"{share}/{leaf}" for leaf in topics.MQTT_KINDS]
        self._slots: Slots | None = None
        if broker.broker == "rabbitmq":  # it has no shared subscriptions
            self._slots = Slots(broker, password, self._address.client_id)
            self._filters = [self._slots.filter]
        self._tells_time = settings.clock.source == "wall"
        self._retire = retire
        self._stop = threading.Event()
        self._link: Link | None = None
        self._session = _Session()
        self._subscribed = False
        self._last_taken = 0.0
        self._static = [*schema_headers(topics.RAW), ("gateway", self._slot.encode())]
        self._routes: dict[str, tuple[str, str]] = {}
        self._random = ""
        self._random_at = 0
        self._received = {leaf: metrics.RECEIVED.labels(leaf) for leaf in (*topics.MQTT_KINDS, "other")}
        self._counts = dict.fromkeys(self._received, 0)
        self._out = KafkaOut(settings)
        self._rate = 0.0
        self._rate_since, self._rate_from = time.monotonic(), 0
        if health is not None:
            health.ready["mqtt"] = lambda: None if self._subscribed else "not subscribed at the broker"
            health.ready["kafka"] = self._out.stalled
            health.alive["producer"] = lambda: self._out.failure

    # --- running ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask `run` to drain and return; any thread may call it."""
        self._stop.set()

    def run(self) -> None:
        """Carry messages until `stop()`.

        Raises
        ------
        GatewayFailed
            After a fault of the producer that only a new process can mend.
        """
        waits = backoff()
        try:
            while not self._stop.is_set() and self._out.failure is None:
                self._session = _Session()
                try:
                    link = open_link(self._address, on_message=self._take, manual_ack=True)
                except LinkDown as error:
                    log.warning("no connection to the broker", extra={"detail": str(error)})
                    self._pause(next(waits))
                    continue
                self._link = link
                self._connected(link)
                try:
                    self._carry(link)
                    waits = backoff()
                except LinkDown as error:
                    if time.monotonic() - link.opened > 5.0:
                        waits = backoff()
                    log.warning("connection to the broker lost", extra={"detail": str(error)})
                    self._link = None
                    link.close()
                    self._pause(next(waits))
                finally:
                    self._subscribed = False
                    metrics.MQTT_CONNECTED.set(0)
        finally:
            self._drain()
        if self._out.failure is not None:
            raise GatewayFailed(self._out.failure)

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt; Kafka's reports go on meanwhile."""
        until = time.monotonic() + seconds
        while not self._stop.wait(0.02) and time.monotonic() < until:
            self._out.poll(0)

    def _connected(self, link: Link) -> None:
        metrics.MQTT_CONNECTED.set(1)
        log.info(
            "connected to the broker",
            extra={
                "client_id": self._address.client_id,
                "session_present": link.session_present,
                "mqtt": "5" if link.version == 5 else "3.1.1",
            },
        )
        if link.largest_packet is not None and link.largest_packet > LARGEST_PACKET:
            log.warning(
                "the broker takes larger packets than it may send us, and would drop them: lower its max_packet_size",
                extra={"broker": link.largest_packet, "limit": LARGEST_PACKET},
            )

    def _carry(self, link: Link) -> None:
        """Read and produce until asked to stop; raises LinkDown."""
        self._last_taken = time.monotonic()
        if self._retire and self._slots is not None:
            self._slots.leave()
        if self._retire and self._slots is None:
            link.unsubscribe(self._filters)
        else:
            link.subscribe(self._filters, live=True)
        while not self._stop.is_set() and self._out.failure is None:
            if self._out.full():
                self._wait_for_room(link)
                continue
            came = link.step(REPORT_S if self._out.pending() else 0.5, go_on=self._out.room_left)
            self._out.poll(0)
            if came:
                self._last_taken = time.monotonic()
                self._count()
            self._acknowledge(link)
            if link.subscribed and not self._subscribed:
                self._check_subscription(link)
            if self._retire and self._emptied():
                log.info("nothing is left for this slot", extra={"taken": self._out.taken_count})
                self._stop.set()
            if came and self._busy():
                time.sleep(GATHER_S)

    def _emptied(self) -> bool:
        return self._subscribed and time.monotonic() - self._last_taken > RETIRE_QUIET_S and self._out.pending() == 0

    def _busy(self) -> bool:
        """Whether messages come so fast that taking them in bunches is worth the wait."""
        now = time.monotonic()
        if now - self._rate_since >= 0.25:
            self._rate = (self._out.taken_count - self._rate_from) / (now - self._rate_since)
            self._rate_since, self._rate_from = now, self._out.taken_count
        return self._rate > BUSY_PER_S

    def _check_subscription(self, link: Link) -> None:
        if link.refused:
            raise LinkDown(
                f"the broker refused the subscription to {', '.join(link.refused)}: let user "
                f"{self._address.username!r} read them in the broker's access rules"
            )
        if self._slots is not None and not self._retire:
            self._slots.join()
        self._subscribed = True
        log.info("unsubscribed" if self._retire else "subscribed", extra={"filters": self._filters})

    def _wait_for_room(self, link: Link) -> None:
        """Stop reading until Kafka has taken what is pending; the broker's connection is kept alive meanwhile."""
        out = self._out
        log.warning(
            "Kafka does not keep up: reading stopped",
            extra={"pending_bytes": out.taken_bytes - out.done_bytes, "limit": out.max_bytes},
        )
        while out.full() and not self._stop.is_set() and out.failure is None:
            out.poll(0.2)
            self._acknowledge(link)
            link.hold()

    # --- taking -----------------------------------------------------------------------------------------------------

    def _take(self, message: mqtt.MQTTMessage) -> None:
        """Produce one message; called by paho within `step`."""
        try:
            name = message.topic
        except UnicodeDecodeError:  # MQTT forbids it, and a broker that lets it pass must not stop us
            name = "not UTF-8"
        payload = bytes(message.payload)
        length = len(payload)
        route = self._routes.get(name)
        if route is None:
            route = self._route(name)
        key, leaf = route
        at = self._random_at
        if at >= len(self._random):
            self._random, at = os.urandom(_RANDOM_BLOCK).hex(), 0
        self._random_at = at + 32
        now_us = time.time_ns() // 1000
        headers: Headers = [
            *self._static,
            ("topic", name),
            ("received_at", b"%d" % now_us),
            ("trace", self._random[at : at + 32]),
        ]
        if message.retain:
            headers.append(("retain", b"1"))
        if length > self._limit:
            payload = payload[:OVERSIZE_KEEP]
            headers.append(("oversize", b"%d" % length))
        entry = self._out.take(message.mid if message.qos else 0, len(payload))
        self._session.entries.append(entry)
        if leaf == "status" and self._tells_time:
            what = asked(payload, now_us / 1e6)
            if what is not None:
                self._session.asked.append((entry, key, what))
        self._counts[leaf] += 1
        self._out.produce(entry, payload, key, headers, self._stop.is_set)

    def _count(self) -> None:
        for leaf, count in self._counts.items():
            if count:
                self._received[leaf].inc(count)
                self._counts[leaf] = 0

    def _route(self, name: str) -> tuple[str, str]:
        """(Kafka key, leaf) of an MQTT topic; the key is its third segment, the device, else `unknown`."""
        if len(self._routes) >= ROUTES_MAX:
            self._routes.clear()
        parts = name.split("/")
        key = parts[2] if len(parts) > 2 and parts[2] else "unknown"
        route = key, parts[-1] if parts[-1] in self._received else "other"
        self._routes[name] = route
        return route

    # --- Kafka's answers --------------------------------------------------------------------------------------------

    def _acknowledge(self, link: Link) -> None:
        """Tell the broker what Kafka has of this connection's messages."""
        count = self._session.acknowledge(link)
        if count:
            metrics.ACKED.inc(count)
            if self._session.asked:
                self._session.answer(link)

    def _drain(self) -> None:
        """Let Kafka finish what was taken, acknowledge it, leave; what is not acknowledged stays with the broker."""
        self._out.drain(DRAIN_S)
        self._count()
        left, link = self._out.pending(), self._link
        if link is not None:
            with contextlib.suppress(LinkDown):
                self._acknowledge(link)
            link.goodbye(session_expiry_s=0 if self._retire and left == 0 else None)
            if self._retire and left == 0 and link.version == 4:
                with contextlib.suppress(LinkDown):  # there a session ends only by a clean one in its place
                    open_link(replace(self._address, clean=True)).goodbye()
        self._out.close()
        log.info("gateway stopped", extra={"taken": self._out.taken_count, "left_with_broker": left})
