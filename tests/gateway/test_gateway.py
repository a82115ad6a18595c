"""The gateway on a real broker and a real Kafka: what it takes it keeps, whatever is killed or stalled."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.gateway.parts import PASSWORD, Edge, numbers, until
from vitalgate.config import topics
from vitalgate.gateway import dynsec
from vitalgate.gateway.link import Link, LinkDown


class Sender:
    """A paho client that publishes numbered messages and counts the broker's acknowledgements."""

    def __init__(self, edge: Edge, device: str, version: mqtt.MQTTProtocolVersion = mqtt.MQTTv5) -> None:
        self.topic = topics.device_topic(device, "readings")
        self.acked = 0
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{device}-s", protocol=version)
        self.client.username_pw_set(device, PASSWORD)
        self.client.max_inflight_messages_set(0)
        self.client.on_publish = self._published
        self.client.connect(edge.settings.mqtt.host, edge.settings.mqtt.port)
        self.client.loop_start()
        until(self.client.is_connected)

    def _published(self, *_args: Any) -> None:
        self.acked += 1

    def send(self, first: int, count: int, size: int = 60) -> None:
        for n in range(first, first + count):
            self.client.publish(self.topic, json.dumps({"n": n, "fill": "x" * size}), qos=1)

    def wait(self, count: int) -> None:
        until(lambda: self.acked >= count, 30, f"{count} acknowledgements of the broker")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_message_reaches_kafka_untouched_with_its_headers(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    gateway = edge.run("gateway").ready()
    payload = b'{"readings": [\x00\xff]}'
    before = time.time_ns() // 1000
    for leaf in topics.MQTT_KINDS:
        assert edge.pub(device, topics.device_topic(device, leaf), payload).returncode == 0
    edge.pub(device, topics.device_topic(device, "status"), "{}", "-r")  # later tests see it is not sent again
    records = until(lambda: (r := edge.records(topics.RAW)) and len(r) == 4 and r, 10, "four records")
    assert {key for key, _, _, _ in records} == {device}
    assert len({partition for _, _, _, partition in records}) == 1
    assert {headers["topic"].rpartition("/")[2] for _, headers, _, _ in records} == set(topics.MQTT_KINDS)
    assert [value for _, _, value, _ in records].count(payload) == 3
    assert [headers.get("retain") for _, headers, _, _ in records].count("1") == 1
    assert len({headers["trace"] for _, headers, _, _ in records}) == 4
    for _, headers, _, _ in records:
        assert headers["schema"] == "device.raw"
        assert headers["schema_version"] == "1"
        assert headers["gateway"] == edge.settings.gateway.slot
        assert before - 1_000_000 < int(headers["received_at"]) < time.time_ns() // 1000
        assert len(bytes.fromhex(headers["trace"])) == 16
    assert gateway.metric("vitalgate_received_total") == 4
    until(lambda: gateway.metric("vitalgate_acked_total") == 4)
    assert gateway.metric("vitalgate_gateway_pending") == 0


def test_the_key_decides_the_partition_as_java_would(edge: Edge) -> None:
    from kafka.partitioner.default import murmur2

    devices = edge.add_devices(*"abcdefgh")
    edge.run("gateway").ready()
    for device in devices:
        edge.pub(device, topics.device_topic(device, "readings"), "{}")
    records = until(lambda: (r := edge.records(topics.RAW)) and len(r) == 8 and r)
    for key, _, _, partition in records:
        assert partition == (murmur2(key.encode()) & 0x7FFFFFFF) % edge.settings.kafka.partitions


def test_an_oversize_payload_is_cut_and_tells_its_length(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge(mqtt__max_payload_bytes="100000")
    (device,) = edge.add_devices("a")
    edge.run("gateway").ready()
    topic = topics.device_topic(device, "waveforms")
    sizes = [100_000, 100_001, 1_500_000]
    for size in sizes:
        assert edge.pub(device, topic, b"w" * size).returncode == 0
    records = until(lambda: (r := edge.records(topics.RAW)) and len(r) == 3 and r)
    found = {int(headers.get("oversize", len(value))): len(value) for _, headers, value, _ in records}
    assert found == {100_000: 100_000, 100_001: 65_536, 1_500_000: 65_536}


def test_many_oversize_payloads_do_not_make_it_grow(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    gateway = edge.run("gateway").ready()
    sender = Sender(edge, device)
    until(lambda: gateway.metric("vitalgate_mqtt_connected") == 1)
    before, largest = gateway.rss(), 2_097_152 - 100  # what the broker's limit just lets through
    for _ in range(60):
        sender.client.publish(sender.topic, b"w" * largest, qos=1)
    until(lambda: gateway.metric("vitalgate_acked_total") == 60)
    assert gateway.rss() - before < 40_000_000
    sender.close()
    found = [(headers["oversize"], len(value)) for _, headers, value, _ in edge.records(topics.RAW)]
    assert found == [(str(largest), 65_536)] * 60


@pytest.mark.parametrize("version", [5, 4])
def test_what_was_not_acknowledged_comes_again_under_ids_that_are_used_again(edge: Edge, version: int) -> None:
    """What the gateway builds on, with the broker itself: in MQTT 5 and 3.1.1."""
    (device,) = edge.add_devices("a")
    address = replace(edge.address(f"{edge.name}-raw-{version}"), clean=False, session_expiry_s=60)
    got: list[mqtt.MQTTMessage] = []

    def link() -> Link:
        got.clear()
        return Link(address, version, got.append, manual_ack=True)

    def read(link: Link, count: int) -> list[bytes]:
        until(lambda: link.step(0.1) >= 0 and len(got) >= count, 10, f"{count} messages")
        return [bytes(message.payload) for message in got]

    first = link()
    assert not first.session_present
    first.subscribe([f"$share/{edge.name}-raw/v1/devices/+/readings"], live=True)
    until(lambda: first.step(0.1) >= 0 and first.subscribed)
    assert first.refused == []
    for n in b"abc":
        edge.pub(device, topics.device_topic(device, "readings"), bytes([n]))
    assert read(first, 3) == [b"a", b"b", b"c"]
    mids = [message.mid for message in got]
    first.acknowledge(mids[:1])
    first.goodbye()
    with pytest.raises(LinkDown):
        first.acknowledge(mids[1:])
    second = link()
    assert second.session_present
    assert read(second, 2) == [b"b", b"c"]
    assert [message.mid for message in got] == mids[1:]
    assert all(message.dup for message in got)
    second.acknowledge(mids[1:])
    second.goodbye()
    third = link()
    edge.pub(device, topics.device_topic(device, "readings"), b"d")
    assert read(third, 1) == [b"d"]
    third.acknowledge([got[0].mid])
    third.unsubscribe([f"$share/{edge.name}-raw/v1/devices/+/readings"])
    until(lambda: third.step(0.1) >= 0 and third.subscribed)
    third.goodbye(session_expiry_s=0)


def test_killed_again_and_again_under_load_it_loses_nothing(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    gateway = edge.run("gateway").ready()
    sender, sent = Sender(edge, device), 0
    for _ in range(4):
        for _ in range(8):
            sender.send(sent, 150)
            sent += 150
            time.sleep(0.05)
        gateway.kill()
        sender.send(sent, 200)
        sent += 200
        gateway = edge.run("gateway").ready()
    sender.wait(sent)
    sender.close()
    assert set(range(sent)) == set(until(lambda: (n := numbers(edge)) and len(set(n)) == sent and n, 20, f"{sent}"))


def test_two_gateways_share_and_one_may_leave(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    first = edge.run("gateway").ready()
    second = edge.run("gateway", gateway__slot=f"{edge.name}-2").ready()
    sender = Sender(edge, device)
    sender.send(0, 2000)
    sender.wait(2000)
    until(lambda: len(set(numbers(edge))) == 2000)
    shares = first.metric("vitalgate_received_total"), second.metric("vitalgate_received_total")
    assert min(shares) > 300, shares
    status, took = second.stop()
    assert (status, took < 5) == (0, True)
    sender.send(2000, 500)
    sender.wait(2500)
    sender.close()
    # What the broker meant for the one that left waits for it; it comes back under its own name.
    edge.run("gateway", gateway__slot=f"{edge.name}-2").ready()
    until(lambda: set(numbers(edge)) == set(range(2500)), 20, "all of them")


def tasks(pid: int) -> list[Path]:
    """The state files of a process's threads."""
    return list(Path(f"/proc/{pid}/task").glob("*/stat"))


def test_a_slot_that_is_given_up_leaves_nothing_behind(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    gateway = edge.run("gateway").ready()
    gateway.kill()
    topic = topics.device_topic(device, "readings")
    for n in range(5):
        edge.pub(device, topic, json.dumps({"n": n}))
    retiring = edge.run("gateway --retire")
    assert retiring.popen.wait(30) == 0, retiring.log.read_text()
    assert sorted(numbers(edge)) == [0, 1, 2, 3, 4]
    edge.pub(device, topic, '{"n": 5}')  # for nobody
    edge.run("gateway").ready()
    edge.pub(device, topic, '{"n": 6}')
    until(lambda: 6 in numbers(edge))
    assert 5 not in numbers(edge)


def test_a_device_cannot_take_a_gateway_s_session(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    gateway = edge.run("gateway").ready()
    name = f"vg-gateway-{edge.settings.gateway.slot}"
    edge.pub(device, topics.device_topic(device, "readings"), '{"n": 1}', "-i", name)
    until(lambda: numbers(edge) == [1])
    assert "lost" not in gateway.log.read_text()


def test_with_kafka_stalled_it_stops_taking_does_not_grow_and_loses_nothing(make_edge: Callable[..., Edge]) -> None:
    limit = 4 * 1024 * 1024
    edge = make_edge(gateway__max_pending_bytes=str(limit))
    (device,) = edge.add_devices("a")
    gateway = edge.run("gateway").ready()
    sender = Sender(edge, device)
    sender.send(0, 200)
    sender.wait(200)
    until(lambda: gateway.metric("vitalgate_acked_total") == 200)
    kafka = edge.pid("kafka")
    os.kill(kafka, signal.SIGSTOP)
    try:
        # The signal is for one thread to take up; on a busy machine the others go on answering until it has.
        until(lambda: {thread.read_text().rpartition(") ")[2][0] for thread in tasks(kafka)} == {"T"}, 10, "its stop")
        before = gateway.rss()
        sender.send(200, 3000, size=8000)  # 24 MB, six times what may be pending
        sender.wait(3200)
        until(lambda: gateway.metric("vitalgate_gateway_pending_bytes") >= limit * 0.9, 10, "the bound")
        time.sleep(1.5)
        assert gateway.metric("vitalgate_gateway_pending_bytes") < limit + 1_000_000
        assert gateway.metric("vitalgate_acked_total") == 200
        assert gateway.rss() - before < 4 * limit
        until(lambda: gateway.get("/readyz")[0] == 503, 8)
        assert "Kafka" in gateway.get("/readyz")[1]
        assert gateway.get("/healthz")[0] == 200
        # Told to stop meanwhile, it leaves in time, and what it could not hand over stays with the broker.
        status, took = gateway.stop()
        assert (status, took < 5.5) == (0, True)
    finally:
        os.kill(kafka, signal.SIGCONT)
    sender.close()
    edge.run("gateway").ready()
    until(lambda: set(numbers(edge)) == set(range(3200)), 90, "all of them")


def test_sigterm_drains(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    gateway = edge.run("gateway").ready()
    sender = Sender(edge, device)
    sender.send(0, 3000)
    status, took = gateway.stop()
    assert (status, took < 5) == (0, True)
    sender.wait(3000)
    sender.close()
    taken = len(numbers(edge))
    edge.run("gateway").ready()
    until(lambda: set(numbers(edge)) == set(range(3000)))
    # All that it had taken it had also acknowledged: nothing came twice.
    assert len(numbers(edge)) == 3000, f"{taken} before"


def test_the_broker_killed_under_load_is_found_again(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    gateway = edge.run("gateway").ready()
    edge.pub(device, topics.device_topic(device, "readings"), '{"n": 1}')
    until(lambda: 1 in numbers(edge))
    os.kill(edge.pid("mosquitto"), signal.SIGKILL)
    until(lambda: gateway.get("/readyz")[0] == 503, 5, "it to notice")
    gateway.ready()
    until(lambda: edge.pub(device, topics.device_topic(device, "readings"), '{"n": 2}').returncode == 0)
    until(lambda: 2 in numbers(edge))


def test_without_a_broker_it_waits_and_ends_when_told(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge(mqtt__port="1")
    gateway = edge.run("gateway")
    until(lambda: gateway.log.read_text().count("cannot reach the broker at 127.0.0.1:1") >= 2, what="two attempts")
    assert gateway.get("/readyz")[0] == 503
    assert gateway.stop()[0] == 0


def test_a_wrong_password_is_said(edge: Edge, tmp_path: Any) -> None:
    secret = tmp_path / "wrong"
    secret.write_text("wrong\n")
    gateway = edge.run("gateway", mqtt__password_file=str(secret))
    until(lambda: "refused user 'vg-gateway'" in gateway.log.read_text())
    assert gateway.stop()[0] == 0


def test_a_device_speaks_for_itself_only(edge: Edge) -> None:
    a, b = edge.add_devices("a", "b")
    edge.run("gateway").ready()
    with edge.sub(a, topics.device_topic(b, "receipts"), topics.device_topic(b, "readings"), "#") as got:
        edge.pub(a, topics.device_topic(b, "readings"), '{"n": 1}')
        for leaf in ("receipts", "down", "other"):
            edge.pub(a, topics.device_topic(a, leaf), '{"n": 2}')
        edge.pub(b, topics.device_topic(b, "readings"), '{"n": 3}')
        edge.pub(edge.settings.mqtt.username, topics.device_topic(b, "receipts"), "{}")
        edge.pub(edge.settings.mqtt.username, topics.device_topic(a, "receipts"), "{}")
        until(lambda: got(), 5, "its own receipt")
        assert [topic for topic, _, _ in got()] == [topics.device_topic(a, "receipts")]
    assert until(lambda: numbers(edge)) == [3]


def test_with_a_clock_that_is_not_the_machine_s_no_time_is_told(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge(clock__source="kafka")
    (device,) = edge.add_devices("t")
    gateway = edge.run("gateway").ready()
    with edge.sub(device, topics.device_topic(device, "down")) as got:
        edge.pub(device, topics.device_topic(device, "status"), '{"state": "online"}')
        until(lambda: gateway.metric("vitalgate_acked_total") == 1)
        edge.pub(edge.settings.mqtt.username, topics.device_topic(device, "down"), '{"last": 1}')
        until(got)
        assert [text for _, _, text in got()] == ['{"last": 1}']


@pytest.mark.parametrize("version", [mqtt.MQTTv311, mqtt.MQTTv5])
def test_a_revoked_device_is_cut_at_once(edge: Edge, version: mqtt.MQTTProtocolVersion) -> None:
    (device,) = edge.add_devices("a")
    sender = Sender(edge, device, version)
    gone: list[float] = []
    sender.client.on_disconnect = lambda *_args: gone.append(time.monotonic())
    with edge.admin() as admin:
        start = time.monotonic()
        assert admin.run([dynsec.disable(device)]) == [None]
        until(lambda: gone, 5, "the cut")
        assert gone[0] - start < 0.25
    sender.close()
    assert edge.pub(device, topics.device_topic(device, "readings"), "{}").returncode != 0
