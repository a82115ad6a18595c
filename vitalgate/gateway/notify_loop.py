"""What the notifier's loops have in common."""

from __future__ import annotations

import threading

from vitalgate.config.settings import Settings
from vitalgate.config.transport import context
from vitalgate.gateway.address import Address, manner, service_client_id

#: How often consumed offsets are committed.
COMMIT_S = 0.5
#: How long a loop waits for the broker's acknowledgements when it is told to stop.
DRAIN_S = 3.0


class NotifierFailed(Exception):
    """A loop ended; the process has to be started again."""


def address(settings: Settings, password: str, part: str) -> Address:
    """Where one part of the notifier connects, under its own client id."""
    mqtt = settings.mqtt
    client = service_client_id(f"vg-notifier-{part}-{settings.worker.slot}", password)
    tls = context(mqtt, "mqtt")
    return Address(mqtt.host, mqtt.port, client, mqtt.username, password, tls, clean=True, **manner(mqtt))


class Loop:
    """Work in one thread; `ready` once Kafka (or the broker) has given it something to read."""

    waits_for = "Kafka has not assigned its partitions yet"

    def __init__(self, settings: Settings, part: str, stop: threading.Event) -> None:
        self.kafka = settings.kafka
        self.slot = settings.worker.slot
        self.part = part
        self.stop = stop
        self.failure: str | None = None
        self.ready = False

    def fail(self, text: str) -> None:
        """End the loop with this fault (the first one counts)."""
        self.failure = self.failure or text

    def run(self) -> None:
        """Work until `stop` is set. Raises NotifierFailed when only a new process can go on."""
        raise NotImplementedError
