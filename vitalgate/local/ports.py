"""Ports on the loopback interface: the preferred one, the one of last time, or a free one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
import threading
from pathlib import Path
from typing import TextIO

from vitalgate.local.errors import StackError
from vitalgate.local.layout import State

HOST = "127.0.0.1"
#: Below what operating systems hand out to outgoing connections (32768 on Linux, 49152 on macOS).
_RANGE = (20000, 32000)
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class Ports:
    """Hands out ports by name, remembers them, and gives none twice.

    A server needs seconds until it listens. So that another stack of the same user, started meanwhile, does not choose
    the same port, each one given is claimed by a lock on a file, which ends with the process.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._given: set[int] = set()
        self._claims: list[TextIO] = []
        self._lock = threading.Lock()

    def take(self, name: str, preferred: int | None = None) -> int:
        """A free port: that of last time, else the preferred one, else any.

        Raises
        ------
        StackError
            When no free port was found.
        """
        with self._lock:
            remembered: dict[str, int] = dict(self._state.get("ports") or {})
            candidates = [remembered.get(name), preferred]
            candidates += [random.randint(*_RANGE) for _ in range(_TRIES)]  # noqa: S311  no secret
            for port in candidates:
                if port and port not in self._given and is_free(port) and self._claim(port):
                    self._given.add(port)
                    self._state.set("ports", {**remembered, name: port})
                    return port
        raise StackError(f"no free port on {HOST} in {_RANGE[0]}-{_RANGE[1]} for {name}; stop what occupies them")

    def take_exactly(self, setting: str, port: int) -> int:
        """The port that the user named, or an error: whoever names one relies on it.

        Raises
        ------
        StackError
            When something else listens on it.
        """
        with self._lock:
            if port in self._given or not is_free(port) or not self._claim(port):
                raise StackError(
                    f"{setting} is {port}, which something on {HOST} already uses; stop that, or leave {setting} out "
                    "and a free port is found"
                )
            self._given.add(port)
            return port

    def _claim(self, port: int) -> bool:
        """Lock this port's file; False when another process holds it. Where that cannot be, the port counts as ours."""
        folder = Path(tempfile.gettempdir()) / f"vitalgate-ports-{os.getuid()}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            file = (folder / str(port)).open("w", encoding="ascii")
        except OSError:
            return True
        with contextlib.ExitStack() as stack:
            stack.enter_context(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._claims.append(file)
            stack.pop_all()
        return True
