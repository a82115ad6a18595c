"""Vitalgate's own processes, as the one-machine stack runs them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from vitalgate.local import probes
from vitalgate.local.child import Spec
from vitalgate.local.errors import StackError
from vitalgate.local.ports import HOST, Ports

WORKERS = ("intake", "recorder", "analysis", "alerting", "handover", "auditor", "archiver")


@dataclass(frozen=True)
class Process:
    """One of our processes: its name in the stack and its command."""

    name: str
    arguments: tuple[str, ...]
    slot: int = 0


#: In the order of the data's way; stopped in the reverse order.
ALL = (
    Process("api", ("api",)),
    *(Process(name, ("worker", name)) for name in reversed(WORKERS)),
    Process("registrar", ("registrar",)),
    Process("notifier", ("notifier",)),
    Process("gateway", ("gateway",)),
)


#: Processes that may run more than once, with the setting that tells one from the other.
_SLOT = {
    "api": "",  # told apart by its port alone
    "gateway": "VITALGATE_GATEWAY_SLOT",
    **dict.fromkeys(WORKERS, "VITALGATE_WORKER_SLOT"),
}
#: The auditor makes one chain; a second one would have nothing to do.
_SINGLE = ("auditor",)


def with_copies(copies: str) -> list[Process]:
    """All processes, some more than once: ``intake=2`` adds `intake-1` in slot 1.

    Raises
    ------
    StackError
        For a process that is not there or runs once only.
    """
    wanted = dict(entry.split("=") for entry in copies.split(",") if entry)
    for name in wanted:
        if name not in _SLOT or name in _SINGLE:
            several = ", ".join(name for name in _SLOT if name not in _SINGLE)
            raise StackError(
                f"local.copies names {name!r}, of which there is one at most; several may run of {several}"
            )
    return [
        process if slot == 0 else Process(f"{process.name}-{slot}", process.arguments, slot)
        for process in ALL
        for slot in range(int(wanted.get(process.name, 1)))
    ]


def spec(process: Process, ports: Ports, env: Mapping[str, str]) -> Spec:
    """How to run one of our processes; ``env`` carries the settings."""
    port = ports.take(f"health-{process.name}")
    slot = {}
    if process.slot and process.arguments == ("api",):
        slot = {"VITALGATE_API_PORT": str(api_port(ports, process.name))}
    elif process.slot:
        slot = {_SLOT[process.arguments[-1]]: str(process.slot)}
    return Spec(
        name=process.name,
        argv=(sys.executable, "-m", "vitalgate.cli", *process.arguments),
        env={**env, **slot, "VITALGATE_HEALTH_HOST": HOST, "VITALGATE_HEALTH_PORT": str(port)},
        probe=functools.partial(probes.http_ready, HOST, port),
        grace_s=15.0,
    )


def api_port(ports: Ports, name: str = "api") -> int:
    """The port on which a process of the API listens; the first one's is in the stack's settings."""
    return ports.take(f"listen-{name}", 8080 if name == "api" else None)
