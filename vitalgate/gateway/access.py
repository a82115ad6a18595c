"""What the registry asks of a broker, whichever it is: who is let in, who is shut out, and what each may read.

Two brokers answer: Mosquitto through its dynamic security plugin, RabbitMQ through its HTTP API. Everything takes
effect at once and without a restart; whoever is shut out is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from vitalgate.config.settings import MqttSettings


class AccessError(Exception):
    """The broker refused what was asked or did not answer; the text says which and what to do."""


class Credential(NamedTuple):
    """A user's password, and its hash as the registry stores it (made by the broker's own `hash_password`)."""

    user: str
    password: str
    hashed: str

    def __repr__(self) -> str:
        return f"Credential({self.user!r}, …)"


class Device(NamedTuple):
    """A device as the registry has it."""

    device_id: str
    active: bool
    hashed: str


class Person(NamedTuple):
    """A clinician as the registry has them."""

    user: str
    active: bool
    teams: Sequence[str]
    hashed: str


@dataclass
class Reconciled:
    """What a reconciliation with the registry did."""

    changes: int = 0
    disabled: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    """Users that the registry does not know."""
    restored: list[str] = field(default_factory=list)
    """Users that the broker had lost and that could be made again from their hashes."""
    missing: list[str] = field(default_factory=list)
    """Active ones that the broker does not know and cannot be told about."""
    refused: list[str] = field(default_factory=list)
    """What the broker refused to do, one text each."""


class Access(Protocol):
    """An administrator's connection to a broker; for one thread.

    Every method raises `LinkDown` when the broker cannot be reached, and `AccessError` when it refuses.
    """

    remedy: str
    """How those get in again whom the broker has lost and cannot be told about."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def idle(self) -> None:
        """Keep the connection alive; called every few seconds while nothing is asked."""

    def check_name(self, name: str) -> None:
        """Refuse a device id or user name that this broker cannot tell from others.

        Raises
        ------
        ValueError
            With the reason and the remedy.
        """

    def hash_password(self, password: str) -> str:
        """The form in which the registry stores a password for this broker."""

    def prepare(self) -> None:
        """Make what users need before there are any."""

    def admit(self, devices: Sequence[Credential]) -> list[str]:
        """Let devices in with these passwords, all others of theirs no more; what was refused, one text each."""

    def admit_clinician(self, person: Credential, teams: Iterable[str]) -> list[str]:
        """Let a clinician in, for these teams; what was refused."""

    def shut_out(self, devices: Sequence[str]) -> None:
        """Cut devices and let them in no more."""

    def readmit(self, devices: Sequence[Device]) -> None:
        """Let devices in again that were shut out."""

    def change_clinician(self, now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        """Carry out what a record of registry.clinicians says, given the one before it ({} when there is none)."""

    def reconcile_devices(self, registry: Callable[[], Sequence[Device]]) -> Reconciled:
        """Let in whom the registry lets in, and no other device.

        The registry is asked after the broker: whoever is added meanwhile is in the registry before the broker knows
        the user.
        """

    def reconcile_clinicians(self, registry: Callable[[], Sequence[Person]]) -> Reconciled:
        """The same for clinicians, with their teams."""


def open_access(mqtt: MqttSettings, password: str, *, name: str = "cli") -> Access:
    """An administrator's connection to the broker that the settings name.

    Parameters
    ----------
    password
        The administrator's.
    name
        Part of the client id, where there is one.

    Raises
    ------
    LinkDown, AccessError
        When the broker is away or refuses the administrator.
    """
    if mqtt.broker == "rabbitmq":
        from vitalgate.gateway.access_rabbitmq import RabbitAccess

        return RabbitAccess(mqtt, password)
    from vitalgate.gateway.access_mosquitto import MosquittoAccess

    return MosquittoAccess(mqtt, password, name=name)
