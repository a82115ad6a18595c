"""MQTT to Kafka: take a device's message, hand it to Kafka, acknowledge it to the broker once Kafka has it.

The promise is *kept means kept*: PUBACK goes out only after Kafka's acknowledgement (``acks=all``, idempotent), in
the order of arrival, and only on the connection that the message came on. Nothing is decoded here.

Two threads: the caller's reads the broker and produces; one polls Kafka's delivery reports and acknowledges. What has
been taken and not yet acknowledged by Kafka is bounded by ``gateway.max_pending_bytes`` and ``kafka.max_pending``;
at the bound the gateway stops reading, so a stalled Kafka fills the broker's queue and not our memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from dataclasses import replace

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.gateway import wire
from vitalgate.gateway.kafka_out import Entry, Headers, KafkaOut
from vitalgate.gateway.link import Address, Link, LinkDown, WrongVersion, backoff, service_client_id
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
#: Routes (topics seen) remembered; forgotten as a whole beyond it.
ROUTES_MAX = 50_000
_RANDOM_BLOCK = 16 * 512


class GatewayFailed(Exception):
    """Going on could lose messages: the process has to end, and its supervisor starts it again."""


class _Session:
    """The unacknowledged messages of one connection (one generation), oldest first."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.entries: deque[Entry] = deque()

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
    """Construct, then `run()` until `stop()`; see the module's text for the guarantees.

    With `retire` it takes what the broker still holds for its slot, asks for no more, and ends the session for good.
    """

    def __init__(
        self, settings: Settings, password: str, *, health: Health | None = None, retire: bool = False
    ) -> None:
        mqtt = settings.mqtt
        self._slot = settings.gateway.slot
        self._address = Address(
            mqtt.host,
            mqtt.port,
            service_client_id(f"vg-gateway-{self._slot}", password),
            mqtt.username,
            password,
            session_expiry_s=SESSION_EXPIRY_S,
            receive_maximum=mqtt.receive_maximum,
            limit=mqtt.max_payload_bytes,
        )
        share = f"$share/{mqtt.share_group}/{topics.MQTT_DEVICES}/+"
        self._filters = [f"{share}/{leaf}" for leaf in topics.MQTT_KINDS]
        self._retire = retire
        self._stop = threading.Event()
        self._session: _Session | None = None
        self._subscribed = False
        self._version = wire.V5
        self._static = [("schema", b"device.raw"), ("schema_version", b"1"), ("gateway", self._slot.encode())]
        self._routes: dict[bytes, tuple[bytes, str]] = {}
        self._random = ""
        self._random_at = 0
        self._received = {leaf: metrics.RECEIVED.labels(leaf) for leaf in (*topics.MQTT_KINDS, "other")}
        self._out = KafkaOut(settings, self._acknowledge)
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
        self._out.room.set()

    def run(self) -> None:
        """Carry messages until `stop()`.

        Raises
        ------
        GatewayFailed
            After a fault of the producer that only a new process can mend.
        """
        self._out.start()
        waits = backoff()
        try:
            while not self._stop.is_set() and self._out.failure is None:
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
                self._session = _Session(link)
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
            self._drain()
        if self._out.failure is not None:
            raise GatewayFailed(self._out.failure)

    def _carry(self, link: Link, session: _Session) -> None:
        """Read and produce until asked to stop; raises LinkDown."""
        waiting = link.unsubscribe(self._filters) if self._retire else link.subscribe(self._filters, live=True)
        while not self._stop.is_set() and self._out.failure is None:
            if self._out.full():
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
                    elif packet.kind == wire.UNSUBACK:
                        self._subscribed = True  # as far as it wants to be
                    elif packet.kind == wire.DISCONNECT:
                        code = packet.body[0] if packet.body else 0
                        raise LinkDown(f"the broker ended the connection (reason code {code})")
            link.keep_alive()
            if self._retire and self._emptied(link):
                log.info("nothing is left for this slot", extra={"taken": self._out.taken_count})
                self._stop.set()
            if packets and self._busy():
                time.sleep(GATHER_S)

    def _emptied(self, link: Link) -> bool:
        return (
            self._subscribed
            and time.monotonic() - max(link.last_read, link.opened) > RETIRE_QUIET_S
            and self._out.pending() == 0
        )

    def _busy(self) -> bool:
        """Whether messages come so fast that taking them in bunches is worth the wait."""
        now = time.monotonic()
        if now - self._rate_since >= 0.25:
            self._rate = (self._out.taken_count - self._rate_from) / (now - self._rate_since)
            self._rate_since, self._rate_from = now, self._out.taken_count
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

    def _wait_for_room(self, link: Link) -> None:
        """Stop reading until Kafka has taken what is pending; the broker's connection is kept alive meanwhile."""
        out = self._out
        log.warning(
            "Kafka does not keep up: reading stopped",
            extra={"pending_bytes": out.taken_bytes - out.done_bytes, "limit": out.max_bytes},
        )
        while out.full() and not self._stop.is_set() and out.failure is None:
            out.room.clear()
            out.room.wait(0.2)
            link.keep_alive(reading=False)
        link.last_read = time.monotonic()

    # --- taking -----------------------------------------------------------------------------------------------------

    def _take(self, packets: list[wire.Packet], session: _Session) -> list[wire.Control]:
        """Produce every PUBLISH; return the other packets."""
        others: list[wire.Control] = []
        received_at = ("received_at", b"%d" % (time.time_ns() // 1000))
        out, static, routes = self._out, self._static, self._routes
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
            headers: Headers = [
                *static,
                ("topic", name),
                received_at,
                ("trace", self._random[at : at + 32]),
            ]
            if retain:
                headers.append(("retain", b"1"))
            if length != size:
                headers.append(("oversize", b"%d" % length))
            entry = out.take(mid, size)
            entries.append(entry)
            counts[leaf] += 1
            out.produce(entry, payload, key, headers, self._stop)
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

    # --- Kafka's answers --------------------------------------------------------------------------------------------

    def _acknowledge(self) -> None:
        """Tell the broker what Kafka has; called on the polling thread."""
        session = self._session
        if session is None:
            return
        try:
            count = session.acknowledge()
        except LinkDown:
            return  # the reading thread notices and reconnects; the broker sends these again
        metrics.ACKED.inc(count)

    def _drain(self) -> None:
        """Let Kafka finish what was taken, acknowledge it, leave; what is not acknowledged stays with the broker."""
        self._out.drain(DRAIN_S)
        self._acknowledge()
        left = self._out.pending()
        if self._session is not None:
            link = self._session.link
            link.goodbye(session_expiry_s=0 if self._retire and left == 0 else None)
            if self._retire and left == 0 and link.version == wire.V311:
                with contextlib.suppress(LinkDown):  # there a session ends only by a clean one in its place
                    Link(replace(self._address, clean=True), version=wire.V311).goodbye()
        self._out.close()
        log.info("gateway stopped", extra={"taken": self._out.taken_count, "left_with_broker": left})
