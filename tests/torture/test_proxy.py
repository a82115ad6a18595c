"""The fault proxy: what it does to connections, to whose, and how little it holds meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from vitalgate.torture.proxy import CHUNK, Proxy, ProxyThread, Trouble, ports_of


class Echo:
    """A server that sends everything back."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self.read = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(65_536):
                self.read += len(data)
                connection.sendall(data)
        except OSError:
            pass


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listening.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    thread = ProxyThread()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    yield thread.add(port, ("127.0.0.1", echo.port), random.Random(1))
    thread.close()


def connect(proxy: Proxy) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    connection.settimeout(5)
    return connection


def ask(connection: socket.socket, text: bytes = b"hello") -> bytes:
    connection.sendall(text)
    return connection.recv(100)


def ask_in_vain(connection: socket.socket) -> None:
    """Asks until the connection says that it is gone."""
    for _ in range(200):
        if not ask(connection):
            raise ConnectionResetError


def hear_the_end(connection: socket.socket) -> None:
    """Reads the end of a connection that is reset."""
    if connection.recv(10) == b"":
        raise ConnectionResetError


def connect_in_vain(proxy: Proxy) -> None:
    """Connects to whoever does not want it."""
    with connect(proxy) as refused:
        ask_in_vain(refused)


def fill(connection: socket.socket) -> int:
    """Sends until nothing goes any more; how much went."""
    connection.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 200 * 1024 * 1024:
            sent += connection.send(b"x" * CHUNK)
    return sent


def test_it_passes_on_and_closes_with_its_client(proxy: Proxy) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        assert ask(one, b"one") == b"one"
        assert ask(other, b"other") == b"other"
        one.shutdown(socket.SHUT_WR)
        assert one.recv(10) == b""


def test_a_cut_resets_what_is_open_refuses_what_is_new_and_ends(proxy: Proxy) -> None:
    with connect(proxy) as one:
        assert ask(one) == b"hello"
        proxy.trouble(Trouble("cut"))
        with pytest.raises(ConnectionError):
            ask_in_vain(one)
    with pytest.raises(ConnectionError):
        connect_in_vain(proxy)
    proxy.calm()
    with connect(proxy) as again:
        assert ask(again) == b"hello"


def test_a_delay_is_added_both_ways(proxy: Proxy) -> None:
    with connect(proxy) as one:
        assert ask(one) == b"hello"
        proxy.trouble(Trouble("delay", delay_s=0.15))
        began = time.monotonic()
        assert ask(one) == b"hello"
        assert time.monotonic() - began >= 0.3


def test_loss_resets_in_the_end(proxy: Proxy) -> None:
    proxy.trouble(Trouble("loss", resets_per_s=10))
    with connect(proxy) as one, pytest.raises(ConnectionError):
        ask_in_vain(one)


def test_a_stall_is_bounded(proxy: Proxy, echo: Echo) -> None:
    """Nothing comes through, the sender is held up, and all of it arrives afterwards."""
    with connect(proxy) as one:
        assert ask(one) == b"hello"
        proxy.trouble(Trouble("stall"))
        sent = fill(one)
        assert sent < 32 * 1024 * 1024  # the kernel's buffers and one chunk, no more
        assert echo.read == 5
        proxy.calm()
        one.settimeout(10)
        got = 0
        while got < sent:
            got += len(one.recv(CHUNK))


def test_half_open_swallows_requests_and_resets_when_it_is_over(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as one:
        assert ask(one) == b"hello"
        proxy.trouble(Trouble("half-open"))
        one.sendall(b"into the void")
        time.sleep(0.2)
        assert echo.read == 5
        proxy.calm()
        with pytest.raises(ConnectionError):
            hear_the_end(one)


def test_trouble_may_be_one_process_s_alone(proxy: Proxy) -> None:
    with subprocess.Popen(["sleep", "30"]) as other, connect(proxy) as ours:
        assert ask(ours) == b"hello"
        assert ours.getsockname()[1] in ports_of(os.getpid())
        proxy.trouble(Trouble("cut", pid=other.pid))
        assert ask(ours) == b"hello"
        proxy.trouble(Trouble("cut", pid=os.getpid()))
        with pytest.raises(ConnectionError):
            ask_in_vain(ours)
        other.kill()
