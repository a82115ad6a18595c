"""A small TCP proxy between two parts, which can cut, refuse, delay, lose, stall and half-open their connections."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Mode = Literal["pass", "cut", "delay", "loss", "stall", "half-open"]
_T = TypeVar("_T")

#: Bytes that are on the way through in one direction of one connection, at most: the proxy is a bounded queue too.
CHUNK = 65_536
_TURN_S = 0.05
_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Trouble:
    """What the proxy does to connections, and to whose."""

    mode: Mode = "pass"
    delay_s: float = 0.0
    """Added to each chunk in each direction (delay)."""
    resets_per_s: float = 0.0
    """How often a connection is reset, on average (loss: TCP shows its user a lost network as a reset)."""
    pid: int | None = None
    """Only connections of this process; everybody's when None."""

    def __str__(self) -> str:
        more = {"delay": f" of {self.delay_s:g} s", "loss": f", {self.resets_per_s:g} resets/s"}.get(self.mode, "")
        return self.mode + more


_PASS = Trouble()


@dataclass(eq=False)
class _Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    port: int
    """The client's own port, by which its process is found."""
    hit: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def abort(self) -> None:
        """Reset both sides: nothing that is in a buffer arrives."""
        for writer in (self.client, self.server):
            raw = writer.get_extra_info("socket")
            if raw is not None:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            writer.transport.abort()
        for task in self.tasks:
            task.cancel()


class Proxy:
    """Listens on a port of its own and passes on to another; all its doings are on the `ProxyThread`'s loop."""

    def __init__(self, thread: ProxyThread, port: int, to: tuple[str, int], chance: random.Random) -> None:
        self.port = port
        self.accepted = 0
        self._thread = thread
        self._to = to
        self._chance = chance
        self._trouble = _PASS
        self._flow = asyncio.Event()
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        """Listen."""
        self._thread.call(self._open())

    def trouble(self, trouble: Trouble) -> None:
        """Begin to make trouble."""
        self._thread.call(self._set(trouble))

    def calm(self) -> None:
        """Stop it. What was half-open is reset now; what was stalled flows again."""
        self._thread.call(self._set(_PASS))

    def stop(self) -> None:
        """Close everything."""
        self._thread.call(self._close())

    async def _open(self) -> None:
        self._flow.set()
        self._server = await asyncio.start_server(self._serve, _HOST, self.port, limit=CHUNK)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.abort()

    async def _set(self, trouble: Trouble) -> None:
        before, self._trouble = self._trouble, trouble
        if before.mode == "half-open":
            for link in [one for one in self._links if one.hit]:
                link.abort()
        for link in self._links:
            link.hit = self._concerns(link.port)
        if trouble.mode == "cut":
            for link in [one for one in self._links if one.hit]:
                link.abort()
        if trouble.mode == "pass":
            self._flow.set()
        else:
            self._flow.clear()

    def _concerns(self, port: int) -> bool:
        if self._trouble.mode == "pass":
            return False
        return self._trouble.pid is None or port in ports_of(self._trouble.pid)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        port = int(writer.get_extra_info("peername")[1])
        hit = self._concerns(port)
        try:
            if hit and self._trouble.mode == "cut":
                raise ConnectionRefusedError
            server_reader, server = await asyncio.open_connection(*self._to, limit=CHUNK)
        except OSError:
            _reset(writer)
            return
        for one in (writer, server):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.transport.set_write_buffer_limits(high=CHUNK)
        link = _Link(writer, server, port, hit)
        self._links.add(link)
        link.tasks = [
            asyncio.create_task(self._pump(link, reader, server, up=True)),
            asyncio.create_task(self._pump(link, server_reader, writer, up=False)),
        ]
        await asyncio.wait(link.tasks)
        self._links.discard(link)
        for one in (writer, server):
            one.close()

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        try:
            while data := await reader.read(CHUNK):
                if link.hit:
                    await self._suffer(link, up=up)
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            link.abort()
        except asyncio.CancelledError:
            pass

    async def _suffer(self, link: _Link, *, up: bool) -> None:
        trouble = self._trouble
        if trouble.mode == "delay":
            await asyncio.sleep(trouble.delay_s)
        elif trouble.mode == "loss":
            if self._chance.random() < trouble.resets_per_s * _TURN_S:
                raise ConnectionResetError
            await asyncio.sleep(self._chance.uniform(0, _TURN_S))
        elif trouble.mode == "stall" or (trouble.mode == "half-open" and up):
            await self._flow.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()


def ports_of(pid: int) -> set[int]:
    """The local TCP ports of a process and its children; none when it is gone."""
    import psutil

    found: set[int] = set()
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                found |= {connection.laddr.port for connection in one.net_connections("tcp4")}
    return found


class ProxyThread:
    """An event loop in a thread of its own, so that a busy test does not slow the connections down."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self._proxies: list[Proxy] = []

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run on the loop and wait for the outcome."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def add(self, port: int, to: tuple[str, int], chance: random.Random) -> Proxy:
        """A proxy on this port, listening."""

        async def make() -> Proxy:
            return Proxy(self, port, to, chance)

        proxy = self.call(make())
        proxy.start()
        self._proxies.append(proxy)
        return proxy

    def close(self) -> None:
        """Close all proxies and end the thread."""
        for proxy in self._proxies:
            proxy.stop()
        stop: Callable[[], None] = self._loop.stop
        self._loop.call_soon_threadsafe(stop)
        self._thread.join(5)
