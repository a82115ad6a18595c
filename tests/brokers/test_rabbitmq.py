"""RabbitMQ alone: kills under plain QoS 1, a full queue, slots given up, the list of open alerts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition

from benchmarks import broker_kill
from tests.brokers.parts import Broker, until
from vitalgate.cli import cli
from vitalgate.config import topics
from vitalgate.config.loading import SettingsError, load, read_secret
from vitalgate.config.rabbit_definitions import hash_password, matches
from vitalgate.config.topics import device_topic
from vitalgate.gateway import credentials
from vitalgate.gateway.address import Address, manner
from vitalgate.gateway.notify_index import OpenIndex
from vitalgate.gateway.publisher import Outgoing, Publisher
from vitalgate.gateway.rabbit_api import RabbitApi
from vitalgate.gateway.rabbit_rights import clinician_rights, decoded, device_rights, encoded
from vitalgate.local import rabbitmq
from vitalgate.local.errors import PartError

#: More of them: VITALGATE_KILL_ROUNDS=20.
ROUNDS = int(os.environ.get("VITALGATE_KILL_ROUNDS", "2"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """RabbitMQ, Kafka and two gateways."""
    try:
        rabbitmq.executable()
    except PartError as error:
        pytest.skip(f"a part is missing on this machine: {error}")
    with broker_kill.system("rabbitmq", tmp_path_factory.mktemp("rabbit") / "s") as stack:
        yield Broker("rabbitmq", stack)


@pytest.fixture
def rabbit(running: Broker) -> Iterator[Broker]:
    yield running
    running.tidy()


@pytest.fixture
def api(rabbit: Broker) -> Iterator[RabbitApi]:
    mqtt = rabbit.settings.mqtt
    made = RabbitApi(mqtt, mqtt.admin_username, read_secret(mqtt.admin_password_file, "admin"))
    yield made
    made.close()


def test_what_is_acknowledged_is_in_kafka_after_kills_of_broker_and_gateways(rabbit: Broker) -> None:
    found = broker_kill.run(rabbit.stack, ROUNDS, seed=7, rate=150.0)
    print(found)
    assert found.kills["rabbitmq"] >= 1
    assert found.kills.get("gateway", 0) >= (1 if ROUNDS > 1 else 0)
    assert found.acknowledged == found.sent > 0
    assert found.lost == 0


def test_a_full_queue_is_not_acknowledged_and_what_was_is_delivered(rabbit: Broker, api: RabbitApi) -> None:
    (device,) = rabbit.add("dev")
    taker = rabbit.taker(f"full-{device}", device)
    taker.crash()
    policy = {
        "pattern": f"^mqtt-subscription-vg-gateway-full-{re.escape(device)}", "apply-to": "queues", "priority": 20,
        "definition": {"max-length": 5, "overflow": "reject-publish"},
    }  # fmt: skip
    api.call("PUT", "policies", api.vhost, "test", body=policy)
    try:
        acked = [
            str(n)
            for n in range(20)
            if rabbit.connect(device).publish(device_topic(device, "readings"), str(n), wait_s=2.0)
        ]
    finally:
        api.call("DELETE", "policies", api.vhost, "test")
    assert 5 <= len(acked) < 20
    taker.back()
    assert taker.take(len(acked)) == acked
    assert rabbit.connect(device).publish(device_topic(device, "readings"), "again")


def test_a_slot_that_is_given_up_leaves_nothing_behind(rabbit: Broker, api: RabbitApi) -> None:
    """The command takes what the slot still holds and removes its queue."""
    (device,) = rabbit.add("dev")
    settings = rabbit.settings
    taker = rabbit.taker(f"9-{device}", device)
    taker.crash()
    client = rabbit.connect(device)
    assert all(client.publish(device_topic(device, "readings"), f'{{"left": "{device} {n}"}}') for n in range(5))
    queue = f"mqtt-subscription-{taker.address.client_id}qos1"
    assert queue in {one["name"] for one in api.queues()}
    env = {key: value for key, value in os.environ.items() if not key.startswith("VITALGATE_")}
    done = subprocess.run(
        [sys.executable, "-m", "vitalgate.cli", "gateway", "--retire", "--data", str(rabbit.stack.data),
         "--set", f"gateway.slot=9-{device}", "--set", f"mqtt.share_group={device}", "--set", "log.format=text"],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert queue not in {one["name"] for one in api.queues()}
    source = Consumer({"bootstrap.servers": settings.kafka.bootstrap, "group.id": "slot", "log_level": 2})
    name = topics.full(topics.RAW, settings.kafka)
    parts = source.list_topics(name, timeout=10).topics[name].partitions
    source.assign([TopicPartition(name, part, 0) for part in parts])
    found: set[bytes] = set()

    def mine() -> bool:
        found.update(message.value() or b"" for message in source.consume(1000, 0.5))
        return len([one for one in found if f"{device} ".encode() in one]) == 5

    until(mine, 20, "the five in Kafka")
    source.close()


class Teams:
    """Which teams there are; the real one follows Kafka."""

    ready = True

    def all(self) -> set[str]:
        return {"care"}


def test_the_list_of_open_alerts_is_kept_and_finds_what_a_crash_left(rabbit: Broker) -> None:
    settings = rabbit.settings
    (tag,) = rabbit.names("t")
    team = tag.replace("x", "-")
    opened = [f"v1/alerts/{team}/p.1/a1"]

    def publisher(number: int) -> tuple[Publisher, OpenIndex, threading.Thread, threading.Event]:
        mqtt, stop = settings.mqtt, threading.Event()
        address = Address(
            mqtt.host, mqtt.port, f"vg-notifier-{tag}-{number}", mqtt.username, rabbit.gateway_password, clean=True,
            **manner(mqtt),
        )  # fmt: skip
        made = Publisher(
            address,
            filters=lambda: index.filters(),
            on_connect=lambda: index.connected(),
            on_message=lambda message: index.told(message),
        )
        index = OpenIndex(settings, Teams(), made, lambda: opened, stop)  # type: ignore[arg-type]  # a stand-in
        thread = threading.Thread(target=index.run, daemon=True)
        made.start()
        thread.start()
        until(lambda: made.connected)
        return made, index, thread, stop

    def shown(*leaves: str) -> dict[str, str]:
        """What a screen that subscribes now is given."""
        screen = rabbit.connect(anna)
        assert screen.subscribe(*(f"v1/alerts/{team}/{leaf}" for leaf in leaves))
        until(lambda: screen.got, 10, "something retained")
        until(lambda: len(screen.got) >= len(leaves) or not threading.Event().wait(0.3), 2)
        return {message.topic.split("/", 3)[3]: message.payload.decode() for message in screen.got}

    anna = rabbit.add_clinician("anna", [team])
    first, index, thread, stop = publisher(1)
    first.publish([*index.before([]), Outgoing(opened[0], b"how it stands", retain=True)])
    until(lambda: json.loads(shown("open")["open"])["alerts"] == ["p%2E1/a1"], 20, "the list")
    assert shown("p%2E1/a1") == {"p%2E1/a1": "how it stands"}
    stop.set()
    first.flush(5)
    first.close()
    thread.join(5)
    opened[:] = [f"v1/alerts/{team}/p2/a2"]  # while nobody was there
    second, _, thread, stop = publisher(2)
    second.publish([Outgoing(opened[0], b"another", retain=True)])
    until(lambda: json.loads(shown("open")["open"])["alerts"] == ["p2/a2"], 20, "the new list")
    assert shown("p2/a2", "p%2E1/a1") == {"p2/a2": "another"}
    stop.set()
    second.close()
    thread.join(5)


def test_prepare_writes_definitions_without_a_clear_password(tmp_path: Path) -> None:
    secrets = {"password_file": "of the gateway", "admin_password_file": "of the admin"}
    flags = ["--set", "mqtt.broker=rabbitmq"]
    for name, secret in secrets.items():
        (tmp_path / name).write_text(secret)
        flags += ["--set", f"mqtt.{name}={tmp_path / name}"]
    file = tmp_path / "definitions.json"
    done = CliRunner().invoke(cli, ["broker", "prepare", str(file), "--data", str(tmp_path), *flags])
    assert done.exit_code == 0, done.output
    document = json.loads(file.read_text())
    assert {user["name"]: user["tags"] for user in document["users"]} == {
        "vg-admin": "administrator", "vg-gateway": "management",
    }  # fmt: skip
    assert matches("of the gateway", f"$rabbitmq-sha512${document['users'][1]['password_hash']}")
    assert not any(secret in file.read_text() for secret in secrets.values())
    assert {policy["definition"]["overflow"] for policy in document["policies"]} == {"drop-head", "reject-publish"}


# --- pure -----------------------------------------------------------------------------------------------------------


def test_a_stored_hash_tells_its_password_from_others() -> None:
    stored = hash_password("a secret")
    assert matches("a secret", stored)
    assert not matches("another", stored)
    assert not matches("a secret", credentials.hash_password("a secret"))
    assert "a secret" not in stored


@pytest.mark.parametrize(
    ("filter_", "allowed"),
    [
        ("v1.alerts.care.*.*", True), ("v1.alerts.care.p1.*", True), ("v1.alerts.care.p1.a1", True),
        ("v1.alerts.care.events", True), ("v1.alerts.care.heartbeat", True), ("v1.alerts.care.open", True),
        ("v1.alerts.care.replies.anna.answers", True), ("v1.alerts.care.replies.anna.*", True),
        ("v1.alerts.care.#", False), ("v1.alerts.care.*.#", False), ("v1.alerts.*.*.*", False), ("#", False),
        ("v1.alerts.care.replies.*", False), ("v1.alerts.care.replies.bob.answers", False),
        ("v1.alerts.care.*.*.answers", False), ("v1.alerts.care.p1.a1.commands", False),
        ("v1.alerts.night.*.*", False), ("v1.alerts.careless.p1.a1", False), ("v1.alerts.care.*", False),
        ("v1.devices.d1.readings", False), ("v1.alerts.care", False),
    ],
)  # fmt: skip
def test_filters_that_a_clinician_may_subscribe_to(filter_: str, allowed: bool) -> None:
    rights = clinician_rights("anna", ["care", "day"])
    assert bool(re.search(rights.topic_read, filter_)) is allowed
    assert not re.search(clinician_rights("anna", []).topic_read, filter_)


def test_a_name_is_quoted_in_every_right() -> None:
    rights = device_rights("a.b+c")
    for key in ("v1.devices.axb+c.readings", "v1.devices.a.bc.readings", "v1.devices.a.bbc.status"):
        assert not re.search(rights.topic_write, key)
    for queue, allowed in (
        ("mqtt-subscription-a.b+cqos1", True), ("mqtt-subscription-a.b+c:xqos0", True),
        ("mqtt-subscription-a.b+c-xqos1", False), ("mqtt-subscription-axb+cqos1", False), ("amq.topic", False),
    ):  # fmt: skip
        assert bool(re.search(rights.configure, queue)) is allowed, queue


def test_the_api_is_not_spoken_to_in_the_clear_on_another_machine() -> None:
    flags = {"mqtt.broker": "rabbitmq", "mqtt.api_url": "http://rabbit.example:15672"}
    with pytest.raises(SettingsError, match="in the clear"):
        load(env={}, flags=flags)
    for more in ({"mqtt.api_url": "https://rabbit.example:15671"}, {"mqtt.tls": "i-accept-cleartext-on-this-network"}):
        assert load(env={}, flags={**flags, **more}).settings.mqtt.broker == "rabbitmq"


@pytest.mark.parametrize("topic", ["v1/alerts/care/p.1/a", "v1/alerts/care/p*1/a", "v1/alerts/care/p%2E1/a", "x"])
def test_dots_and_stars_in_topics_come_back(topic: str) -> None:
    from vitalgate.gateway.alert_topics import level

    safe = "/".join(level(part) for part in topic.split("/"))
    assert decoded(encoded(safe)) == safe
    assert not {".", "*"} & set(encoded(safe))
