"""What Vitalgate says to a device: its settings, retained, and the time. Read by mosquitto_sub and by our client."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import pytest

from tests.gateway.parts import PASSWORD, Edge, Process, until
from vitalgate.client import ClockEstimate, Device, Settings
from vitalgate.config import topics
from vitalgate.gateway import dynsec
from vitalgate.local.stack import Stack
from vitalgate.storage.migrate import migrate
from vitalgate.storage.registry import Registry


class Managed(NamedTuple):
    """A deployment with its registry, and the registrar that runs."""

    edge: Edge
    registrar: list[Process]

    def add(self, name: str, kind: str = "scale") -> tuple[str, str]:
        """(device, password) of a new device."""
        told = self.edge.command("device", "add", kind, "--id", f"{self.edge.name}-{name}", "--json")
        return told["device_id"], told["password"]

    def configure(self, device: str, *arguments: str) -> dict[str, Any]:
        return dict(self.edge.command("device", "configure", device, *arguments, "--undeclared", "--json"))


@pytest.fixture(scope="module")
def managed(edge_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One for all tests of this module."""
    edge = Edge(edge_stack, tmp_path_factory.mktemp("managed"))
    migrate(edge.settings.database)
    yield Managed(edge, [edge.run("registrar").ready()])
    edge.close()


def down(device: str) -> str:
    return topics.device_topic(device, "down")


def said(edge: Edge, device: str, password: str, count: int = 1) -> list[tuple[bool, Any]]:
    """(retained, document) of what a fresh subscriber gets."""
    with edge.sub(device, down(device), password=password) as got:
        until(lambda: len(got()) >= count, 10, f"{count} messages")
        return [(retained, json.loads(text) if text else None) for _, retained, text in got()]


def test_settings_are_retained_for_the_device_and_every_change_is_told_and_audited(managed: Managed) -> None:
    edge = managed.edge
    device, password = managed.add("a", "ecg-patch")
    shown = edge.command("device", "show", device, "--json")
    assert (shown["settings"], shown["settings_revision"]) == ({}, 0)
    first = managed.configure(device, "interval_s=30", "leads=I,II", 'code="007"')
    assert first == {
        "device_id": device, "revision": 1, "settings": {"interval_s": 30, "leads": "I,II", "code": "007"},
        "changed": True, "applied": True,
    }  # fmt: skip
    with edge.sub(device, down(device), password=password) as live:
        until(live, 10, "what is retained")
        again = managed.configure(device, "interval_s=30")
        assert (again["changed"], again["revision"]) == (False, 1)
        edge.command(
            "device", "--as", "Anna Berg", "configure", device, "respiration=true", "--unset", "code", "--json"
        )
        until(lambda: len(live()) == 2, 10, "the change")
        assert [retained for _, retained, _ in live()] == [True, False]
        told = [json.loads(text) for _, _, text in live()]
    assert told == [
        {"type": "settings", "revision": 1, "settings": first["settings"]},
        {"type": "settings", "revision": 2, "settings": {"interval_s": 30, "leads": "I,II", "respiration": True}},
    ]
    assert "respiration = true" in edge.command("device", "show", device)
    events = [json.loads(value) for _, _, value, _ in edge.records(topics.AUDIT_INBOX)]
    mine = list({event["event_id"]: event for event in events if event["entity_id"] == device}.values())
    assert [(event["action"], event["who"] == "user:Anna Berg") for event in mine] == [
        ("device.added", False), ("device.configured", False), ("device.configured", True),
    ]  # fmt: skip
    assert all(event["who"].startswith("user:") for event in mine)
    assert mine[-1]["detail"]["set"] == {"respiration": True}
    assert mine[-1]["detail"]["unset"] == ["code"]


def test_what_the_broker_lost_and_what_was_changed_meanwhile_is_said_again(managed: Managed) -> None:
    edge = managed.edge
    (one, one_s), (two, two_s) = managed.add("b"), managed.add("c")
    managed.configure(one, "a=1")
    speaker = edge.settings.mqtt.username
    managed.registrar.pop().kill()
    assert edge.pub(speaker, down(one), "", "-r").returncode == 0
    with Registry(edge.settings.database) as registry:
        registry.configure(two, {"b": 2}, undeclared=True)
    managed.registrar.append(edge.run("registrar").ready())
    assert said(edge, one, one_s) == [(True, {"type": "settings", "revision": 1, "settings": {"a": 1}})]
    assert said(edge, two, two_s) == [(True, {"type": "settings", "revision": 1, "settings": {"b": 2}})]
    # The registrar goes on, and the broker comes back without them.
    assert edge.pub(speaker, down(one), "", "-r").returncode == 0
    os.kill(edge.pid("mosquitto"), signal.SIGKILL)
    with edge.sub_when_up(one, down(one), password=one_s) as got:
        until(lambda: [json.loads(text)["revision"] for _, _, text in got()] == [1], 20, "settings once more")


def test_a_revoked_device_leaves_nothing_and_comes_back_without_settings(managed: Managed) -> None:
    edge = managed.edge
    device, _ = managed.add("d")
    managed.configure(device, "a=1")
    edge.command("device", "revoke", device, "--json")
    done = edge.try_command("device", "configure", device, "a=2")
    assert (done.exit_code, "no active device" in done.stderr) == (1, True)
    device, password = managed.add("d")
    assert said(edge, device, password) == [(True, {"type": "settings", "revision": 2, "settings": {}})]
    edge.command("device", "revoke", device, "--json")
    with edge.admin() as admin:
        assert admin.run([dynsec.enable(device)]) == [None]
    with edge.sub(device, down(device), password=password) as got:
        edge.pub(edge.settings.mqtt.username, down(device), '{"last": 1}')
        until(got)
        assert [text for _, _, text in got()] == ['{"last": 1}']


def test_a_kind_takes_what_it_declares(managed: Managed) -> None:
    device, _ = managed.add("f", "pulse-oximeter")
    for argument, words in (
        ("interval_s=0", "interval_s is 0; it takes a whole number from 1 to 3600 s"),
        ("interval_s=1.5", "a whole number"),
        ("averaging_s=5", "one of 4, 8, 16"),
        ("quiet=1", "true or false"),
        ("intervals_s=5", "did you mean 'interval_s'"),
        ("colour=red", "it has interval_s, averaging_s, pleth, quiet"),
    ):
        done = managed.edge.try_command("device", "configure", device, argument)
        assert (done.exit_code, words in done.stderr) == (1, True), done.stderr
    told = managed.edge.command("device", "configure", device, "interval_s=10", "quiet=false", "--json")
    assert told["settings"] == {"interval_s": 10, "quiet": False}


def test_wrong_settings_say_what_is_wrong(managed: Managed) -> None:
    device, _ = managed.add("e")
    for arguments, words in (
        ((), "KEY=VALUE"),
        (("novalue",), "is not KEY=VALUE"),
        (("a=1", "a=2"), "stands twice"),
        (("a=null",), "--unset a"),
        (("a=[1]",), "a key of its own"),
        (("1a=1",), "no name of a setting"),
        (("a=" + "x" * 257,), "at most 256"),
        (("a=1e300",), "2^53"),
        (("--unset", "b"), "'b' is not set"),
        (("a=1", "--unset", "a"), "set and unset at once"),
        (tuple(f"k{n}={n}" for n in range(65)), "may have 64"),
        (tuple(f"k{n}={'x' * 200}" for n in range(60)), "8192 bytes"),
    ):
        done = managed.edge.try_command("device", "configure", device, "--undeclared", *arguments)
        assert done.exit_code in (1, 2)
        assert words in done.stderr, (arguments, done.stderr)


@pytest.fixture
def edge(served_edge: Edge) -> Edge:
    """A deployment with a gateway and a notifier."""
    return served_edge


@pytest.fixture
def device(edge: Edge) -> str:
    """A device that may connect."""
    return edge.add_devices("t")[0]


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_a_status_message_is_answered_with_the_time(edge: Edge, device: str, version: str) -> None:
    status = topics.device_topic(device, "status")
    with edge.sub(device, down(device), version=version) as got:
        before = time.time()
        edge.pub(device, status, '{"state": "online", "sent_at": "2026-11-21T10:00:00.250Z"}')
        until(got, 10, "the answer")
        edge.pub(device, status, "not at all readable")
        edge.pub(device, status, '{"state": "offline"}')
        until(lambda: len(got()) == 2, 10, "the second answer")
        edge.pub(device, topics.device_topic(device, "readings"), "{}")
        assert all(not retained for _, retained, _ in got())
        first, second = (json.loads(text) for _, _, text in got())
    assert set(first) == {"type", "time", "received_at", "sent_at_of_status"}
    assert (first["type"], first["sent_at_of_status"]) == ("time", "2026-11-21T10:00:00.250Z")
    assert second["sent_at_of_status"] is None
    received, sent = (datetime.fromisoformat(first[key]).timestamp() for key in ("received_at", "time"))
    assert before - 0.001 <= received <= sent <= time.time()
    with edge.sub(device, down(device)) as later:
        edge.pub(edge.settings.mqtt.username, down(device), '{"last": 1}')
        until(later)
        assert len(later()) == 1  # nothing was retained


def test_the_client_reckons_its_clock_and_takes_its_settings(edge: Edge, device: str) -> None:
    edge.pub(edge.settings.mqtt.username, down(device), "not for a device", "-r")
    edge.pub(edge.settings.mqtt.username, down(device), '{"type":"settings","revision":4,"settings":{"a":1}}', "-r")
    got: list[Settings] = []
    mqtt = edge.settings.mqtt
    with Device(
        mqtt.host, mqtt.port, device, PASSWORD, clock=lambda: time.time() - 3600, on_settings=got.append
    ) as client:
        estimate: ClockEstimate = until(lambda: client.clock_estimate, 10, "an answer")
        until(lambda: got, 10, "settings")
    assert abs(estimate.offset - 3600) <= estimate.round_trip / 2 + 0.002
    assert 0 <= estimate.round_trip < 5
    assert got == [Settings(4, {"a": 1})]
    edge.pub(edge.settings.mqtt.username, down(device), "", "-r")
