"""The system under test: a whole stack in a folder of its own, with one user that may publish for all devices."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vitalgate.config.loading import read_secret
from vitalgate.config.settings import Settings
from vitalgate.config.topics import MQTT_ALERTS, MQTT_DEVICES
from vitalgate.gateway import dynsec
from vitalgate.gateway.credentials import hash_password, new_password
from vitalgate.local.stack import Stack
from vitalgate.storage.registry import NewDevice, Registry

#: Topics that only the baseline uses: no part of the system listens there.
BARE = "v1/bare"
#: Connections of the generator.
CONNECTIONS = 4
_APPLIED_WITHIN_S = 120.0


class BenchError(Exception):
    """A measurement could not be made; the text says why."""


@dataclass(frozen=True)
class Wearer:
    """A patient with one device."""

    patient: str
    device: str
    kind: str


@dataclass
class Bed:
    """A running stack."""

    stack: Stack
    settings: Settings
    username: str
    password: str

    def enrol(self, wearers: Sequence[Wearer], since: datetime | None = None) -> None:
        """Register patients and devices, each device its patient's since then (or from now on).

        The devices get no user on the broker: the generator speaks for them.
        """
        credential = hash_password(new_password())
        with Registry(self.settings.database) as registry:
            for wearer in wearers:
                registry.add_patient(wearer.patient, "Europe/Berlin", "bench")
            change = registry.add_devices(
                [NewDevice(w.device, w.kind, credential, w.patient, since=since) for w in wearers]
            )
            if not registry.wait_applied(change.outbox, _APPLIED_WITHIN_S):
                raise BenchError(f"the registrar did not apply the devices within {_APPLIED_WITHIN_S:g} s")


def _publisher(settings: Settings) -> tuple[str, str]:
    """Make the generator's user on the broker; its name and password."""
    mqtt, username, password = settings.mqtt, "bench", secrets.token_urlsafe(18)
    admin = read_secret(mqtt.admin_password_file, "broker administrator's password")
    rights = {
        "publishClientSend": [f"{MQTT_DEVICES}/#", f"{BARE}/#"],
        "publishClientReceive": [f"{BARE}/#", f"{MQTT_ALERTS}/#"],
        "subscribePattern": [f"{BARE}/#", f"{MQTT_ALERTS}/#"],
    }
    acls = [
        {"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind, ts in rights.items() for topic in ts
    ]
    with dynsec.Dynsec(mqtt, admin, name="bench") as broker:
        errors = broker.run(
            [
                {"command": "createRole", "rolename": "bench", "acls": acls},
                {**dynsec.create(username, password), "roles": [{"rolename": "bench"}]},
            ]
        )
    if any(errors):
        raise BenchError(f"the broker does not take the generator's user: {errors}")
    return username, password


@contextmanager
def made(folder: Path, overrides: dict[str, str], tell: Callable[[str], None]) -> Iterator[tuple[Bed, float]]:
    """A stack that starts from nothing and is removed at the end; with the seconds that its start took."""
    stack = Stack(folder, overrides)
    began = time.monotonic()
    try:
        stack.start(lambda name, took: tell(f"{name} ready after {took:.1f} s"))
        took = time.monotonic() - began
        settings = stack.settings.settings
        yield Bed(stack, settings, *_publisher(settings)), took
    finally:
        stack.stop(remove=True)


def restarts(stack: Stack) -> dict[str, int]:
    """How often each process has been started again."""
    return {process["name"]: process["restarts"] for process in stack.status()["processes"]}


def now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)
