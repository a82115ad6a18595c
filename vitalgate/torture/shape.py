"""What a stack must look like for a fault to be tried on it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field

from vitalgate.local import rabbitmq
from vitalgate.local.errors import PartError
from vitalgate.torture.stepped_clock import compiler


@dataclass(frozen=True)
class Shape:
    """Settings of the stack that a fault wants; rounds of one shape run one after another on one stack."""

    nodes: int = 1
    """Kafka nodes; with three, connections to Kafka do not pass the proxy."""
    copies: str = ""
    """More than one of a process, as setting local.copies."""
    small_disks: bool = False
    """Broker, Kafka and database each on a small file system of its own that can be filled."""
    stepped_clock: bool = False
    """Our processes read a wall clock that can be stepped."""
    flags: tuple[tuple[str, str], ...] = field(default=())
    """Further settings of the parts."""

    @property
    def name(self) -> str:
        """A word for it."""
        words = []
        if self.nodes == 3:
            words.append("three Kafka nodes")
        if self.copies:
            words.append(f"copies {self.copies}")
        if self.small_disks:
            words.append("small disks")
        if self.stepped_clock:
            words.append("a clock that steps")
        words += [f"{name}={value}" for name, value in self.flags]
        return ", ".join(words) or "one of each"

    def missing(self) -> str:
        """Why this machine cannot have it; empty when it can."""
        if self.small_disks and (os.geteuid() != 0 or shutil.which("mount") is None):
            return "a file system of its own can be mounted by root only"
        if self.stepped_clock and compiler() is None:
            return "a C compiler (cc) makes the clock that can be stepped, and there is none"
        if ("mqtt.broker", "rabbitmq") in self.flags:
            try:
                rabbitmq.executable()
            except PartError as error:
                return str(error)
        return ""


PLAIN = Shape()
