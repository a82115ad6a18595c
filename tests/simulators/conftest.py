"""A broker without rules, and somebody who receipts what arrives: the outer edge of the system, nothing behind it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from vitalgate.devices.decode import decode
from vitalgate.devices.reasons import Refused
from vitalgate.local.stack import Stack
from vitalgate.testing.deployment import Deployment


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def open_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a Mosquitto that lets anybody in."""
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    if not Path(program).exists():
        pytest.skip("mosquitto is not installed")
    port = free_port()
    config = tmp_path_factory.mktemp("broker") / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    process = subprocess.Popen([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield port
    process.terminate()
    process.wait(10)


class Desk:
    """Takes every message and receipts it, unless told to look away."""

    def __init__(self, port: int) -> None:
        self.arrived: list[tuple[str, str, bytes]] = []
        self.kept: dict[tuple[str, str], set[int]] = defaultdict(set)
        self.deaf = False
        self._lock = threading.Lock()
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.on_message = self._message
        client.connect("127.0.0.1", port)
        client.subscribe([(f"v1/devices/+/{leaf}", 1) for leaf in ("readings", "waveforms", "status")])
        client.loop_start()

    def _message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        _, _, device, leaf = message.topic.split("/")
        if self.deaf:
            return
        with self._lock:
            self.arrived.append((device, leaf, bytes(message.payload)))
        try:
            document = decode(bytes(message.payload))
        except Refused:
            return
        if "seq" not in document:
            return
        kept = self.kept[device, document["epoch"]]
        kept.add(document["seq"])
        through = 0
        while through + 1 in kept:
            through += 1
        client.publish(
            f"v1/devices/{device}/receipts", json.dumps({"epoch": document["epoch"], "kept_through": through}), qos=1
        )

    def documents(self, leaf: str) -> list[dict[str, Any]]:
        """What arrived and can be decoded."""
        found = []
        with self._lock:
            for _, at, payload in self.arrived:
                if at == leaf:
                    with contextlib.suppress(Refused):
                        found.append(decode(payload))
        return found

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def desk(open_broker: int) -> Iterator[Desk]:
    """Somebody who receipts."""
    one = Desk(open_broker)
    yield one
    one.close()


@pytest.fixture(scope="session")
def vitalgate_stack(stack: Stack) -> Deployment:
    """The fixture of `vitalgate.testing`, on the stack that all tests share."""
    return Deployment.running(stack.data)
