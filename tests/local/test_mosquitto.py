"""The broker: who may say and hear what, and what it tells of those who may not."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from vitalgate.config.broker_users import password_key
from vitalgate.config.settings import MqttSettings
from vitalgate.local.mosquitto import new_user


class Client:
    """A small synchronous client that remembers what it got."""

    def __init__(
        self, broker: MqttSettings, user: str, password: str, version: int = paho.MQTTv311, client_id: str = ""
    ) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.acknowledged: list[str] = []
        self.lost = threading.Event()
        self._connected = threading.Event()
        self.answer = ""
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id or user, protocol=version)  # type: ignore[arg-type]
        self._client.username_pw_set(user, password)
        self._client.on_message = lambda _c, _u, message: self.heard.append((message.topic, message.payload))
        self._client.on_publish = lambda _c, _u, _mid, code, _p: self.acknowledged.append(str(code))
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = lambda *_: self.lost.set()
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        assert self._connected.wait(5)

    def _on_connect(self, _c: object, _u: object, _f: object, code: object, _p: object) -> None:
        self.answer = str(code)
        self._connected.set()

    def say(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Publish at QoS 1 and wait for the acknowledgement."""
        before = len(self.acknowledged)
        self._client.publish(topic, payload, 1, retain)
        wait_for(lambda: len(self.acknowledged) > before)

    def listen(self, *topics: str) -> None:
        """Subscribe at QoS 1 and wait until it counts."""
        done = threading.Event()
        self._client.on_subscribe = lambda *_: done.set()
        self._client.subscribe([(topic, 1) for topic in topics])
        assert done.wait(5)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


def wait_for(met: Callable[[], bool], timeout_s: float = 5.0) -> None:
    until = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def admin(mqtt_broker: MqttSettings) -> Iterator[Client]:
    password = Path(mqtt_broker.admin_password_file).read_text().strip()
    client = Client(mqtt_broker, mqtt_broker.admin_username, password, client_id="test-admin")
    client.listen("$CONTROL/dynamic-security/v1/response")
    yield client
    client.close()


@pytest.fixture
def gateway(mqtt_broker: MqttSettings) -> Iterator[Client]:
    password = Path(mqtt_broker.password_file).read_text().strip()
    client = Client(mqtt_broker, mqtt_broker.username, password, paho.MQTTv5, "test-gateway")
    client.listen("$share/test/v1/devices/+/readings", "v1/devices/+/status")
    yield client
    client.close()


def control(admin: Client, **command: object) -> None:
    admin.heard.clear()
    admin.say("$CONTROL/dynamic-security/v1", json.dumps({"commands": [command]}))
    wait_for(lambda: bool(admin.heard))
    assert "error" not in json.loads(admin.heard[0][1])["responses"][0]


@pytest.fixture
def device(mqtt_broker: MqttSettings, admin: Client) -> Iterator[Client]:
    control(admin, command="createClient", username="d-1", password="pw", roles=[{"rolename": "device"}])
    client = Client(mqtt_broker, "d-1", "pw")
    yield client
    client.close()
    control(admin, command="deleteClient", username="d-1")


def test_a_device_reaches_the_gateway_on_its_own_topics(device: Client, gateway: Client) -> None:
    device.listen("v1/devices/d-1/receipts")
    device.say("v1/devices/d-1/readings", "r")
    device.say("v1/devices/d-1/status", "s")
    wait_for(lambda: {("v1/devices/d-1/readings", b"r"), ("v1/devices/d-1/status", b"s")} <= set(gateway.heard))
    gateway.say("v1/devices/d-1/receipts", "kept")
    wait_for(lambda: device.heard == [("v1/devices/d-1/receipts", b"kept")])


def test_a_device_speaks_and_listens_for_itself_only(
    device: Client, gateway: Client, mqtt_broker: MqttSettings
) -> None:
    device.listen("v1/devices/other/receipts", "v1/devices/+/readings", "v1/alerts/#", "#")
    refused = ("v1/devices/other/readings", "v1/devices/d-1/receipts", "v1/alerts/care/p/a", "elsewhere")
    for topic in refused:
        device.say(topic, "forged")  # MQTT 3.1.1 acknowledges what it drops
    gateway.say("v1/devices/other/receipts", "secret")
    gateway.say("v1/alerts/care/p/a", "secret")
    device.say("v1/devices/d-1/readings", "last")
    wait_for(lambda: ("v1/devices/d-1/readings", b"last") in gateway.heard)
    assert not [payload for _, payload in gateway.heard if payload == b"forged"]
    assert device.heard == []
    assert not device.lost.is_set(), "a refused publish must not cost the connection"
    log = Path(mqtt_broker.log_file)
    wait_for(lambda: all(f"'{topic}'" in log.read_text() for topic in refused))


def test_mqtt_5_tells_a_device_that_it_was_refused(device: Client, mqtt_broker: MqttSettings) -> None:
    modern = Client(mqtt_broker, "d-1", "pw", paho.MQTTv5, "d-1-v5")
    modern.say("v1/devices/other/readings", "forged")
    modern.say("v1/devices/d-1/readings", "fine")
    assert modern.acknowledged[0] == "Not authorized"
    assert modern.acknowledged[1] in ("Success", "No matching subscribers")
    modern.close()


def test_a_disabled_device_is_cut_off_at_once_and_let_in_again(
    device: Client, admin: Client, mqtt_broker: MqttSettings
) -> None:
    control(admin, command="disableClient", username="d-1")
    assert device.lost.wait(1)
    assert Client(mqtt_broker, "d-1", "pw", client_id="d-1-again").answer == "Not authorized"
    control(admin, command="enableClient", username="d-1")
    again = Client(mqtt_broker, "d-1", "pw", client_id="d-1-third")
    assert again.answer == "Success"
    again.close()


def test_a_wrong_password_is_refused(mqtt_broker: MqttSettings) -> None:
    assert Client(mqtt_broker, mqtt_broker.username, "guess", client_id="guess").answer == "Not authorized"


def test_a_password_is_hashed_with_a_salt_of_its_own() -> None:
    first, second = (new_user("u", "secret", "gateway") for _ in range(2))
    assert first["salt"] != second["salt"]
    assert first["password"] != second["password"]
    salt = base64.b64decode(str(first["salt"]))
    assert first["password"] == password_key("secret", salt, int(str(first["iterations"])))
