"""Carries an outbox to the broker: sends what is due, again until its receipt, over one connection after another."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vitalgate.client.connection import Connection, Identity
from vitalgate.client.outbox import MemoryOutbox, Outbox, OutboxError
from vitalgate.client.protocol import (
    Key,
    Policy,
    Receipt,
    ReceiptError,
    Rejected,
    Tracker,
    declaration,
    message,
    read_receipt,
)

log = logging.getLogger(__name__)

#: Messages of the outbox that are looked at; the rest of a long backlog stays on the disk.
FRONT = 256
#: In place of a leaf: the message was given up, and its number is to be declared lost.
LOST = "lost"
_RETRY_FIRST_S = 0.5
_RETRY_CAP_S = 60.0
_CLOSE_S = 10.0


class CourierClosed(Exception):
    """Nothing is taken any more."""


class Courier:
    """One thread that carries; every method may be called from any thread.

    Parameters
    ----------
    cbor
        Declarations of lost numbers are CBOR; else JSON.
    on_receipt
        Called with each receipt and the messages that it refused for good, on the network thread.
    on_down
        Called with each payload of the `down` topic, on the network thread.
    """

    def __init__(
        self,
        identity: Identity,
        outbox: Outbox | MemoryOutbox,
        *,
        clock: Callable[[], float],
        encode: Callable[[Mapping[str, Any]], bytes],
        cbor: bool,
        policy: Policy | None,
        on_receipt: Callable[[Receipt, list[Rejected]], None],
        on_down: Callable[[bytes], None],
    ) -> None:
        self.device_id = identity.device_id
        self.outbox = outbox
        self._identity = identity
        self._clock, self._encode, self._cbor = clock, encode, cbor
        self._on_receipt, self._on_down = on_receipt, on_down
        self._tracker = Tracker(policy)
        self._changed = threading.Condition(threading.RLock())
        self.connected = False
        self._closing = False
        self._lost = False
        self._place = 0
        self._refill()
        self._thread = threading.Thread(target=self._run, name=f"device {self.device_id}", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def add(self, leaf: str, body: bytes) -> Key:
        """Put a message into the outbox, to be sent; its number. Raises CourierClosed, OutboxFull."""
        with self._changed:
            if self._closing:
                raise CourierClosed("the device is closed")
            key = self.outbox.add(leaf, body)
            self._refill()
            self._changed.notify_all()
        return key

    def declare_lost(self, key: Key) -> bool:
        """Give a message up for good and say so; False when it is not in the outbox."""
        with self._changed:
            replaced = self.outbox.replace(key, LOST, b"")
            if replaced:
                self._tracker.postpone(key, time.monotonic())
                self._changed.notify_all()
        return replaced

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until every message has its receipt; False when the time ran out."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while len(self.outbox):
                left = until - time.monotonic()
                if left <= 0 or self._closing:
                    return False
                self._changed.wait(left)
        return True

    def close(self) -> bool:
        """Disconnect; False when that was done before."""
        with self._changed:
            if self._closing:
                return False
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)
        return True

    # --- the thread -------------------------------------------------------------------------------------------------

    def _refill(self) -> None:
        """Have the oldest messages of the outbox in the tracker; the lock is held (or nobody else knows us yet)."""
        room = FRONT - len(self._tracker)
        if room <= 0:
            return
        now = time.monotonic()
        for place, key in self.outbox.front(self._place, room):
            self._place = place
            self._tracker.add(*key, now)

    def _run(self) -> None:
        wait = _RETRY_FIRST_S
        version, known = self._identity.version, False
        while not self._closing:
            started = time.monotonic()
            self._lost = False
            connection = Connection(
                replace(self._identity, version=version), clock=self._clock, encode=self._encode, on_up=self._up,
                on_gone=self._gone, on_message=self._arrived,
            )  # fmt: skip
            try:
                connection.open()
            except OSError as error:
                log.info("no connection to the broker", extra={"device": self.device_id, "detail": str(error)})
            else:
                self._serve(connection)
                connection.close()
                known = known or connection.answered
                if not known and self._lost:  # perhaps the broker does not know this version of MQTT
                    version = 4 if version == 5 else self._identity.version
            if time.monotonic() - started > 30:
                wait = _RETRY_FIRST_S
            with self._changed:
                self._changed.wait_for(lambda: self._closing, wait * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            wait = min(_RETRY_CAP_S, wait * 2)

    def _serve(self, connection: Connection) -> None:
        """Send what is due until the connection is lost or the device closes."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.connected or self._lost or self._closing, 10.0):
                return
            while not self._lost and not self._closing:
                now = time.monotonic()
                for key in self._tracker.due(now):
                    if not self._publish(connection, key, now):
                        break
                due = self._tracker.next_due()
                self._changed.wait(1.0 if due is None else min(1.0, max(0.001, due - time.monotonic())))
            self.connected = False
            self._tracker.disconnected()
        if not self._lost:
            connection.goodbye()

    def _publish(self, connection: Connection, key: Key, now: float) -> bool:
        stored = self.outbox.get(key)
        if stored is None:
            self._tracker.forget(key)
            return True
        if stored.leaf == LOST:
            leaf, payload = "status", declaration(*key, self._clock(), cbor=self._cbor)
        else:
            leaf, payload = stored.leaf, message(stored.body, *key, self._clock())
        if not connection.publish(leaf, payload):
            return False
        self._tracker.sent(key, now)
        return True

    # --- the connection's calls, on its thread ----------------------------------------------------------------------

    def _up(self) -> None:
        with self._changed:
            self.connected = True
            self._tracker.connected(time.monotonic())
            self._changed.notify_all()

    def _gone(self) -> None:
        with self._changed:
            self.connected = False
            self._lost = True
            self._changed.notify_all()

    def _arrived(self, leaf: str, payload: bytes) -> None:
        if leaf == "down":
            self._on_down(payload)
            return
        try:
            receipt = read_receipt(payload)
        except ReceiptError as error:
            log.warning("a receipt could not be read", extra={"device": self.device_id, "detail": str(error)})
            return
        with self._changed:
            if self._closing:
                return
            try:
                settled = self.outbox.settle(receipt)
            except OutboxError as error:  # sent again, and receipted again
                log.error("a receipt could not be noted", extra={"device": self.device_id, "detail": str(error)})
                return
            self._tracker.receipt(receipt)
            self._refill()
            self._changed.notify_all()
        for item in settled.rejected:
            log.warning(
                "a message was refused", extra={"device": self.device_id, "seq": item.seq, "reason": item.reason}
            )
        self._on_receipt(receipt, list(settled.rejected))
