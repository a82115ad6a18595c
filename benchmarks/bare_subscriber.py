"""The baseline: how fast a bare paho subscriber that acknowledges and drops drains the broker."""

from __future__ import annotations

import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


class BareSubscriber:
    """Subscribes at QoS 1 on its own connection, counts, and throws away."""

    def __init__(self, host: str, port: int, username: str, password: str, topic: str) -> None:
        self.count = 0
        self.first = self.last = 0.0
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{username}-bare", clean_session=True)
        self._client.username_pw_set(username, password)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        self._client.connect(host, port)
        self._client.loop_start()
        if not self._ready.wait(10):
            raise ConnectionError(f"no subscription to {topic} within 10 s")

    def _take(self, _client: Any, _data: Any, _message: Any) -> None:
        self.count += 1
        self.last = time.monotonic()
        if self.count == 1:
            self.first = self.last

    def rate(self, expected: int, timeout: float = 60.0) -> float:
        """Messages a second from the first to the last, once all have come (or none came for 3 s)."""
        deadline = time.monotonic() + timeout
        while self.count < expected and time.monotonic() < deadline:
            if self.count and time.monotonic() - self.last > 3:
                break
            time.sleep(0.05)
        return (self.count - 1) / (self.last - self.first) if self.count > 1 else 0.0

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
