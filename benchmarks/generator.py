"""A load generator that costs little: QoS 1 publishes written to a few sockets in large pieces.

It stands for many devices, so that the machine's time goes to what is measured. It speaks just enough MQTT 3.1.1 to
connect, publish at QoS 1 with a bounded number unacknowledged, and count PUBACKs; it is no client for anything else.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass
class Sent:
    """What a run of the generator did."""

    messages: int
    acknowledged: int
    seconds: float


def _length(value: int) -> bytes:
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


class Connection:
    """One MQTT connection that publishes at QoS 1.

    Raises
    ------
    ConnectionError
        When the broker refuses the connection or closes it.
    """

    def __init__(self, host: str, port: int, client_id: str, username: str, password: str) -> None:
        self._socket = socket.create_connection((host, port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = _text("MQTT") + bytes([4, 0xC2]) + struct.pack(">H", 600)
        body += _text(client_id) + _text(username) + _text(password)
        self._socket.sendall(b"\x10" + _length(len(body)) + body)
        answer = self._socket.recv(4)
        if len(answer) < 4 or answer[3] != 0:
            raise ConnectionError(f"the broker refused {username}: CONNACK {answer.hex()}")
        self._mid = 0
        self._rest = b""
        self.sent = 0
        self.acknowledged = 0

    def publish(self, messages: Iterable[tuple[str, bytes]]) -> int:
        """Write these (topic, payload) at once; returns how many."""
        out = bytearray()
        count = 0
        for topic, payload in messages:
            self._mid = self._mid % 65535 + 1
            head = _text(topic) + struct.pack(">H", self._mid)
            out += b"\x32" + _length(len(head) + len(payload)) + head + payload
            count += 1
        self._socket.sendall(out)
        self.sent += count
        return count

    def drain(self, wait: float = 0.0) -> None:
        """Count the PUBACKs that are there, waiting at most `wait` seconds for the first."""
        self._socket.settimeout(wait or 0.000001)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return
        finally:
            self._socket.settimeout(10)
        if not data:
            raise ConnectionError("the broker closed the generator's connection")
        data = self._rest + data
        whole = len(data) // 4 * 4
        self.acknowledged += whole // 4
        self._rest = data[whole:]

    def close(self) -> None:
        """Disconnect."""
        self._socket.sendall(b"\xe0\x00")
        self._socket.close()


def send(
    connections: list[Connection],
    messages: Iterator[tuple[str, bytes]],
    total: int,
    rate: float | None,
    window: int = 2000,
) -> Sent:
    """Publish `total` messages over the connections in turn.

    Parameters
    ----------
    rate
        Messages a second, or None for as fast as the broker acknowledges.
    window
        Messages unacknowledged on one connection at most.
    """
    start = time.monotonic()
    done = 0
    turn = 0
    while done < total:
        connection = connections[turn % len(connections)]
        turn += 1
        connection.drain()
        room = window - (connection.sent - connection.acknowledged)
        due = total if rate is None else min(total, int((time.monotonic() - start) * rate) + 1)
        count = min(room, due - done, 200)
        if count <= 0:
            if room <= 0:
                connection.drain(0.05)
            else:
                time.sleep(0.001)
            continue
        done += connection.publish(next(messages) for _ in range(count))
    deadline = time.monotonic() + 30
    while any(c.acknowledged < c.sent for c in connections) and time.monotonic() < deadline:
        for connection in connections:
            connection.drain(0.01)
    return Sent(done, sum(c.acknowledged for c in connections), time.monotonic() - start)
