"""Vitalgate's own processes, as the one-machine stack runs them."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitalgate.local import probes
from vitalgate.local.child import Spec
from vitalgate.local.ports import HOST, Ports

WORKERS = ("intake", "recorder", "analysis", "alerting", "auditor", "archiver")


@dataclass(frozen=True)
class Process:
    """One of our processes: its name in the stack and its command."""

    name: str
    arguments: tuple[str, ...]

    @property
    def module(self) -> str:
        """The module of its subcommand."""
        return f"vitalgate.cli.{self.arguments[0]}"

    def exists(self) -> bool:
        """Whether the subcommand is there."""
        if self.arguments[0] == "worker":
            found = importlib.util.find_spec(f"vitalgate.stream.{self.name}")
            if not found or not found.origin:
                return False
            return f"class {self.name.capitalize()}" in Path(found.origin).read_text(encoding="utf-8")
        return importlib.util.find_spec(self.module) is not None


#: In the order of the data's way; stopped in the reverse order.
ALL = (
    *(Process(name, ("worker", name)) for name in reversed(WORKERS)),
    Process("registrar", ("registrar",)),
    Process("notifier", ("notifier",)),
    Process("gateway", ("gateway",)),
)


def spec(process: Process, ports: Ports, env: Mapping[str, str]) -> Spec:
    """How to run one of our processes; ``env`` carries the settings."""
    port = ports.take(f"health-{process.name}")
    return Spec(
        name=process.name,
        argv=(sys.executable, "-m", "vitalgate.cli", *process.arguments),
        env={**env, "VITALGATE_HEALTH_HOST": HOST, "VITALGATE_HEALTH_PORT": str(port)},
        probe=functools.partial(probes.http_ready, HOST, port),
        grace_s=15.0,
    )
