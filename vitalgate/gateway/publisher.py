"""QoS 1 to the broker from one process: reconnects, sends again what was not acknowledged, bounded in flight."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vitalgate.gateway import wire
from vitalgate.gateway.link import Address, Link, LinkDown, WrongVersion, backoff

log = logging.getLogger(__name__)

#: Messages without PUBACK at most; fewer when the broker's receive maximum is smaller.
WINDOW = 2000


class Outgoing(NamedTuple):
    """One message to publish; `done` is called once, when the broker has acknowledged it."""

    topic: bytes
    payload: bytes
    retain: bool = False
    done: Callable[[], None] | None = None


class Publisher:
    """A connection that publishes at QoS 1, with a clean session.

    Parameters
    ----------
    address
        Where to connect; one client id each.
    filters
        Subscribed (QoS 0, without our own messages) at each connection.
    on_connect, on_message
        Called on the publisher's own thread: after every connection, and for every message of `filters`. They may
        call `publish` but must not wait.
    """

    def __init__(
        self,
        address: Address,
        *,
        filters: Sequence[str] = (),
        on_connect: Callable[[], None] | None = None,
        on_message: Callable[[wire.Publish], None] | None = None,
    ) -> None:
        self._address = address
        self._filters = list(filters)
        self._on_connect = on_connect
        self._on_message = on_message
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._link: Link | None = None
        self._version = wire.V5
        self._under_way: dict[int, Outgoing] = {}
        self._waiting: list[Outgoing] = []
        self._window = WINDOW
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=address.client_id, daemon=True)

    def start(self) -> None:
        """Begin connecting, in a thread of its own."""
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._link is not None

    def room(self) -> int:
        """How many more messages may be published now: 0 while disconnected or the window is full."""
        if self._link is None:
            return 0
        return max(0, self._window - len(self._under_way) - len(self._waiting))

    def outstanding(self) -> int:
        """Messages handed over and not acknowledged yet."""
        return len(self._under_way) + len(self._waiting)

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send messages in order; without a connection they wait for the next one.

        The caller keeps the number bounded by asking `room` first.
        """
        if not messages:
            return
        with self._lock:
            self._waiting.extend(messages)
            self._push()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is acknowledged; False when the time ran out."""
        until = time.monotonic() + timeout_s
        with self._idle:
            while self._under_way or self._waiting:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._idle.wait(left)
        return True

    def close(self) -> None:
        """Disconnect; unacknowledged messages are forgotten (their source sends them again)."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        link = self._link
        if link is not None:
            link.goodbye()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _push(self) -> None:
        """Send what waits, as far as the window goes; the lock is held."""
        link = self._link
        if link is None:
            return
        out: list[bytes] = []
        while self._waiting and len(self._under_way) < self._window:
            take = self._waiting[: self._window - len(self._under_way)]
            del self._waiting[: len(take)]
            for message in take:
                mid = link.next_mid()
                while mid in self._under_way:
                    mid = link.next_mid()
                self._under_way[mid] = message
                out.append(
                    wire.publish(message.topic, message.payload, mid, version=link.version, retain=message.retain)
                )
        if out:
            try:
                link.send(b"".join(out))
            except LinkDown:
                self._link = None  # the publisher's thread notices, reconnects and sends them again

    def _run(self) -> None:
        waits = backoff()
        while not self._stop.is_set():
            try:
                link = Link(self._address, version=self._version)
            except WrongVersion:
                self._version = wire.V311
                self._stop.wait(0.1)
                continue
            except LinkDown as error:
                log.warning("no connection to the broker", extra={"detail": str(error)})
                self._stop.wait(next(waits))
                continue
            try:
                self._carry(link)
            except LinkDown as error:
                log.warning("connection to the broker lost", extra={"detail": str(error)})
            if time.monotonic() - link.opened > 5.0:
                waits = backoff()
            with self._lock:
                self._link = None
            if self._stop.is_set():
                link.goodbye()
            else:
                link.close()
                self._stop.wait(next(waits))

    def _carry(self, link: Link) -> None:
        if self._filters:
            link.subscribe(self._filters, qos=0, no_local=True)
        with self._lock:
            self._window = max(1, min(WINDOW, link.server_receive_maximum))
            self._waiting[:0] = self._under_way.values()
            self._under_way.clear()
            self._link = link
            self._push()
        log.info("connected to the broker", extra={"client_id": self._address.client_id})
        if self._on_connect is not None:
            self._on_connect()
        while not self._stop.is_set():
            if self._link is None:
                raise LinkDown("writing failed")
            for packet in link.read(0.2):
                if isinstance(packet, wire.Publish):
                    if self._on_message is not None:
                        self._on_message(packet)
                elif packet.kind == wire.PUBACK:
                    self._acknowledged(packet)
                elif packet.kind == wire.SUBACK:
                    refused = [code for code in wire.read_suback(packet.body, link.version)[1] if code >= 0x80]
                    if refused:
                        log.error(
                            "the broker refused a subscription; check its access rules",
                            extra={"filters": self._filters, "user": self._address.username},
                        )
                elif packet.kind == wire.DISCONNECT:
                    code = packet.body[0] if packet.body else 0
                    raise LinkDown(f"the broker ended the connection (reason code {code})")
            link.keep_alive()

    def _acknowledged(self, packet: wire.Control) -> None:
        mid, code = wire.read_ack(packet.body)
        with self._lock:
            message = self._under_way.pop(mid, None)
            if self._waiting:
                self._push()
            if not self._under_way and not self._waiting:
                self._idle.notify_all()
        if message is None:
            return
        if code >= 0x80:
            log.error(
                "the broker refused a message; check its access rules",
                extra={"topic": message.topic.decode("utf-8", "replace"), "code": code},
            )
        if message.done is not None:
            message.done()
