"""The client library against our own gateway and notifier, with a broker that is killed and devices that restart."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.parts import PASSWORD, Edge, until
from tests.gateway.server_side import SmallIntake
from vitalgate.client import Device, Policy, Rejected
from vitalgate.client.device import DeviceError
from vitalgate.config import topics

QUICK = Policy(first_s=0.5, cap_s=2.0, window=32)


@pytest.fixture
def edge(served_edge: Edge) -> Edge:
    return served_edge


@pytest.fixture
def server(edge: Edge) -> Iterator[SmallIntake]:
    """An intake that refuses the number 3."""
    intake = SmallIntake(edge, frozenset({3}))
    yield intake
    intake.close()


def make(edge: Edge, name: str, **options: Any) -> Device:
    mqtt = edge.settings.mqtt
    return Device(mqtt.host, mqtt.port, name, PASSWORD, **{"policy": QUICK, **options})


@pytest.mark.parametrize(("encoding", "version"), [("json", 5), ("cbor", 4)])
def test_what_is_sent_is_kept_and_leaves_the_outbox(
    edge: Edge, server: SmallIntake, tmp_path: Path, encoding: Any, version: Any
) -> None:
    (name,) = edge.add_devices("a")
    refused: list[Rejected] = []
    now = [1_795_258_800.0]
    with make(
        edge, name, outbox=tmp_path / "outbox", encoding=encoding, version=version, clock=lambda: now[0],
        on_rejected=refused.append, firmware="1.2",
    ) as device:  # fmt: skip
        device.send_readings([{"metric": "spo2", "value": 97, "unit": "%"}])
        device.send_waveform(
            "ecg.II", [0, 5, -7, 300], rate=250, gain=200, unit="mV", recording="r1", first_sample=0,
        )  # fmt: skip
        third = device.send_readings([{"metric": "spo2", "value": 900, "unit": "%"}])
        device.send_status(battery=80)
        assert device.wait_until_kept(20)
        assert device.pending() == 0
        until(lambda: refused)
        assert refused == [Rejected(*third, "out_of_range", "too high")]
        assert device.outbox.rejected()[0][0] == refused[0]
    by_seq = {
        document["seq"]: (topic, document)
        for topic, document in server.documents
        if "seq" in document and name in topic
    }
    assert sorted(by_seq) == [1, 2, 3, 4]
    topic, first = by_seq[1]
    assert topic == topics.device_topic(name, "readings")
    assert first["sent_at"] == first["readings"][0]["time"] == "2026-11-21T11:00:00.000Z"
    assert by_seq[2][1]["waveforms"][0]["start"] == "2026-11-21T10:59:59.984Z"
    assert by_seq[4][1]["state"] == "online"
    until(lambda: [d["state"] for d in server.of(name) if "seq" not in d] == ["online", "offline"])


def test_it_collects_while_offline_and_catches_up(edge: Edge, server: SmallIntake, tmp_path: Path) -> None:
    (name,) = edge.add_devices("a")
    offline = make(edge, name, outbox=tmp_path / "outbox", connect=False)
    keys = [offline.send_readings([{"metric": "spo2", "value": n}]) for n in range(600)]
    offline.close()
    with make(edge, name, outbox=tmp_path / "outbox") as device:
        keys.append(device.send_readings([{"metric": "spo2", "value": 600}]))
        assert device.wait_until_kept(60)
    assert set(server.numbers(name)) == set(keys)
    assert len({epoch for epoch, _ in keys}) == 2


def test_with_broker_and_gateway_killed_nothing_that_left_the_outbox_is_missing(
    edge: Edge, server: SmallIntake
) -> None:
    (name,) = edge.add_devices("a")
    with make(edge, name) as device:
        keys = []
        for n in range(300):
            keys.append(device.send_readings([{"metric": "spo2", "value": n}]))
            time.sleep(0.005)
            if n in (80, 200):
                os.kill(edge.pid("mosquitto"), signal.SIGKILL)
        assert device.wait_until_kept(90)
    assert set(server.numbers(name)) == set(keys)


def test_a_message_given_up_does_not_block_the_receipts(edge: Edge, server: SmallIntake) -> None:
    (name,) = edge.add_devices("a")
    device = make(edge, name, connect=False)
    keys = [device.send_readings([{"metric": "spo2", "value": n}]) for n in range(3)]
    assert device.declare_lost(keys[0])
    assert not device.declare_lost((keys[0][0], 99))
    with pytest.raises(DeviceError, match="max_message_bytes"):
        device.send("readings", {"readings": [{"note": "x" * 2_000_000}]})
    device.start()
    assert device.wait_until_kept(20)
    device.close()
    assert set(server.numbers(name)) == set(keys[1:])
    declared = [document for document in server.of(name) if "lost" in document]
    assert declared[0]["lost"] == [1]
    assert declared[0]["epoch"] == keys[0][0]


def test_a_wrong_password_is_no_end(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    (name,) = edge.add_devices("a")
    mqtt = edge.settings.mqtt
    with Device(mqtt.host, mqtt.port, name, "wrong", policy=QUICK) as device:
        device.send_readings([{"metric": "spo2", "value": 97}])
        until(lambda: caplog.text.count("the broker refused the device") >= 2, what="two attempts")
        assert not device.connected
        assert device.pending() == 1
    with pytest.raises(DeviceError, match="closed"):
        device.send_status()
    with pytest.raises(DeviceError, match="must begin"):
        Device("127.0.0.1", 1, "a", "x", client_id="b")
