"""One MQTT connection: connect, read packets in bulk, write. A new connection is a new object (a new generation)."""

from __future__ import annotations

import hashlib
import random
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from vitalgate.gateway import wire

CHUNK = 262_144
#: CONNACK codes by which a broker says that it does not speak the version asked for.
_WRONG_VERSION = (0x01, 0x84)


class LinkDown(Exception):
    """The connection is gone or was refused; the text says why."""


class WrongVersion(LinkDown):
    """The broker does not speak this version of MQTT."""


@dataclass(frozen=True)
class Address:
    """Where the broker is, and who we are there."""

    host: str
    port: int
    client_id: str
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    keepalive_s: int = 15
    clean: bool = False
    session_expiry_s: int = 0
    receive_maximum: int = 65_535
    limit: int = 1_048_576
    """Payload bytes above which a message arrives cut (`wire.Parser`)."""


def service_client_id(name: str, password: str) -> str:
    """A fixed client id that only somebody who knows the service's password can guess.

    MQTT lets any user who may connect take over a session by using its client id, and a device that did so to a
    gateway would throw away what is queued for it.
    """
    return f"{name}-{hashlib.blake2b(password.encode(), digest_size=5, person=b'vg-client-id').hexdigest()}"


def backoff(first: float = 0.2, cap: float = 10.0) -> Iterator[float]:
    """Waits between attempts, doubling to `cap`, each with full jitter in its upper half."""
    wait = first
    while True:
        yield wait * random.uniform(0.5, 1.0)  # noqa: S311  no secret
        wait = min(cap, wait * 2)


class Link:
    """An open connection. One thread reads; any thread may write.

    Raises `LinkDown` from every method once the connection is unusable. `session_present` tells whether the broker
    still had our session; `server_receive_maximum` how many QoS 1 messages it takes unacknowledged from us.
    """

    def __init__(self, address: Address, *, version: int = wire.V5, timeout_s: float = 5.0) -> None:
        self.version = version
        self._address = address
        self._lock = threading.Lock()
        self._closed = False
        self._mid = 0
        try:
            sock = socket.create_connection((address.host, address.port), timeout=timeout_s)
        except OSError as error:
            raise LinkDown(f"cannot reach the broker at {address.host}:{address.port}: {error}") from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls is not None:
                sock = address.tls.wrap_socket(sock, server_hostname=address.host)
        except OSError as error:
            sock.close()
            raise LinkDown(f"cannot set up the connection to {address.host}:{address.port}: {error}") from error
        self._sock = sock
        self._parser = wire.Parser(version, address.limit)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._early: list[wire.Packet] = []
        self.opened = self.last_read = self.last_write = self._last_ping = time.monotonic()
        try:
            self.send(
                wire.connect(
                    address.client_id,
                    address.username,
                    address.password,
                    version=version,
                    keepalive_s=address.keepalive_s,
                    clean=address.clean,
                    session_expiry_s=address.session_expiry_s,
                    receive_maximum=address.receive_maximum,
                )
            )
            answer = self._connack(timeout_s)
        except LinkDown:
            self.close()
            raise
        self.session_present = answer.session_present
        self.server_receive_maximum = int(answer.properties.get(wire.RECEIVE_MAXIMUM, 65_535))
        self.keepalive_s = int(answer.properties.get(wire.SERVER_KEEP_ALIVE, address.keepalive_s))
        self._sock.settimeout(10.0)

    def _connack(self, timeout_s: float) -> wire.Connack:
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            packets = self.read(left)
            if not packets:
                continue
            first = packets[0]
            if not isinstance(first, wire.Control) or first.kind != wire.CONNACK:
                raise LinkDown("the broker answered CONNECT with something else")
            answer = wire.read_connack(first.body, self.version)
            where = f"{self._address.host}:{self._address.port}"
            if answer.code in _WRONG_VERSION:
                raise WrongVersion(f"the broker at {where} does not speak MQTT version level {self.version}")
            if answer.code:
                raise LinkDown(
                    f"the broker at {where} refused user {self._address.username!r} (code {answer.code}): check the "
                    "user name, its password file and the broker's access rules"
                )
            self._early = packets[1:]
            return answer
        raise LinkDown(f"the broker at {self._address.host}:{self._address.port} did not answer in {timeout_s} s")

    def next_mid(self) -> int:
        """A packet identifier; the caller knows which are in use."""
        self._mid = self._mid % 65_535 + 1
        return self._mid

    def read(self, timeout_s: float) -> list[wire.Packet]:
        """The packets that arrive within the time; an empty list when none is complete. Pings are answered for."""
        if self._early:
            early, self._early = self._early, []
            return early
        try:
            pending = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0
            if not pending and not self._poll.poll(max(0.0, timeout_s) * 1000):
                return []
            data = self._sock.recv(CHUNK)
        except (TimeoutError, ssl.SSLWantReadError):
            return []
        except (OSError, ValueError) as error:
            raise LinkDown(f"connection to the broker lost: {error}") from error
        if not data:
            raise LinkDown("the broker closed the connection")
        self.last_read = time.monotonic()
        try:
            return self._parser.feed(data)
        except (wire.WireError, IndexError, struct.error) as error:
            raise LinkDown(f"the broker sent bytes that are not MQTT: {error}") from error

    def send(self, data: bytes) -> None:
        """Write whole packets."""
        with self._lock:
            if self._closed:
                raise LinkDown("the connection is closed")
            try:
                self._sock.sendall(data)
            except (OSError, ValueError) as error:
                self._closed = True
                raise LinkDown(f"connection to the broker lost while writing: {error}") from error
            self.last_write = time.monotonic()

    def keep_alive(self, *, reading: bool = True) -> None:
        """Ping when due; raise when the broker has been silent for two intervals (only while we read)."""
        now = time.monotonic()
        if reading and now - self.last_read > 2 * self.keepalive_s:
            self.close()
            raise LinkDown(f"the broker has been silent for {now - self.last_read:.0f} s")
        quiet = now - min(self.last_write, self.last_read if reading else now)
        if min(quiet, now - self._last_ping) > self.keepalive_s / 2:
            self._last_ping = now
            self.send(wire.PINGREQ)

    def subscribe(self, filters: list[str], *, qos: int = 1, live: bool = False, no_local: bool = False) -> int:
        """Ask for topics; returns the packet identifier that SUBACK will carry."""
        mid = self.next_mid()
        self.send(wire.subscribe(mid, filters, version=self.version, qos=qos, live=live, no_local=no_local))
        return mid

    def unsubscribe(self, filters: list[str]) -> int:
        """Ask for topics no more; returns the packet identifier that UNSUBACK will carry."""
        mid = self.next_mid()
        self.send(wire.unsubscribe(mid, filters, version=self.version))
        return mid

    def goodbye(self, *, session_expiry_s: int | None = None) -> None:
        """DISCONNECT and close; never raises."""
        try:
            self.send(wire.disconnect(version=self.version, session_expiry_s=session_expiry_s))
            self._sock.shutdown(socket.SHUT_WR)
        except (LinkDown, OSError):
            pass
        self.close()

    def close(self) -> None:
        """Close without a word to the broker (it publishes the last will, keeps a persistent session)."""
        with self._lock:
            self._closed = True
        self._sock.close()
