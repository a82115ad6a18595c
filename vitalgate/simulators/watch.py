"""A clinician's view: listens to the alert topics as any MQTT client would, and notes when each alert arrived."""

from __future__ import annotations

import json
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from vitalgate.config.topics import MQTT_ALERTS


@dataclass(frozen=True)
class Arrived:
    """An alert as it arrived."""

    alert: dict[str, Any]
    at_us: int


class AlertWatch:
    """Subscribed from `__enter__` to `__exit__`; alerts that were retained from before do not count.

    Parameters
    ----------
    username, password
        A user that may read the alert topics.
    """

    def __init__(
        self, host: str, port: int, username: str, password: str, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._arrived: dict[str, Arrived] = {}
        self._open: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._address = (host, port)
        name = f"{username}-watch-{time.time_ns():x}"
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name)
        client.username_pw_set(username, password)
        if tls is not None:
            client.tls_set_context(tls)
        client.on_connect = self._connected
        client.on_subscribe = lambda *_rest: self._ready.set()
        client.on_message = self._message

    def __enter__(self) -> Self:
        self._client.connect(*self._address)
        self._client.loop_start()
        if not self._ready.wait(10):
            raise TimeoutError(f"the broker at {self._address[0]}:{self._address[1]} did not answer within 10 s")
        return self

    def __exit__(self, *_exception: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: mqtt.Client, *_rest: Any) -> None:
        client.subscribe(f"{MQTT_ALERTS}/+/+/+", qos=1)

    def _message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        at_us = round(time.time() * 1_000_000)
        with self._lock:
            if not message.payload:
                self._open.pop(message.topic, None)
                return
            try:
                alert = json.loads(message.payload)
                identity = str(alert["alert_id"])
            except (ValueError, KeyError, TypeError):
                return
            self._open[message.topic] = alert
            if not message.retain:
                self._arrived.setdefault(identity, Arrived(alert, at_us))

    def arrived(self) -> list[Arrived]:
        """The first sight of each alert that came while watching, in order."""
        with self._lock:
            return sorted(self._arrived.values(), key=lambda one: one.at_us)

    def open(self) -> int:
        """How many are open now."""
        with self._lock:
            return len(self._open)
