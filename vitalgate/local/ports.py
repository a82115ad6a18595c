"""Ports on the loopback interface: the preferred one, the one of last time, or a free one."""

from __future__ import annotations

import random
import socket
import threading

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
    """Hands out ports by name, remembers them, and gives none twice."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._given: set[int] = set()
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
                if port and port not in self._given and is_free(port):
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
            if port in self._given or not is_free(port):
                raise StackError(
                    f"{setting} is {port}, which something on {HOST} already uses; stop that, or leave {setting} out "
                    "and a free port is found"
                )
            self._given.add(port)
            return port
