"""What every supported broker must do for us: one suite, run on each."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from tests.brokers.parts import Broker, Client, until
from vitalgate.config.settings import MqttSettings
from vitalgate.config.topics import MQTT_KINDS, device_topic
from vitalgate.gateway.access import AccessError, Device, Person, open_access
from vitalgate.gateway.broker_watch import watch
from vitalgate.gateway.link import LinkDown
from vitalgate.telemetry import metrics


def readings(device: str) -> str:
    return device_topic(device, "readings")


# --- messages -------------------------------------------------------------------------------------------------------


def test_what_is_not_acknowledged_comes_again_in_order_with_what_came_meanwhile(broker: Broker) -> None:
    (device,) = broker.add("dev")
    taker = broker.taker(device, device)
    client = broker.connect(device)
    assert [client.publish(readings(device), str(n)) for n in range(3)] == [True] * 3
    assert taker.take(3) == ["0", "1", "2"]
    taker.acknowledge(1)
    taker.crash()
    assert client.publish(readings(device), "3")
    taker.back()
    assert taker.take(3) == ["1", "2", "3"]
    assert taker.took[0].dup
    assert {message.topic for message in taker.took} == {readings(device)}
    taker.acknowledge()
    taker.crash()
    taker.back()
    assert taker.take(0) == []


def test_gateways_share_the_messages_and_one_that_is_away_keeps_its_share(broker: Broker) -> None:
    devices = broker.add(*(f"dev{n}" for n in range(12)))
    first, second = broker.taker(f"{devices[0]}-a", devices[0]), broker.taker(f"{devices[0]}-b", devices[0])
    clients = {device: broker.connect(device) for device in devices}
    for n in range(3):
        assert all(client.publish(readings(device), f"{device} {n}") for device, client in clients.items())
    took = first.take(1) + second.take(1)
    assert sorted(took) == sorted(f"{device} {n}" for device in devices for n in range(3))
    assert first.took
    assert second.took
    if broker.name == "rabbitmq":  # a device's readings all go to one gateway
        owners = [{text.split()[0] for text in taker.take(0)} for taker in (first, second)]
        assert not owners[0] & owners[1]
    first.acknowledge()
    second.acknowledge()
    second.crash()
    for device, client in clients.items():
        assert client.publish(readings(device), f"{device} away")
    before = len(first.took)
    first.take(before + 12, seconds=1.0)
    second.back()
    second.take(12 - (len(first.took) - before), seconds=10)
    late = [message.payload.decode() for message in (*first.took[before:], *second.took)]
    assert sorted(late) == sorted(f"{device} away" for device in devices)


def test_a_large_message_and_a_long_topic_pass(broker: Broker) -> None:
    (device,) = broker.add("d" * 40)
    taker = broker.taker(device, device)
    assert broker.connect(device).publish(readings(device), "x" * 1_048_576)
    assert [len(text) for text in taker.take(1)] == [1_048_576]
    patient = "p" * 300
    screen = broker.connect(broker.add_clinician("long", ["care"]))
    assert screen.subscribe(f"v1/alerts/care/{patient}/+")
    assert broker.connect("gateway").publish(f"v1/alerts/care/{patient}/a1")
    until(lambda: screen.got)
    assert screen.got[0].topic == f"v1/alerts/care/{patient}/a1"


def test_a_last_will_is_sent(broker: Broker) -> None:
    (device,) = broker.add("dev")
    taker = broker.taker(device, device)
    broker.connect(device, will=(device_topic(device, "status"), "gone")).cut()
    assert taker.take(1) == ["gone"]


def test_receipts_wait_for_a_device_with_a_persistent_session(broker: Broker) -> None:
    (device,) = broker.add("dev")
    client = broker.connect(device, client_id=device, clean=False)
    assert client.subscribe(device_topic(device, "receipts"), device_topic(device, "down"))
    gateway = broker.connect("gateway")
    assert gateway.publish(device_topic(device, "receipts"), "1")
    until(lambda: client.payloads() == ["1"])
    client.close()
    assert gateway.publish(device_topic(device, "receipts"), "2")
    again = broker.connect(device, client_id=device, clean=False)
    assert again.session_present
    until(lambda: again.payloads() == ["2"])


def test_a_retained_message_is_found_and_taken_away(broker: Broker) -> None:
    (device,) = broker.add("dev")
    gateway = broker.connect("gateway")
    topic = device_topic(device, "down")
    assert gateway.publish(topic, "settings", retain=True)
    first = broker.connect(device)
    assert first.subscribe(topic)
    until(lambda: first.payloads() == ["settings"])
    assert first.got[0].retain
    assert gateway.publish(topic, "", retain=True)
    second = broker.connect(device)
    assert second.subscribe(topic)
    assert gateway.publish(topic, "later")
    until(lambda: second.payloads() == ["later"])


def test_mqtt_5_is_spoken_or_refused_and_our_own_clients_get_through(broker: Broker) -> None:
    from vitalgate.client import Device as OurDevice

    (device,) = broker.add("dev")
    taker = broker.taker(device, device)
    client = broker.connect(device, version=5)
    assert client.let_in == (broker.name == "mosquitto")
    if not client.let_in:  # cleanly: the connection ends, nothing else happens
        assert client.gone.wait(10)
    mqtt = broker.settings.mqtt
    with OurDevice(mqtt.host, mqtt.port, device, broker.passwords[device]) as ours:
        ours.send_readings([{"metric": "spo2", "value": 97, "unit": "%", "time": "2026-11-21T10:00:00Z"}])
        found = taker.take(2)
    assert any('"online"' in text for text in found)
    assert any('"spo2"' in text for text in found)
    assert taker.link.version == (5 if broker.name == "mosquitto" else 4)


# --- who may what ---------------------------------------------------------------------------------------------------


def test_a_device_cannot_speak_for_another(broker: Broker) -> None:
    one, other = broker.add("one", "other")
    taker = broker.taker(one, one)
    forbidden = [device_topic(other, kind) for kind in MQTT_KINDS]
    forbidden += [device_topic(one, "receipts"), device_topic(one, "down"), f"v1/devices/{one}", f"{readings(one)}/x"]
    forbidden += ["v1/alerts/care/p1/a1", "v1/alerts/care/events", "v1/alerts/care/p1/a1/commands", "$SYS/x", "x"]
    screen, itself = broker.connect("gateway"), broker.connect(one)
    assert screen.subscribe("v1/alerts/+/+/+", "v1/alerts/+/events", "v1/alerts/+/+/+/commands")
    assert itself.subscribe(device_topic(one, "receipts"), device_topic(one, "down"))
    for topic in forbidden:
        broker.connect(one).publish(topic, f"forbidden {topic}", wait_s=1.0)
    assert broker.connect(one).publish(readings(one), "own")
    assert taker.take(1) == ["own"]
    assert screen.payloads() + itself.payloads() == []


def test_a_device_cannot_hear_another(broker: Broker) -> None:
    one, other = broker.add("one", "other")
    listeners = []
    for topic in (
        device_topic(other, "receipts"), device_topic(other, "down"), f"v1/devices/{other}/#", "v1/devices/+/receipts",
        "v1/devices/+/+", "#", "+/+/+/+", "v1/alerts/#", "v1/alerts/+/+/+", readings(other),
    ):  # fmt: skip
        listener = broker.connect(one)
        listener.subscribe(topic)
        listeners.append(listener)
    own = broker.connect(one)
    assert own.subscribe(device_topic(one, "receipts"))
    gateway = broker.connect("gateway")
    assert gateway.publish(device_topic(other, "receipts"), "for the other")
    assert gateway.publish(device_topic(other, "down"), "for the other")
    assert gateway.publish("v1/alerts/care/p1/a1", "an alert")
    assert broker.connect(other).publish(readings(other), "a reading")
    assert gateway.publish(device_topic(one, "receipts"), "own")
    until(lambda: own.payloads() == ["own"])
    assert {text for listener in listeners for text in listener.payloads()} <= {"own"}


def test_a_session_belongs_to_its_user(broker: Broker) -> None:
    """Whoever connects under another's client id gets nothing of what waits there."""
    one, other = broker.add("one", "other")
    mine = broker.connect(one, client_id=one, clean=False)
    assert mine.subscribe(device_topic(one, "receipts"))
    mine.close()
    assert broker.connect("gateway").publish(device_topic(one, "receipts"), "secret")
    thief = broker.connect(other, client_id=one, clean=False)
    thief.publish(readings(other), "and I publish", wait_s=1.0)
    assert thief.payloads() == []


@pytest.mark.parametrize("ids", [("abc", "a.c"), ("dev", "dev-1"), ("x_1", "x-1")])
def test_names_that_look_alike_are_told_apart(broker: Broker, ids: tuple[str, str]) -> None:
    with broker.access() as access:
        if broker.name == "rabbitmq" and any("." in one for one in ids):
            with pytest.raises(ValueError, match="dash"):
                access.check_name(ids[1])
            return
        for name in ids:
            access.check_name(name)
    one, other = broker.add(*ids)
    taker = broker.taker(one, one)
    for speaker, named in ((one, other), (other, one)):
        broker.connect(speaker).publish(readings(named), "false", wait_s=1.0)
        assert broker.connect(speaker).publish(readings(speaker), speaker)
    assert sorted(taker.take(2)) == sorted((one, other))


# --- let in, shut out -----------------------------------------------------------------------------------------------


def test_added_rotated_revoked_and_added_again_takes_effect_at_once(broker: Broker) -> None:
    (device,) = broker.add("dev")
    first_password = broker.passwords[device]
    client = broker.connect(device)
    assert client.publish(readings(device))
    assert not broker.connect(device, "wrong").let_in
    with broker.access() as access:
        assert access.admit(broker.credentials(access, [device])) == []
        assert client.gone.wait(5), "a new password must cut the connection"
        assert not broker.connect(device, first_password).let_in
        client = broker.connect(device)
        assert client.let_in
        access.shut_out([device])
        assert client.gone.wait(5), "revoking must cut the connection"
        assert not broker.connect(device).let_in
        access.shut_out([device, "nobody"])  # once more does no harm
        assert access.admit(broker.credentials(access, [device])) == []
    assert broker.connect(device).publish(readings(device))


def test_a_device_that_was_shut_out_is_let_in_again_with_its_password(broker: Broker) -> None:
    with broker.access() as access:
        (device,) = broker.names("dev")
        (made,) = broker.credentials(access, [device])
        access.prepare()
        assert access.admit([made]) == []
        access.shut_out([device])
        assert not broker.connect(device).let_in
        access.readmit([Device(device, True, made.hashed)])
        assert broker.connect(device).publish(readings(device))


def test_many_devices_are_added_in_few_requests(broker: Broker) -> None:
    devices = broker.add(*(f"many{n}" for n in range(300)))
    assert broker.connect(devices[299]).publish(readings(devices[299]))
    with broker.access() as access:
        access.shut_out(devices[:150])
    assert not broker.connect(devices[0]).let_in
    assert broker.connect(devices[150]).let_in


def test_reconciled_the_broker_knows_whom_the_registry_knows(broker: Broker) -> None:
    keep, gone, stranger, lost = broker.names("keep", "gone", "stranger", "lost")
    with broker.access() as access:
        access.prepare()
        made = {one.user: one for one in broker.credentials(access, (keep, gone, stranger, lost))}
        assert access.admit([made[keep], made[gone], made[stranger]]) == []
        client, strange = broker.connect(gone), broker.connect(stranger)
        registry = [Device(name, name != gone, made[name].hashed) for name in (keep, gone, lost)]
        done = access.reconcile_devices(lambda: registry)
        assert client.gone.wait(5)
        assert strange.gone.wait(5)
        assert (done.disabled, done.refused) == ([gone], [])
        assert stranger in done.removed
        for name, wanted in ((keep, True), (gone, False), (stranger, False), (lost, broker.name == "rabbitmq")):
            assert broker.connect(name).let_in is wanted, name
        # RabbitMQ takes a hash; Mosquitto takes none, and whoever runs it is told the remedy.
        assert (done.restored, done.missing) == (([lost], []) if broker.name == "rabbitmq" else ([], [lost]))
        assert "vitalgate device password" in access.remedy
        again = access.reconcile_devices(lambda: registry[:2])
        assert (again.disabled, again.missing) == ([], [])
        assert broker.connect("gateway").let_in


# --- clinicians -----------------------------------------------------------------------------------------------------


def _screen(broker: Broker, user: str, teams: Sequence[str]) -> Client:
    """Subscribed to all that a screen wants."""
    screen = broker.connect(user, client_id=user, clean=False)
    own = [f"v1/alerts/{team}/replies/{user}/answers" for team in teams]
    assert screen.subscribe(*(f"v1/alerts/{team}/{leaf}" for team in teams for leaf in ("+/+", "events")), *own)
    return screen


def test_clinicians_see_their_teams_and_their_own_answers_only(broker: Broker) -> None:
    anna = broker.add_clinician("anna", ["care"])
    bob = broker.add_clinician("bob", ["care", "night"])
    screens = {anna: _screen(broker, anna, ["care"]), bob: _screen(broker, bob, ["care", "night"])}
    gateway = broker.connect("gateway")
    said = {
        "v1/alerts/care/p1/a1": {anna, bob}, "v1/alerts/night/p2/a2": {bob}, "v1/alerts/care/events": {anna, bob},
        f"v1/alerts/care/replies/{anna}/answers": {anna}, f"v1/alerts/care/replies/{bob}/answers": {bob},
        "v1/alerts/other/p3/a3": set(),
    }  # fmt: skip
    for topic in said:
        assert gateway.publish(topic, topic)
    assert gateway.publish("v1/alerts/care/events", "last")
    for user, screen in screens.items():
        until(lambda screen=screen: "last" in screen.payloads())
        assert set(screen.payloads()) - {"last"} == {topic for topic, users in said.items() if user in users}
    thief = broker.connect(anna)
    for topic in (f"v1/alerts/care/replies/{bob}/#", "v1/alerts/night/+/+", "v1/alerts/#", "v1/alerts/+/+/+", "#"):
        broker.connect(anna).subscribe(topic)
    thief.subscribe("v1/alerts/night/p2/a2")
    for topic in said:
        assert gateway.publish(topic, f"second {topic}")
    until(lambda: any(text == "second v1/alerts/care/events" for text in screens[anna].payloads()))
    hers = [client for client in broker.clients if client.user == anna]
    heard = {text for client in hers for text in client.payloads()}
    allowed = {topic for topic, users in said.items() if anna in users}
    assert {text.removeprefix("second ") for text in heard} - {"last"} <= allowed


def test_a_clinician_gives_commands_in_their_own_name(broker: Broker) -> None:
    anna, bob = broker.add_clinician("anna", ["care"]), broker.add_clinician("bob", ["care"])
    listener = broker.connect("gateway")
    assert listener.subscribe("v1/alerts/+/+/+/commands", "v1/alerts/+/+/+/commands/+")
    base = "v1/alerts/care/p1/a1/commands"
    for topic in (f"{base}/{bob}", "v1/alerts/night/p1/a1/commands", "v1/alerts/care/p1/a1", "v1/alerts/care/events"):
        broker.connect(anna).publish(topic, f"false {topic}", wait_s=1.0)
    assert broker.connect(anna).publish(f"{base}/{anna}", "own")
    assert broker.connect(anna).publish(base, "team's")
    until(lambda: len(listener.got) >= 2)
    assert listener.payloads() == ["own", "team's"]


def test_a_team_taken_away_is_seen_no_more_also_by_a_subscription_from_before(broker: Broker) -> None:
    eve = broker.add_clinician("eve", ["care", "night"])
    screen = _screen(broker, eve, ["care", "night"])
    record = {"clinician": eve, "state": "active", "teams": ["care"]}
    with broker.access() as access:
        access.change_clinician(record, {**record, "teams": ["care", "night"]})
        gateway = broker.connect("gateway")
        if screen.gone.wait(1.0):  # RabbitMQ cuts; the session and what may be seen go on
            screen = broker.connect(eve, client_id=eve, clean=False)
            assert screen.session_present
        assert gateway.publish("v1/alerts/night/p1/a1", "not for eve")
        assert gateway.publish("v1/alerts/care/p1/a1", "for eve")
        until(lambda: screen.payloads() == ["for eve"])
        access.change_clinician({**record, "teams": ["care", "day"]}, record)
        screen = broker.connect(eve, client_id=f"{eve}:2") if screen.gone.wait(0.5) else screen
        assert screen.subscribe("v1/alerts/day/+/+")
        assert gateway.publish("v1/alerts/day/p1/a1", "of the day")
        until(lambda: "of the day" in screen.payloads())
        access.change_clinician({**record, "state": "revoked"}, record)
        assert screen.gone.wait(5)
        assert not broker.connect(eve).let_in


def test_clinicians_are_reconciled(broker: Broker) -> None:
    ann, ben, out = broker.names("ann", "ben", "out")
    with broker.access() as access:
        made = {one.user: one for one in broker.credentials(access, (ann, ben, out))}
        for one in made.values():
            assert access.admit_clinician(one, ["care"]) == []
        people = [Person(ann, True, ["night"], made[ann].hashed), Person(ben, False, ["care"], made[ben].hashed)]
        done = access.reconcile_clinicians(lambda: people)
        assert done.refused == []
        assert broker.connect(ann).let_in
        assert not broker.connect(ben).let_in
        assert not broker.connect(out).let_in
        screen = broker.connect(ann)
        assert screen.subscribe("v1/alerts/night/+/+")
        gateway = broker.connect("gateway")
        assert gateway.publish("v1/alerts/night/p1/a1", "for ann")
        until(lambda: screen.payloads() == ["for ann"])


# --- the watch, and faults ------------------------------------------------------------------------------------------


def test_refusals_are_counted_and_the_queue_is_measured(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    (device,) = broker.add("dev")
    taker = broker.taker(device, device)
    taker.crash()
    with broker.access():  # the administrator's password is right
        password = (broker.stack.layout.secrets / "mqtt-admin").read_text().strip()
    small = broker.settings.mqtt.model_copy(update={"max_queued_bytes": 150_000})
    before = metrics.BROKER_DENIED._value.get()
    observer = watch(small, password)
    observer.start()
    try:
        client = broker.connect(device)
        assert all(client.publish(readings(device), "x" * 10_000) for _ in range(10))
        broker.connect(device, "wrong")
        broker.connect(device).publish(readings("another"), wait_s=1.0)
        until(lambda: metrics.BROKER_DENIED._value.get() >= before + 2, 10, "two refusals")
        until(lambda: metrics.BROKER_QUEUE_RATIO._value.get() > 0.5, 30, "half of the bound")
        until(lambda: "the broker's queue is half full" in caplog.text, 30)
    finally:
        observer.stop()


def test_a_wrong_administrator_and_a_missing_broker_are_said(broker: Broker) -> None:
    mqtt: MqttSettings = broker.settings.mqtt
    with pytest.raises((LinkDown, AccessError), match="password"), open_access(mqtt, "wrong"):
        pass
    away = mqtt.model_copy(update={"port": 1, "api_url": "http://127.0.0.1:1"})
    with pytest.raises(LinkDown, match="cannot reach"), open_access(away, "x"):
        pass


def test_status_names_the_broker(broker: Broker) -> None:
    document = broker.stack.status()
    assert document["mqtt"]["broker"] == broker.name
    assert document["health"]["mqtt"]["ok"]
    assert {process["name"] for process in document["processes"]} == (
        {"mosquitto"} if broker.name == "mosquitto" else {"epmd", "rabbitmq"}
    )
    assert json.dumps(document)
