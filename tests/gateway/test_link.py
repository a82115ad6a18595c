"""A connection against brokers that misbehave: old, silent, rude, gone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from vitalgate.gateway import wire
from vitalgate.gateway.link import Address, Link, LinkDown, WrongVersion, service_client_id

Behaviour = Callable[[socket.socket, bytes], None]


class FakeBroker:
    """Accepts connections and hands each, with its CONNECT, to a function."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            self._behaviour(connection, connection.recv(4096))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def broker() -> Iterator[Callable[[Behaviour], FakeBroker]]:
    made: list[FakeBroker] = []

    def make(behaviour: Behaviour) -> FakeBroker:
        made.append(FakeBroker(behaviour))
        return made[-1]

    yield make
    for one in made:
        one.close()


def address(fake: FakeBroker, keepalive_s: int = 15) -> Address:
    return Address("127.0.0.1", fake.port, "c", "u", "p", keepalive_s=keepalive_s)


def accept(connection: socket.socket, connect: bytes) -> None:
    connection.sendall(b"\x20\x03\x01\x00\x00" if connect[8] == wire.V5 else b"\x20\x02\x01\x00")


def listen(link: Link, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert link.read(0.1) == []
        link.keep_alive()


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"])
def test_an_old_broker_is_spoken_to_in_its_own_version(
    broker: Callable[[Behaviour], FakeBroker], answer: bytes
) -> None:
    def old(connection: socket.socket, connect: bytes) -> None:
        if connect[8] == wire.V5:
            connection.sendall(answer)
            connection.close()
        else:
            accept(connection, connect)

    fake = broker(old)
    with pytest.raises(WrongVersion):
        Link(address(fake))
    link = Link(address(fake), version=wire.V311)
    assert link.session_present
    assert link.server_receive_maximum == 65_535
    link.goodbye()
    with pytest.raises(LinkDown, match="closed"):
        link.send(b"")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x20\x03\x00\x87\x00", "refused user 'u'"),
        (b"\xd0\x00", "something else"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not MQTT|something else|did not answer"),
        (b"\x30\xff\xff\xff\xff\x7f", "not MQTT"),
        (b"", "did not answer"),
    ],
)
def test_a_rude_broker_is_an_error_that_says_why(
    broker: Callable[[Behaviour], FakeBroker], answer: bytes, words: str
) -> None:
    fake = broker(lambda connection, _: connection.sendall(answer) if answer else None)
    with pytest.raises(LinkDown, match=words):
        Link(address(fake), timeout_s=0.5)


def test_a_silent_broker_is_noticed_by_its_missing_pong(broker: Callable[[Behaviour], FakeBroker]) -> None:
    fake = broker(accept)
    link = Link(address(fake, keepalive_s=1))
    with pytest.raises(LinkDown, match="silent"):
        listen(link, 10)
    assert fake.connections[0].recv(100).count(wire.PINGREQ) in (2, 3, 4)


def test_a_broker_that_goes_away_is_noticed_when_reading_and_writing(
    broker: Callable[[Behaviour], FakeBroker],
) -> None:
    fake = broker(accept)
    link = Link(address(fake))
    fake.close()
    with pytest.raises(LinkDown, match=r"closed|lost"):
        listen(link, 5)
    link.close()
    with pytest.raises(LinkDown, match="cannot reach"):
        Link(address(fake))


def test_a_service_s_client_id_is_fixed_and_cannot_be_guessed() -> None:
    one = service_client_id("vg-gateway-0", "secret")
    assert one == service_client_id("vg-gateway-0", "secret")
    assert one.startswith("vg-gateway-0-")
    assert one != service_client_id("vg-gateway-0", "other")
