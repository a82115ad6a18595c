"""Registry changes reach Kafka and the broker, whatever is killed in between."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.parts import Edge, until
from vitalgate.config import topics
from vitalgate.gateway import dynsec
from vitalgate.gateway.credentials import matches
from vitalgate.storage.migrate import migrate
from vitalgate.storage.registry import Registry


@pytest.fixture
def edge(make_edge: Callable[..., Edge]) -> Edge:
    """A deployment with a schema of its own."""
    edge = make_edge()
    migrate(edge.settings.database)
    with Registry(edge.settings.database) as registry:
        registry.add_patient("p1", "Europe/Berlin", "care")
        registry.add_patient("p2", "Europe/Berlin", "care")
    return edge


def latest(edge: Edge, topic: topics.Topic) -> dict[str, dict[str, Any]]:
    return {key: json.loads(value) for key, _, value, _ in edge.records(topic)}


def receipts_of(device: str) -> str:
    return topics.device_topic(device, "receipts")


def test_a_device_added_by_command_may_connect_at_once_and_is_cut_when_revoked(edge: Edge) -> None:
    registrar = edge.run("registrar").ready()
    told = edge.command("device", "add", "pulse-oximeter", "--id", f"{edge.name}-ox", "--patient", "p1", "--json")
    assert set(told) == {"device_id", "username", "password"}
    device, password = told["device_id"], told["password"]
    assert len(password) >= 22
    topic = topics.device_topic(device, "readings")
    assert edge.pub(device, topic, "{}", password=password).returncode == 0
    assert edge.pub(device, topic, "{}", password="wrong").returncode != 0
    record = latest(edge, topics.REGISTRY_DEVICES)[device]
    assert (record["kind"], record["state"]) == ("pulse-oximeter", "active")
    assert matches(password, record["credential_hash"])
    assert password not in json.dumps(record)
    (assigned,) = latest(edge, topics.REGISTRY_ASSIGNMENTS)[device]["assignments"]
    assert (assigned["patient"], assigned["to"]) == ("p1", None)

    with edge.sub(device, receipts_of(device), password=password) as subscriber:
        before = len(subscriber.text)
        assert edge.command("device", "revoke", device, "--json") == {
            "revoked": [device], "applied": True, "certificates": 0,
        }  # fmt: skip
        until(lambda: subscriber.text[before:] or subscriber.popen.poll() is not None, 5, "the cut")
    assert edge.pub(device, topic, "{}", password=password).returncode != 0
    assert latest(edge, topics.REGISTRY_DEVICES)[device]["state"] == "revoked"

    again = edge.command("device", "add", "pulse-oximeter", "--id", device, "--json")
    assert edge.pub(device, topic, "{}", password=again["password"]).returncode == 0
    assert edge.pub(device, topic, "{}", password=password).returncode != 0
    changed = edge.command("device", "password", device, "--json")
    assert edge.pub(device, topic, "{}", password=changed["password"]).returncode == 0
    assert edge.pub(device, topic, "{}", password=again["password"]).returncode != 0
    events = [json.loads(value) for _, _, value, _ in edge.records(topics.AUDIT_INBOX)]
    actions = [event["action"] for event in events if event["entity_id"] == device]
    assert actions == ["device.added", "device.assigned", "device.revoked", "device.added", "device.changed"]
    assert registrar.popen.poll() is None


def test_a_thousand_devices_are_added_in_seconds(edge: Edge, tmp_path: Path) -> None:
    edge.run("registrar").ready()
    lines = [f"{edge.name}-{n},{'scale' if n % 2 else ''},{'p1' if n < 10 else ''}" for n in range(1000)]
    file = tmp_path / "devices.csv"
    file.write_text("device_id,kind,patient\n" + "\n".join(lines) + "\n")
    start = time.process_time()
    told = edge.command("device", "add", "thermometer", "--from", str(file), "--json")
    took = time.process_time() - start  # the machine may have other things to do
    assert len(told) == len({row["password"] for row in told}) == 1000
    assert took < 4, took
    until(lambda: len(latest(edge, topics.REGISTRY_DEVICES)) == 1000)
    kinds = {record["kind"] for record in latest(edge, topics.REGISTRY_DEVICES).values()}
    assert kinds == {"scale", "thermometer"}
    row = told[777]
    topic = topics.device_topic(row["device_id"], "readings")
    assert edge.pub(row["device_id"], topic, "{}", password=row["password"]).returncode == 0


def test_killed_at_any_moment_it_goes_on_where_it_was(edge: Edge) -> None:
    with Registry(edge.settings.database) as registry:
        for n in range(30):
            registry.add_patient(f"q{n}", "UTC", "care")
        registrar = edge.run("registrar")
        for n in range(30, 60):
            registry.add_patient(f"q{n}", "UTC", "care")
            if n % 10 == 0:
                registrar.kill()
                registrar = edge.run("registrar")
        registrar.ready()
        until(lambda: not registry.outbox(), what="an empty outbox")
    found = latest(edge, topics.REGISTRY_PATIENTS)
    assert {f"q{n}" for n in range(60)} <= found.keys()
    ids = [event["event_id"] for event in (json.loads(v) for _, _, v, _ in edge.records(topics.AUDIT_INBOX))]
    assert len(set(ids)) == 62  # repeats have the same id


def test_at_start_the_broker_is_brought_in_line_with_the_registry(edge: Edge) -> None:
    names = [f"{edge.name}-{what}" for what in ("keep", "gone", "stranger")]
    registrar = edge.run("registrar").ready()
    passwords = {}
    for name in names[:2]:
        passwords[name] = edge.command("device", "add", "scale", "--id", name, "--json")["password"]
    registrar.kill()
    with edge.admin() as admin:
        assert admin.run([dynsec.create(names[2], "x"), dynsec.disable(names[0])]) == [None, None]
    edge.command("device", "revoke", names[1], "--json", wait=False)
    edge.run("registrar").ready()
    with edge.admin() as admin:
        known = admin.clients()
    assert not known[names[0]].disabled
    assert known[names[1]].disabled
    assert names[2] not in known
    assert {"vg-admin", "vg-gateway"} <= known.keys()
    assert (
        edge.pub(names[0], topics.device_topic(names[0], "status"), "{}", password=passwords[names[0]]).returncode == 0
    )


def test_a_broker_that_lost_its_users_gets_them_back_with_their_passwords(edge: Edge) -> None:
    registrar = edge.run("registrar").ready()
    device = f"{edge.name}-a"
    password = edge.command("device", "add", "scale", "--id", device, "--json")["password"]
    told = edge.command("clinician", "add", f"{edge.name}-anna", "--team", "care", "--json")
    anna, secret = told["username"], told["password"]
    role = f"clinician-{anna}"
    with edge.admin() as admin:
        lost = [dynsec.delete(device), dynsec.delete(anna), {"command": "deleteRole", "rolename": role}]
        assert admin.run(lost) == [None, None, None]
    os.kill(edge.pid("mosquitto"), signal.SIGSTOP)  # it must not write while the file is written anew
    file = edge.stack.data / "mosquitto" / "dynamic-security.json"
    try:
        edge.command("registrar", "restore", str(file))
    finally:
        os.kill(edge.pid("mosquitto"), signal.SIGKILL)
    until(lambda: edge.pub(device, topics.device_topic(device, "status"), "{}", password=password).returncode == 0, 20)
    registrar.ready()
    assert edge.pub(anna, "x", "{}", password=secret).returncode == 0
    with edge.admin() as admin:
        assert admin.clients()[anna].roles == {"clinician", role}
        assert "exists" in str(admin.run([{"command": "createRole", "rolename": role, "acls": []}])[0])


def test_without_kafka_a_revoked_device_is_cut_all_the_same(edge: Edge) -> None:
    edge.run("registrar").ready()
    device = f"{edge.name}-a"
    password = edge.command("device", "add", "scale", "--id", device, "--json")["password"]
    kafka = edge.pid("kafka")
    os.kill(kafka, signal.SIGSTOP)
    try:
        with Registry(edge.settings.database) as registry:
            registry.revoke(device)
        topic = topics.device_topic(device, "status")
        until(lambda: edge.pub(device, topic, "{}", password=password).returncode != 0, 5, "refusal")
    finally:
        os.kill(kafka, signal.SIGCONT)
    until(lambda: latest(edge, topics.REGISTRY_DEVICES)[device]["state"] == "revoked", 40)


def test_ticks_go_to_every_partition_at_whole_intervals(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge(alerting__tick_s="0.5")
    migrate(edge.settings.database)
    edge.run("registrar").ready()
    enough = 5 * edge.settings.kafka.partitions
    records = until(lambda: len(found := edge.records(topics.TICKS)) >= enough and found, 20, "ticks")
    by_partition: dict[int, list[int]] = {}
    for _, headers, value, partition in records:
        assert headers["schema"] == "patient.ticks"
        by_partition.setdefault(partition, []).append(json.loads(value)["time_us"])
    assert len(by_partition) == edge.settings.kafka.partitions
    for times in by_partition.values():
        assert len(times) >= 4
        assert {b - a for a, b in itertools.pairwise(times)} == {500_000}
        assert abs(times[-1] / 1e6 - time.time()) < 3


def test_what_the_broker_refuses_is_counted_and_its_queue_measured(edge: Edge) -> None:
    registrar = edge.run("registrar").ready()
    a, b = edge.add_devices("a", "b")
    edge.pub(a, topics.device_topic(b, "readings"), "{}")
    edge.pub(a, topics.device_topic(a, "readings"), "{}", password="wrong")
    until(lambda: registrar.metric("vitalgate_broker_denied_total") >= 2, 10, "two refusals counted")
    until(lambda: registrar.metric("vitalgate_broker_queue_bytes") > 0, 15, "the queue's size")
    assert 0 < registrar.metric("vitalgate_broker_queue_ratio") < 0.5


def test_wrong_calls_say_what_is_wrong(edge: Edge) -> None:
    for arguments, words in (
        (("add", "scale", "--id", "a/b"), "letters, digits"),
        (("add", "scale", "--id", "vg-gateway"), "not with 'vg-'"),
        (("add", "toaster", "--id", "t1"), "no device kind 'toaster'"),
        (("add", "scale", "--id", f"{edge.name}-x", "--patient", "nobody"), "nobody"),
        (("assign", "none", "--patient", "p1"), "no device 'none'"),
        (("assign", "none", "--patient", "p1", "--from", "2026-01-01T00:00:00"), "no UTC offset"),
        (("revoke", "none"), "no active device 'none'"),
        (("show", "none"), "no device 'none'"),
    ):
        done = edge.try_command("device", *arguments)
        assert done.exit_code in (1, 2)
        assert words in done.stderr, (arguments, done.stderr)
        assert done.exception is None or isinstance(done.exception, SystemExit)
    assert edge.command("device", "list", "--json") == []


def test_without_a_registrar_it_says_that_it_will_be_done(edge: Edge) -> None:
    done = edge.try_command("device", "add", "scale", "--id", f"{edge.name}-late", "--patient", "p1", "--json")
    assert done.exit_code == 0
    assert "not applied yet" in done.stderr
    told = json.loads(done.stdout)
    shown = edge.command("device", "show", told["device_id"], "--json")
    assert shown["kind"] == "scale"
    assert shown["assignments"][0]["patient"] == "p1"
    # Correcting it splits what was said before.
    start = shown["assignments"][0]["from"]
    corrected = edge.command(
        "device", "assign", told["device_id"], "--patient", "p2", "--from", "2026-01-01T00:00:00Z", "--to", start,
        "--json", wait=False,
    )  # fmt: skip
    assert [(row["before"], row["after"]) for row in corrected["moved"]] == [(None, "p2")]
    edge.run("registrar").ready()
    until(lambda: len(latest(edge, topics.REGISTRY_ASSIGNMENTS)[told["device_id"]]["assignments"]) == 2)
