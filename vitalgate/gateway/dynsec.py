"""Device credentials on the broker: Mosquitto's dynamic security plugin, spoken to over its control topic.

Commands are JSON on ``$CONTROL/dynamic-security/v1``; answers come back on ``…/response``, told apart by their
``correlationData``. Measured with Mosquitto 2.0.11: a disabled client is cut within 1 to 4 ms; a hundred commands in
one message cost hardly more than one, for the plugin writes its file after each message.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import orjson
import paho.mqtt.client as mqtt

from vitalgate.config.broker_users import CLINICIAN_ROLE, DEVICE_ROLE
from vitalgate.config.settings import MqttSettings
from vitalgate.config.transport import context
from vitalgate.gateway.access import AccessError
from vitalgate.gateway.address import Address
from vitalgate.gateway.link import open_link

CONTROL = "$CONTROL/dynamic-security/v1"
RESPONSE = CONTROL + "/response"
#: Commands in one message.
BATCH = 100
_PAGE = 1000

Command = dict[str, Any]


class DynsecError(AccessError):
    """The plugin refused a command or did not answer; the text says which and what to do."""


class BrokerClient(NamedTuple):
    """A user that the broker knows."""

    username: str
    roles: frozenset[str]
    disabled: bool

    @property
    def is_device(self) -> bool:
        """Whether it was made for a device, so that the registry decides about it."""
        return DEVICE_ROLE in self.roles


def create(device: str, password: str) -> Command:
    """Make a device's user."""
    return {
        "command": "createClient",
        "username": device,
        "password": password,
        "roles": [{"rolename": DEVICE_ROLE}],
    }


def set_password(device: str, password: str) -> Command:
    """Give a user another password; cuts its connection."""
    return {"command": "setClientPassword", "username": device, "password": password}


def disable(device: str) -> Command:
    """Cut a user's connection and let it in no more."""
    return {"command": "disableClient", "username": device}


def enable(device: str) -> Command:
    """Let a disabled user in again."""
    return {"command": "enableClient", "username": device}


def delete(device: str) -> Command:
    """Remove a user; cuts its connection."""
    return {"command": "deleteClient", "username": device}


class Dynsec:
    """An administrator's connection to the plugin; not thread-safe.

    Raises `LinkDown` when the broker cannot be reached or refuses the administrator.
    """

    def __init__(self, broker: MqttSettings, password: str, *, timeout_s: float = 30.0, name: str = "cli") -> None:
        self._timeout_s = timeout_s
        self._tag = secrets.token_hex(6)
        self._number = 0
        self._tags: set[str] = set()
        self._answers: dict[str, dict[str, Any]] = {}
        client = f"vg-{name}-{self._tag}"
        address = Address(
            broker.host, broker.port, client, broker.admin_username, password, context(broker, "mqtt"), clean=True
        )
        self._link = open_link(address, on_message=self._take)
        self._link.subscribe([RESPONSE])
        self._wait(lambda: self._link.subscribed, "SUBSCRIBE")

    def __enter__(self) -> Dynsec:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._link.goodbye()

    def idle(self) -> None:
        """Keep the connection alive; call every few seconds. Raises LinkDown."""
        self._link.step(0.0)

    def run(self, commands: Sequence[Command], progress: Callable[[int], None] | None = None) -> list[str | None]:
        """Send commands, many in one message; returns each one's error text, or None where it was done.

        Raises
        ------
        DynsecError
            When the broker does not answer: what was done then is not known.
        LinkDown
            When the connection is lost.
        """
        errors: list[str | None] = []
        for start in range(0, len(commands), BATCH):
            answers = self._ask(commands[start : start + BATCH])
            errors += [answer.get("error") for answer in answers]
            if progress is not None:
                progress(len(errors))
        return errors

    def clients(self) -> dict[str, BrokerClient]:
        """All users of the broker, by name."""
        found: dict[str, BrokerClient] = {}
        offset = 0
        while True:
            answer = self._ask([{"command": "listClients", "verbose": True, "count": _PAGE, "offset": offset}])[0]
            if "error" in answer:
                raise DynsecError(f"the broker does not list its users: {answer['error']}")
            page = answer["data"]["clients"]
            for client in page:
                name = client["username"]
                roles = frozenset(role["rolename"] for role in client.get("roles", ()))
                found[name] = BrokerClient(name, roles, bool(client.get("disabled", False)))
            offset += len(page)
            if not page or offset >= answer["data"]["totalCount"]:
                return found

    def ensure_roles(self) -> None:
        """Make the roles of devices and of clinicians when the broker has them not."""
        names = (DEVICE_ROLE, CLINICIAN_ROLE)
        errors = self.run([{"command": "createRole", "rolename": name, "acls": []} for name in names])
        for name, error in zip(names, errors, strict=True):
            if error is not None and "exists" not in error:
                raise DynsecError(f"the role {name!r} cannot be made on the broker: {error}")

    def _ask(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        tagged = {}
        for command in commands:
            tagged[f"{self._tag}.{self._number}"] = command
            self._number += 1
        self._tags, self._answers = set(tagged), {}
        body = orjson.dumps({"commands": [{**command, "correlationData": tag} for tag, command in tagged.items()]})
        self._link.publish(CONTROL, body)
        what = f"{commands[0]['command']} (and {len(commands) - 1} more)"
        self._wait(lambda: len(self._answers) == len(tagged), what)
        return [self._answers[tag] for tag in tagged]

    def _take(self, message: mqtt.MQTTMessage) -> None:
        if message.topic == RESPONSE:
            for answer in orjson.loads(message.payload).get("responses", ()):
                if answer.get("correlationData") in self._tags:
                    self._answers[answer["correlationData"]] = answer

    def _wait(self, enough: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + self._timeout_s
        while not enough():
            if time.monotonic() > until or self._link.refused:
                raise DynsecError(
                    f"the broker did not answer {what} within {self._timeout_s:g} s: is its dynamic security plugin "
                    "loaded, and may this user publish to and read $CONTROL/dynamic-security/v1?"
                )
            self._link.step(0.2)
