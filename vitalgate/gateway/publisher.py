"""QoS 1 to the broker from one process: reconnects, sends again what was not acknowledged, bounded in flight."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.reasoncodes import ReasonCode

from vitalgate.gateway.address import Address, backoff
from vitalgate.gateway.link import Link, LinkDown, open_link

log = logging.getLogger(__name__)

#: Messages without PUBACK at most; fewer when the broker's receive maximum is smaller.
WINDOW = 2000


class Outgoing(NamedTuple):
    """One message to publish; `done` is called once, when the broker has acknowledged it."""

    topic: str
    payload: bytes
    retain: bool = False
    done: Callable[[], None] | None = None
    correlation: bytes = b""
    """MQTT 5 correlation data, on the answer to a request."""


class Publisher:
    """A connection that publishes at QoS 1, with a clean session.

    Parameters
    ----------
    address
        Where to connect; one client id each.
    filters
        Subscribed (QoS 0, in MQTT 5 without our own messages) at each connection; a function is asked each time.
    on_connect, on_message
        Called on the publisher's own thread: after every connection, and for every message of `filters`. They may
        call `publish` but must not wait.
    """

    def __init__(
        self,
        address: Address,
        *,
        filters: Sequence[str] | Callable[[], Sequence[str]] = (),
        on_connect: Callable[[], None] | None = None,
        on_message: Callable[[mqtt.MQTTMessage], None] | None = None,
    ) -> None:
        self._address = address
        self._filters = filters if callable(filters) else lambda: filters
        self._on_connect = on_connect
        self._on_message = on_message
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._link: Link | None = None
        self._under_way: dict[int, Outgoing] = {}
        self._waiting: deque[Outgoing] = deque()
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
        link = self._link
        if link is not None:
            link.wake()

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
        link = self._link
        if link is not None:
            link.wake()
        if self._thread.is_alive():
            self._thread.join(2.0)

    # --- the publisher's thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        waits = backoff()
        while not self._stop.is_set():
            try:
                link = open_link(self._address, on_message=self._on_message, on_published=self._published)
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
            self._link = None
            if self._stop.is_set():
                link.goodbye()
            else:
                link.close()
                self._stop.wait(next(waits))

    def _carry(self, link: Link) -> None:
        filters = self._filters()
        if filters:
            link.subscribe(filters, qos=0, no_local=True)
        with self._lock:
            self._window = max(1, min(WINDOW, link.receive_maximum))
            self._waiting.extendleft(reversed(self._under_way.values()))
            self._under_way.clear()
            self._link = link
        log.info("connected to the broker", extra={"client_id": self._address.client_id})
        if self._on_connect is not None:
            self._on_connect()
        told = False
        while not self._stop.is_set():
            self._push(link)
            link.step(0.2)
            if link.refused and not told:
                told = True
                log.error(
                    "the broker refused a subscription; check its access rules",
                    extra={"filters": link.refused, "user": self._address.username},
                )

    def _push(self, link: Link) -> None:
        """Hand over what waits, as far as the window goes."""
        with self._lock:
            while self._waiting and len(self._under_way) < self._window:
                message = self._waiting[0]
                mid = link.publish(
                    message.topic, message.payload, retain=message.retain, correlation=message.correlation
                )
                self._under_way[mid] = self._waiting.popleft()

    def _published(self, mid: int, reason: ReasonCode) -> None:
        with self._lock:
            message = self._under_way.pop(mid, None)
            if not self._under_way and not self._waiting:
                self._idle.notify_all()
        if message is None:
            return
        if reason.is_failure:
            log.error(
                "the broker refused a message; check its access rules",
                extra={"topic": message.topic, "reason": str(reason)},
            )
        if message.done is not None:
            message.done()
