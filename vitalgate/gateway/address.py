"""Where the broker is, who we are there, and how long to wait between attempts. Pure but for chance."""

from __future__ import annotations

import hashlib
import random
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vitalgate.config.settings import MqttSettings


@dataclass(frozen=True)
class Address:
    """Where the broker is, and who we are there."""

    host: str
    port: int
    client_id: str
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    keepalive_s: int = 15
    clean: bool = False
    session_expiry_s: int = 0
    receive_maximum: int = 65_535
    version: int = 5
    """Of MQTT: 5, with 3.1.1 for brokers that do not know it; 4 asks for 3.1.1 at once."""
    routing_keys: bool = False
    """The broker keeps topics as AMQP routing keys: what means something else there (`.`, `*`) is percent-encoded."""


def manner(mqtt: MqttSettings) -> dict[str, Any]:
    """The fields of an address that depend on which broker it is.

    RabbitMQ 3.10 ends a connection in MQTT 5 without an answer, and cannot tell `a.b` from `a/b`.
    """
    return {"version": 4, "routing_keys": True} if mqtt.broker == "rabbitmq" else {}


def service_client_id(name: str, password: str) -> str:
    """A fixed client id that only somebody who knows the service's password can guess.

    MQTT lets any user who may connect take over a session by using its client id, and a device that did so to a
    gateway would throw away what is queued for it.
    """
    return f"{name}-{hashlib.blake2b(password.encode(), digest_size=5, person=b'vg-client-id').hexdigest()}"


def backoff(first: float = 0.2, cap: float = 10.0) -> Iterator[float]:
    """Waits between attempts, doubling to `cap`, each with full jitter in its upper half."""
    wait = first
    while True:
        yield wait * random.uniform(0.5, 1.0)  # noqa: S311  no secret
        wait = min(cap, wait * 2)
