"""Which parts a stack starts: all but those that are somebody's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Protocol

from vitalgate.config.loading import Loaded, read_secret
from vitalgate.config.settings import Settings
from vitalgate.config.transport import conninfo, context
from vitalgate.local import probes, processes
from vitalgate.local.child import Spec
from vitalgate.local.errors import StackError
from vitalgate.local.kafka import Kafka
from vitalgate.local.layout import Layout, State
from vitalgate.local.mosquitto import Mosquitto
from vitalgate.local.ports import Ports
from vitalgate.local.postgres import Postgres
from vitalgate.local.rabbitmq import RabbitMq

PARTS = ("mqtt", "kafka", "postgres")
#: Giving a part this address means that it is yours, as does its section's `external = true`.
_ADDRESS = {"mqtt": "mqtt.host", "kafka": "kafka.bootstrap", "postgres": "database.dsn"}


class Part(Protocol):
    """A server that is not ours: what it needs before it runs, and where it is then."""

    name: str

    def prepare(self) -> list[Spec]:
        """Make files and directories; blocking."""

    def addresses(self) -> dict[str, object]:
        """Settings under which the part is found, once prepared."""


def is_external(name: str, loaded: Loaded) -> bool:
    """Whether a part is the user's own."""
    settings = loaded.settings
    if {"mqtt": settings.mqtt.external, "kafka": settings.kafka.external, "postgres": settings.database.external}[name]:
        return True
    return loaded.sources.get(_ADDRESS[name], "default") not in ("default", "stack")


def check_only(only: Collection[str] | None) -> None:
    """Refuse a name that is no part or process.

    Raises
    ------
    StackError
        Naming it and what there is.
    """
    known = (*PARTS, *(process.name for process in processes.ALL))
    for name in only or ():
        if name not in known:
            raise StackError(f"there is no part or process {name!r}; there are {', '.join(known)}")


def choose(loaded: Loaded, only: Collection[str] | None, layout: Layout, state: State, ports: Ports) -> list[Part]:
    """The parts to start, slowest first."""
    check_only(only)
    if loaded.settings.local.tls and loaded.settings.mqtt.broker == "rabbitmq" and not is_external("mqtt", loaded):
        raise StackError(
            "local.tls encrypts Mosquitto, Kafka and PostgreSQL, but mqtt.broker is rabbitmq; leave one of them out, "
            "or give the address of a RabbitMQ of your own (mqtt.host), set up for TLS"
        )
    makers: dict[str, Callable[[Layout, State, Ports, Loaded], Part]] = {
        "kafka": Kafka,
        "postgres": Postgres,
        "mqtt": RabbitMq if loaded.settings.mqtt.broker == "rabbitmq" else Mosquitto,
    }
    return [
        make(layout, state, ports, loaded)
        for name, make in makers.items()
        if (only is None or name in only) and not is_external(name, loaded)
    ]


def own_processes(only: Collection[str] | None, copies: str = "") -> list[processes.Process]:
    """Our processes to start; a name in ``only`` stands for all its copies."""
    return [
        process for process in processes.with_copies(copies) if only is None or process.name.partition("-")[0] in only
    ]


def part_probes(settings: Settings, only: Collection[str] | None) -> dict[str, probes.Probe]:
    """One question to each part in use, ours or the user's."""
    asked: dict[str, probes.Probe] = {}
    if only is None or "mqtt" in only:
        asked["mqtt"] = functools.partial(_mqtt, settings)
    if only is None or "kafka" in only:
        asked["kafka"] = functools.partial(probes.any_kafka, settings.kafka.bootstrap, context(settings.kafka, "kafka"))
    if only is None or "postgres" in only:
        asked["database"] = functools.partial(probes.postgres, conninfo(settings.database))
    return asked


async def _mqtt(settings: Settings) -> None:
    mqtt = settings.mqtt
    password = read_secret(mqtt.password_file, "gateway's MQTT password")
    await probes.mqtt(mqtt.host, mqtt.port, mqtt.username, password, context(mqtt, "mqtt"))
