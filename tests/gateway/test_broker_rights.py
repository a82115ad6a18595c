"""Who may say and hear what on the broker: every user tried on every topic, by an expectation written apart."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.gateway.parts import until
from vitalgate.config import topics
from vitalgate.config.loading import read_secret
from vitalgate.config.settings import MqttSettings
from vitalgate.gateway import clinicians, dynsec

PASSWORD = "a password of this test"
DEVICES = ("rights-a", "rights-b")
TEAMS = ("rights-blue", "rights-red")
CLINICIANS = {"rights-ada": ("rights-blue",), "rights-bob": ("rights-red",), "rights-eve": TEAMS, "rights-out": ()}
TELLER = "rights-teller"
NOT_AUTHORIZED = 0x87
LEAVES = (*topics.MQTT_KINDS, "receipts", "down", "other", "readings/deeper")


def all_topics() -> list[str]:
    """Every kind of topic that there is, for every device, team and clinician, and some that there are not."""
    found = [topics.device_topic(device, leaf) for device in (*DEVICES, "rights-nobody") for leaf in LEAVES]
    for team in (*TEAMS, "rights-none"):
        base = f"{topics.MQTT_ALERTS}/{team}"
        found += [f"{base}/p-1/al-1", f"{base}/events", f"{base}/heartbeat", f"{base}/p-1/al-1/commands", f"{base}/odd"]
        found += [f"{base}/p-1/al-1/commands/{user}" for user in CLINICIANS]
        found += [f"{base}/replies/{user}" for user in CLINICIANS] + [f"{base}/replies/{next(iter(CLINICIANS))}/x"]
    return [*found, "v1/devices", "v1/other/x", "v2/devices/rights-a/readings", "rights/elsewhere"]


def may_say(user: str, topic: str) -> bool:
    parts = topic.split("/")
    if user in DEVICES:
        return parts[:3] == ["v1", "devices", user] and len(parts) == 4 and parts[3] in topics.MQTT_KINDS
    if user in CLINICIANS and parts[:2] == ["v1", "alerts"] and parts[2] in CLINICIANS[user]:
        return parts[5:] in (["commands"], ["commands", user]) and len(parts) > 5
    return False


def may_hear(user: str, topic: str) -> bool:
    parts = topic.split("/")
    if user in DEVICES:
        return topic in (topics.device_topic(user, "receipts"), topics.device_topic(user, "down"))
    if user in CLINICIANS and parts[:2] == ["v1", "alerts"] and parts[2] in CLINICIANS[user]:
        if parts[3] == "replies":
            return parts[4] == user
        return len(parts) == 5 or parts[3:] in (["events"], ["heartbeat"])
    return False


class User:
    """An MQTT 5 connection that notes what it hears and how its messages are answered."""

    def __init__(self, broker: MqttSettings, name: str, password: str) -> None:
        self.heard: set[str] = set()
        self.answers: dict[int, int] = {}
        self.granted = threading.Event()
        up = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        self.client.username_pw_set(name, password)
        self.client.on_connect = lambda *_: up.set()
        self.client.on_message = lambda _c, _d, message: self.heard.add(message.topic)
        self.client.on_publish = lambda _c, _d, mid, reason, _p: self.answers.__setitem__(mid, reason.value)
        self.client.on_subscribe = lambda *_: self.granted.set()
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        assert up.wait(10)

    def say(self, names: Sequence[str]) -> dict[str, bool]:
        """Topic to whether the broker took the message."""
        sent = {self.client.publish(name, b"rights", qos=1).mid: name for name in names}
        until(lambda: sent.keys() <= self.answers.keys(), 20, "PUBACKs")
        return {name: self.answers[mid] != NOT_AUTHORIZED for mid, name in sent.items()}

    def listen(self, *filters: str) -> None:
        self.client.subscribe([(name, mqtt.SubscribeOptions(1)) for name in filters])
        assert self.granted.wait(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(scope="module")
def broker(mqtt_broker: MqttSettings) -> Iterator[MqttSettings]:
    """A broker with these devices and clinicians, and somebody who may say everything."""
    password = read_secret(mqtt_broker.admin_password_file, "administrator's password")
    everything = [{"acltype": "publishClientSend", "topic": "#", "priority": 0, "allow": True}]
    commands: list[dict[str, Any]] = [dynsec.create(name, PASSWORD) for name in DEVICES]
    for user, teams in CLINICIANS.items():
        commands += [*clinicians.rights(user, teams), clinicians.create(user, PASSWORD)]
    commands += [
        {"command": "createRole", "rolename": TELLER, "acls": everything},
        {"command": "createClient", "username": TELLER, "password": PASSWORD, "roles": [{"rolename": TELLER}]},
    ]
    with dynsec.Dynsec(mqtt_broker, password, name="rights") as admin:
        admin.ensure_roles()
        assert set(admin.run(commands)) == {None}
        yield mqtt_broker
        gone: list[dict[str, Any]] = [dynsec.delete(name) for name in (*DEVICES, *CLINICIANS, TELLER)]
        gone += [{"command": "deleteRole", "rolename": clinicians.own_role(user)} for user in CLINICIANS]
        admin.run([*gone, {"command": "deleteRole", "rolename": TELLER}])


def test_every_user_may_say_what_is_theirs_and_nothing_else(broker: MqttSettings) -> None:
    tried = 0
    for name in (*DEVICES, *CLINICIANS):
        user = User(broker, name, PASSWORD)
        try:
            found = user.say([*all_topics(), "$CONTROL/dynamic-security/v1", "$SYS/broker/uptime"])
        finally:
            user.close()
        assert found == {topic: may_say(name, topic) for topic in found}, name
        tried += len(found)
    assert tried > 400


def test_every_user_hears_what_is_theirs_and_nothing_else(broker: MqttSettings) -> None:
    listeners = {name: User(broker, name, PASSWORD) for name in (*DEVICES, *CLINICIANS)}
    teller = User(broker, TELLER, PASSWORD)
    try:
        for user in listeners.values():  # whatever filter somebody thinks of
            user.listen("#", "v1/#", "+/+/+/+", "v1/devices/+/down", "v1/alerts/+/replies/#", "$share/g/v1/#", "$SYS/#")
        spoken = all_topics()
        assert all(teller.say(spoken).values())
        time.sleep(0.5)  # what should not come would come with the rest
        for name, user in listeners.items():
            wanted = {topic for topic in spoken if may_hear(name, topic)}
            until(lambda user=user, wanted=wanted: wanted <= user.heard, 10, f"messages to {name}")
            assert user.heard == wanted, name
    finally:
        for user in (*listeners.values(), teller):
            user.close()


def test_the_expectation_lets_devices_and_teams_meet_nowhere() -> None:
    spoken = all_topics()
    for one, other in itertools.combinations((*DEVICES, *CLINICIANS), 2):
        assert not [topic for topic in spoken if may_say(one, topic) and may_say(other, topic)
                    and not (one in CLINICIANS and other in CLINICIANS)]  # fmt: skip
    assert not [topic for topic in spoken if may_hear("rights-ada", topic) and may_hear("rights-bob", topic)]
    assert not [topic for topic in spoken if may_hear("rights-out", topic) or may_say("rights-out", topic)]


def test_nobody_is_let_in_without_a_password_or_with_anothers(broker: MqttSettings) -> None:
    for name, password in (("rights-a", "wrong"), ("rights-a", ""), ("", ""), ("nobody", PASSWORD), ("vg-admin", "x")):
        answered: list[Any] = []
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        if name:
            client.username_pw_set(name, password)
        client.on_connect = lambda _c, _d, _f, reason, _p, answered=answered: answered.append(reason)
        client.connect(broker.host, broker.port)
        client.loop_start()
        until(lambda answered=answered: answered, 10, "CONNACK")
        client.loop_stop()
        assert answered[0].is_failure, (name, password)
