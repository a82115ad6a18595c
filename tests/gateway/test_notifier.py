"""Receipts and alerts over a real broker, through restarts of the notifier and of the broker."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.gateway.parts import Edge, until
from tests.gateway.server_side import Kafka, state
from vitalgate.config import topics
from vitalgate.devices import records


def alert(edge: Edge, number: int, team: str = "care", **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"ev{number}", "alert_id": f"al{number}", "patient": f"{edge.name}-p",
        "team": f"{edge.name}-{team}", "state": "raised", "priority": "high", **fields,
    }  # fmt: skip


def key(body: dict[str, Any]) -> str:
    return f"{body['patient']}|{body['alert_id']}"


def place(body: dict[str, Any]) -> str:
    return topics.alert_topic(body["team"], body["patient"], body["alert_id"])


def receipts(edge: Edge, device: str) -> str:
    return topics.device_topic(device, "receipts")


def test_receipts_come_at_once_and_then_a_few_a_second(edge: Edge) -> None:
    device, other = edge.add_devices("a", "b")
    notifier = edge.run("notifier").ready()
    kafka = Kafka(edge)
    with edge.sub(device, receipts(edge, device)) as got:
        start = time.monotonic()
        kafka.kept(state(device, "e1", 1))
        until(got, 5, "the first receipt")
        assert time.monotonic() - start < 1.0
        begin = time.monotonic()
        for through in range(2, 60):
            kafka.kept(state(device, "e1", through, beyond=[(through + 2, through + 3)]))
        kafka.kept(state(other, "x", 7))
        took = time.monotonic() - begin
        last = until(lambda: (r := [json.loads(p) for _, _, p in got()]) and r[-1]["kept_through"] == 59 and r, 5)
        assert last[-1] == {"epoch": "e1", "kept_through": 59, "beyond": [[61, 62]], "rejected": []}
        assert len(last) <= 3 + took / 0.2
        assert all(topic == receipts(edge, device) for topic, _, _ in got())
    until(lambda: notifier.metric("vitalgate_receipts_total") >= len(last) + 1)


def test_a_receipt_names_refusals_of_intake_and_of_the_recorder(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    edge.run("notifier").ready()
    kafka = Kafka(edge)
    now = int(time.time() * 1e6)
    with edge.sub(device, receipts(edge, device)) as got:
        kafka.kept(state(device, "e1", 3, rejected=[("e1", 2, "schema", "why")], rejected_us=[now]))
        until(lambda: len(got()) == 1)
        for reason, seq in (("schema", 2), ("sequence_reused", 3)):
            dead = {"id": "0-1-0", "device_id": device, "reason": reason, "detail": "d", "epoch": "e1", "seq": seq}
            kafka.write(topics.DEADLETTER, device, dead)
        until(lambda: len(got()) == 2)
        first, second = (json.loads(payload) for _, _, payload in got())
        assert first["rejected"] == [{"seq": 2, "reason": "schema", "detail": "why"}]
        assert second["rejected"] == [{"seq": 3, "reason": "sequence_reused", "detail": "d"}]
        assert second["kept_through"] == 3


def test_killed_it_sends_what_it_had_not_sent_and_passes_over_what_it_cannot_read(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    notifier = edge.run("notifier").ready()
    kafka = Kafka(edge)
    with edge.sub(device, receipts(edge, device)) as got:
        kafka.kept(state(device, "e1", 1))
        until(got)
        notifier.kill()
        kafka.write(topics.SEQUENCES, device, b"\xff not a record")
        kafka.kept(state(device, "e1", 2))
        kafka.kept(state(device, "e2", 5))
        notifier = edge.run("notifier").ready()
        until(lambda: {("e1", 2), ("e2", 5)} <= {(r["epoch"], r["kept_through"]) for r in map(loads, got())}, 20)
        assert notifier.metric("vitalgate_poison_total") == 1
        assert notifier.stop()[0] == 0
        # What was acknowledged is not sent again after an orderly stop: the next that comes is new.
        count = len(got())
        edge.run("notifier").ready()
        kafka.kept(state(device, "e3", 1))
        until(lambda: len(got()) > count)
        assert [loads(item)["epoch"] for item in got()[count:]] == ["e3"]


def loads(item: tuple[str, bool, str]) -> dict[str, Any]:
    return dict(json.loads(item[2]))


def test_an_open_alert_is_retained_until_it_closes(edge: Edge) -> None:
    edge.run("notifier").ready()
    kafka, body = Kafka(edge), alert(edge, 1)
    user = edge.settings.mqtt.username
    team = f"v1/alerts/{edge.name}-care/#"
    with edge.sub(user, team) as live:
        kafka.write(topics.ALERTS, body["patient"], body)
        kafka.write(topics.ALERT_STATE, key(body), body)
        until(lambda: len(live()) == 2)
        found = {topic: json.loads(payload) for topic, _, payload in live()}
        assert found == {place(body): body, f"v1/alerts/{body['team']}/events": body}
        with edge.sub(user, team) as late:
            until(late)
            assert late() == [(place(body), True, json.dumps(body))]
        kafka.write(topics.ALERT_STATE, key(body), None)
        until(lambda: len(live()) == 3)
        assert live()[-1] == (place(body), False, "")
        with edge.sub(user, team) as later:
            edge.pub(user, f"v1/alerts/{edge.name}-care/events", "last")
            until(later)
            assert [text for _, _, text in later()] == ["last"]


def test_after_restarts_the_retained_alerts_are_those_that_are_open(edge: Edge) -> None:
    notifier = edge.run("notifier").ready()
    kafka = Kafka(edge)
    bodies = [alert(edge, n) for n in range(4)]
    for body in bodies:
        kafka.write(topics.ALERT_STATE, key(body), body)
    user, team = edge.settings.mqtt.username, f"v1/alerts/{edge.name}-care/#"

    def retained() -> set[str]:
        with edge.sub(user, team) as got:
            edge.pub(user, f"v1/alerts/{edge.name}-care/events", "last")
            until(lambda: any(text == "last" for _, _, text in got()), 10)
            return {topic for topic, flag, _ in got() if flag}

    until(lambda: retained() == {place(body) for body in bodies})
    notifier.kill()
    kafka.write(topics.ALERT_STATE, key(bodies[0]), None)
    moved = {**bodies[1], "team": f"{edge.name}-care/2"}  # another team, with a character that topics must not have
    kafka.write(topics.ALERT_STATE, key(bodies[1]), moved)
    edge.pub(user, f"v1/alerts/{edge.name}-care/somebody/stale", "{}", "-r")
    assert edge.pub(user, place(bodies[2]), "", "-r").returncode == 0  # lost by the broker
    edge.run("notifier").ready()
    until(lambda: retained() == {place(bodies[2]), place(bodies[3])})
    with edge.sub(user, f"v1/alerts/{edge.name}-care%2F2/#") as got:
        until(got)
        assert json.loads(got()[0][2]) == moved

    # The broker is killed and forgets what it had not saved; all is asserted again.
    fresh = alert(edge, 9)
    kafka.write(topics.ALERT_STATE, key(fresh), fresh)
    until(lambda: place(fresh) in retained())
    os.kill(edge.pid("mosquitto"), signal.SIGKILL)
    until(lambda: _quiet(retained) == {place(bodies[2]), place(bodies[3]), place(fresh)}, 20)


def _quiet(function: Any) -> Any:
    try:
        return function()
    except AssertionError:  # the broker is not back yet
        return None


def test_alerts_do_not_wait_for_receipts_nor_for_anything_else(edge: Edge) -> None:
    devices = edge.add_devices(*(f"d{n}" for n in range(20)))
    edge.run("notifier").ready()
    kafka = Kafka(edge)
    arrived: dict[str, float] = {}
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(edge.settings.mqtt.username, edge.gateway_password)
    client.on_message = lambda _c, _u, m: arrived.setdefault(json.loads(m.payload)["event_id"], time.monotonic())
    client.connect(edge.settings.mqtt.host, edge.settings.mqtt.port)
    client.loop_start()
    listening: list[int] = []
    client.on_subscribe = lambda *_args: listening.append(1)
    client.subscribe(f"v1/alerts/{edge.name}-care/events", 1)
    until(lambda: listening)
    sent: dict[str, float] = {}
    for n in range(60):
        for device in devices:  # 1,200 receipts meanwhile
            kafka._producer.produce(
                topics.full(topics.SEQUENCES, edge.settings.kafka), records.encode(state(device, "e", n)), device
            )
        body = alert(edge, n)
        sent[body["event_id"]] = time.monotonic()
        kafka.write(topics.ALERTS, body["patient"], body)
        time.sleep(0.02)
    until(lambda: len(arrived) == len(sent))
    client.loop_stop()
    waits = sorted(arrived[event] - sent[event] for event in sent)
    assert waits[len(waits) // 2] < 0.1, waits
    assert waits[-2] < 0.5, waits
