"""A connection against brokers that misbehave: old, silent, rude, gone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as mqtt
import pytest

from vitalgate.gateway.address import Address, service_client_id
from vitalgate.gateway.link import Link, LinkDown, open_link

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
    connection.sendall(b"\x20\x03\x01\x00\x00" if connect[8] == 5 else b"\x20\x02\x01\x00")


def accept_and_send(data: bytes) -> Behaviour:
    def behave(connection: socket.socket, connect: bytes) -> None:
        accept(connection, connect)
        connection.sendall(data)

    return behave


def listen(link: Link, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert link.step(0.1) == 0


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"])
def test_an_old_broker_is_spoken_to_in_its_own_version(
    broker: Callable[[Behaviour], FakeBroker], answer: bytes
) -> None:
    def old(connection: socket.socket, connect: bytes) -> None:
        if connect[8] == 5:
            connection.sendall(answer)
            connection.close()
        else:
            accept(connection, connect)

    fake = broker(old)
    link = open_link(address(fake))
    assert link.version == 4
    assert link.session_present
    assert link.receive_maximum == 65_535
    link.goodbye()
    with pytest.raises(LinkDown, match=r"closed|lost"):
        link.step(0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x20\x03\x00\x87\x00", "refused user 'u'"),
        (b"\xd0\x00", "did not answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "did not answer|lost"),
        (b"\x30\xff\xff\xff\xff\x7f", "lost"),
        (b"\x20\x00", "lost"),
        (b"", "did not answer"),
    ],
)
def test_a_rude_broker_is_an_error_that_says_why(
    broker: Callable[[Behaviour], FakeBroker], answer: bytes, words: str
) -> None:
    fake = broker(lambda connection, _: connection.sendall(answer) if answer else None)
    with pytest.raises(LinkDown, match=words):
        open_link(address(fake), timeout_s=0.5)


def test_a_silent_broker_is_noticed_by_its_missing_pong(broker: Callable[[Behaviour], FakeBroker]) -> None:
    fake = broker(accept)
    link = Link(address(fake, keepalive_s=1))
    with pytest.raises(LinkDown, match="Keep alive"):
        listen(link, 10)
    assert b"\xc0\x00" in fake.connections[0].recv(100)


def test_a_connection_that_is_held_stays_alive_without_reading(broker: Callable[[Behaviour], FakeBroker]) -> None:
    fake = broker(accept)
    link = Link(address(fake, keepalive_s=1))
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        link.hold()
        time.sleep(0.05)
    said = fake.connections[0].recv(1000)
    assert said.count(b"vitalgate/nothing") in (3, 4, 5)  # one each half keep-alive


def publish(mid: int, text: bytes) -> bytes:
    body = b"\x00\x01t" + mid.to_bytes(2, "big") + b"\x00" + text
    return b"\x32" + bytes([len(body)]) + body


def test_messages_are_acknowledged_in_order_on_their_own_connection_and_no_other(
    broker: Callable[[Behaviour], FakeBroker],
) -> None:
    fake = broker(accept_and_send(b"".join(publish(mid, b"%d" % mid) for mid in (7, 8, 9))))
    got: list[mqtt.MQTTMessage] = []
    first = Link(address(fake), on_message=got.append, manual_ack=True)
    while len(got) < 3:
        first.step(1.0, most=2)
    first.acknowledge([7, 8])
    assert fake.connections[0].recv(100) == b"\x40\x02\x00\x07\x40\x02\x00\x08"
    fake.connections[0].close()
    with pytest.raises(LinkDown):
        listen(first, 5)
    second = Link(address(fake), on_message=got.append, manual_ack=True)
    while len(got) < 6:
        second.step(1.0)
    with pytest.raises(LinkDown):
        first.acknowledge([9])
    second.acknowledge([7])
    assert fake.connections[1].recv(100) == b"\x40\x02\x00\x07"
    second.close()


def test_reading_ends_when_there_is_no_more_room(broker: Callable[[Behaviour], FakeBroker]) -> None:
    fake = broker(accept_and_send(b"".join(publish(mid, b"x") for mid in range(1, 51))))
    got: list[mqtt.MQTTMessage] = []
    link = Link(address(fake), on_message=got.append, manual_ack=True)
    while len(got) < 20:
        link.step(1.0, go_on=lambda: len(got) < 20)
    assert len(got) == 20
    while len(got) < 50:
        link.step(1.0)
    assert [message.mid for message in got] == list(range(1, 51))
    link.close()


def test_another_thread_wakes_a_waiting_one(broker: Callable[[Behaviour], FakeBroker]) -> None:
    link = Link(address(broker(accept)))
    for _ in range(3):
        threading.Timer(0.1, link.wake).start()
        start = time.monotonic()
        link.step(10.0)
        assert time.monotonic() - start < 5.0
    link.close()
    link.wake()


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
