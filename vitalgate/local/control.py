"""Talk to a running stack: its status, and stopping and starting it or one process of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from vitalgate.local.errors import StackError
from vitalgate.local.layout import Layout

_TIMEOUT_S = 60.0


class Commands(Protocol):
    """What the control socket serves."""

    async def command(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command."""


class Control:
    """The supervisor's end: one JSON request a connection, one JSON answer."""

    def __init__(self, path: Path, commands: Commands) -> None:
        self._path = path
        self._commands = commands
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; the socket is for its owner alone."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, path=self._path)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening."""
        if self._server:  # else the socket is another supervisor's
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            answer = await self._commands.command(request.pop("command"), request)
        except StackError as error:
            answer = {"error": str(error)}
        except (ValueError, KeyError):
            answer = {"error": "not a control request"}
        try:
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


async def answers(path: Path) -> bool:
    """Whether a supervisor listens on this socket."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


def _ask(data: Path | str, command: str, *, timeout_s: float = _TIMEOUT_S, **arguments: Any) -> dict[str, Any]:
    layout = Layout.at(data)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(layout.control))
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError as error:
            raise NotRunningError(
                f"no stack is running in {layout.data}; start it with `vitalgate up --detach`, or say where with --data"
            ) from error
    document = json.loads(answer) if answer else {"error": f"the supervisor ended before it answered {command!r}"}
    if "error" in document:
        raise StackError(document["error"])
    return dict(document)


class NotRunningError(StackError):
    """No supervisor answers in this data directory."""


def status(data: Path | str, *, figures: bool = False) -> dict[str, Any]:
    """What `vitalgate status --json` prints; without ``figures`` nothing is read off the processes' metrics."""
    return _ask(data, "status", figures=figures)


def stop(data: Path | str, timeout_s: float = 60.0) -> None:
    """Stop the whole stack and wait until its supervisor is gone.

    Raises
    ------
    StackError
        When none is running, or it does not end in time.
    """
    pid = int(_ask(data, "stop")["pid"])
    until = time.monotonic() + timeout_s
    while _alive(pid):
        if time.monotonic() > until:
            raise StackError(f"the supervisor (process {pid}) did not end within {timeout_s:g} s")
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def stop_process(data: Path | str, name: str) -> None:
    """Stop one process and keep it stopped."""
    _ask(data, "stop_process", name=name)


def start_process(data: Path | str, name: str, wait_s: float = 30.0) -> None:
    """Start one process that was stopped, and wait until it is ready (0: do not wait)."""
    _ask(data, "start_process", name=name, wait=wait_s, timeout_s=wait_s + 5)


def kill_process(data: Path | str, name: str, number: int = signal.SIGKILL) -> None:
    """Send a signal to one process, as an accident would; the supervisor starts it again."""
    _ask(data, "kill_process", name=name, signal=int(number))


def wait_until(data: Path | str, met: Callable[[dict[str, Any]], bool], timeout_s: float = 30.0) -> dict[str, Any]:
    """Ask for the status until a condition is met.

    Raises
    ------
    StackError
        When it is not met in time.
    """
    until = time.monotonic() + timeout_s
    while True:
        document = status(data)
        if met(document):
            return document
        if time.monotonic() > until:
            raise StackError(f"the stack in {data} did not reach the wished state within {timeout_s:g} s: {document}")
        time.sleep(0.1)
