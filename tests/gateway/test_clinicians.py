"""Clinicians on a real broker: they see what is their teams', answer alerts in their own name, and are cut."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.gateway.parts import Edge, Process, until
from tests.gateway.server_side import Kafka
from vitalgate.config import topics
from vitalgate.devices import records
from vitalgate.local.stack import Stack
from vitalgate.storage.migrate import migrate
from vitalgate.storage.registry import Registry

_numbers = itertools.count(1)


class Screen:
    """A clinician's MQTT 5 client."""

    def __init__(self, edge: Edge, user: str, password: str) -> None:
        self.user = user
        self.got: list[mqtt.MQTTMessage] = []
        self.refused: list[Any] = []
        self.granted: list[Any] = []
        self.up = threading.Event()
        self.down = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        self.client.username_pw_set(user, password)
        self.client.on_connect = lambda _c, _d, _f, reason, _p: (reason.is_failure or self.up.set(), None)[1]
        self.client.on_disconnect = lambda *_: self.down.set()
        self.client.on_message = lambda _c, _d, message: self.got.append(message)
        self.client.on_subscribe = lambda _c, _d, _m, reasons, _p: self.granted.extend(reasons)
        self.client.on_publish = lambda _c, _d, _m, reason, _p: self.refused.append(reason)
        self.client.connect(edge.settings.mqtt.host, edge.settings.mqtt.port)
        self.client.loop_start()

    def subscribe(self, *filters: str) -> None:
        self.granted.clear()
        self.client.subscribe([(name, mqtt.SubscribeOptions(1)) for name in filters])
        until(lambda: len(self.granted) == len(filters), 10, "SUBACK")

    def say(self, topic: str, document: Any, answer: str = "", correlation: bytes = b"", retain: bool = False) -> bool:
        """Publish; whether the broker let it through."""
        properties = Properties(PacketTypes.PUBLISH)
        if answer:
            properties.ResponseTopic = answer
        if correlation:
            properties.CorrelationData = correlation
        self.refused.clear()
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.client.publish(topic, data, 1, retain, properties)
        until(lambda: self.refused, 10, "PUBACK")
        return not self.refused[0].is_failure

    def on(self, topic: str) -> list[dict[str, Any]]:
        """What has come on a topic."""
        return [json.loads(m.payload) if m.payload else {} for m in list(self.got) if m.topic == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def screen(edge: Edge, user: str, password: str) -> Iterator[Screen]:
    made = Screen(edge, user, password)
    try:
        assert made.up.wait(10), "not let in"
        yield made
    finally:
        made.close()


@dataclass
class Care:
    """A deployment with registrar and notifier, two teams of this test's own, and a patient of each."""

    edge: Edge
    notifier: Process
    blue: str
    red: str
    p_blue: str
    p_red: str


@pytest.fixture(scope="module")
def served(edge_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, list[Process]]]:
    edge = Edge(edge_stack, tmp_path_factory.mktemp("clinicians"), alerting__heartbeat_s="0.4")
    migrate(edge.settings.database)
    edge.run("registrar")
    yield edge, [edge.run("notifier").ready()]
    edge.close()


@pytest.fixture
def care(served: tuple[Edge, list[Process]]) -> Care:
    edge, running = served
    n = next(_numbers)
    made = Care(edge, running[-1], f"{edge.name}-blue{n}", f"{edge.name}-red{n}", f"pb{n}", f"pr{n}")
    with Registry(edge.settings.database) as registry:
        registry.add_patient(made.p_blue, "UTC", made.blue)
        change = registry.add_patient(made.p_red, "UTC", made.red)
        assert registry.wait_applied(change.outbox, 60)
    return made


def clinician(edge: Edge, name: str, *teams: str) -> tuple[str, str]:
    user = f"{edge.name}-{name}{next(_numbers)}"
    given = [part for team in teams for part in ("--team", team)]
    told = edge.command("clinician", "add", user, *given, "--name", name.title(), "--json")
    assert set(told) == {"clinician", "username", "password"}
    return told["username"], told["password"]


def alert(team: str, patient: str, number: int = 1) -> dict[str, Any]:
    return {
        "event_id": f"event-{number}", "alert_id": f"alert-{number}", "patient": patient, "team": team,
        "state": "raised", "priority": "high",
    }  # fmt: skip


def raise_alert(kafka: Kafka, body: dict[str, Any]) -> str:
    kafka.write(topics.ALERTS, body["patient"], body)
    kafka.write(topics.ALERT_STATE, f"{body['patient']}|{body['alert_id']}", body)
    return topics.alert_topic(body["team"], body["patient"], body["alert_id"])


def commands(care: Care) -> list[dict[str, Any]]:
    found = [json.loads(value) for _, _, value, _ in care.edge.records(topics.ALERT_COMMANDS)]
    return [one for one in found if one["patient"] in (care.p_blue, care.p_red)]


def answer_all(edge: Edge, kafka: Kafka, team: str, said: dict[str, Any]) -> None:
    """As the alert engine would."""
    reply = {
        **{name: said[name] for name in ("command_id", "alert_id", "patient", "who", "action")},
        "team": team, "outcome": "done", "detail": "", "state": "acknowledged", "number": 2,
    }  # fmt: skip
    kafka.write(topics.ALERT_REPLIES, said["patient"], reply)


def test_a_clinician_sees_the_teams_that_are_theirs_now_and_is_cut_when_revoked(
    care: Care,
) -> None:
    edge, blue, red = care.edge, care.blue, care.red
    kafka = Kafka(edge)
    anna, password = clinician(edge, "anna", blue)
    broker = edge.pid("mosquitto")
    mine, theirs = raise_alert(kafka, alert(blue, care.p_blue, 1)), raise_alert(kafka, alert(red, care.p_red, 2))
    with screen(edge, anna, password) as anna_s:
        # Mosquitto grants every subscription and looks at the rights of each message.
        anna_s.subscribe(f"v1/alerts/{red}/#", "#")
        until(lambda: anna_s.on(mine))
        until(lambda: anna_s.on(f"v1/alerts/{blue}/heartbeat"))
        assert not anna_s.on(theirs)
        # Another team, while the connection stands.
        assert edge.command("clinician", "assign", anna, "--team", red, "--json")["teams"] == [blue, red]
        until(lambda: anna_s.on(f"v1/alerts/{red}/heartbeat"))  # by the subscription from before
        anna_s.subscribe(f"v1/alerts/{red}/#")
        until(lambda: anna_s.on(theirs))
        # Taken away: nothing more comes, though it is subscribed to.
        edge.command("clinician", "assign", anna, "--not-team", blue, "--json")
        before = len(anna_s.on(f"v1/alerts/{blue}/events"))
        raise_alert(kafka, alert(blue, care.p_blue, 3))
        raise_alert(kafka, alert(red, care.p_red, 4))
        until(lambda: anna_s.on(f"v1/alerts/{red}/events"))
        time.sleep(0.3)
        assert len(anna_s.on(f"v1/alerts/{blue}/events")) == before
        assert not anna_s.say(f"{mine}/commands/{anna}", {"action": "acknowledge"})
        assert edge.command("clinician", "revoke", anna, "--json") == {"revoked": [anna], "applied": True}
        assert anna_s.down.wait(2), "still connected"
    assert edge.pub(anna, "x", "{}", password=password).returncode != 0
    assert edge.pid("mosquitto") == broker
    assert edge.command("clinician", "show", anna, "--json")["state"] == "revoked"
    # Added again: another password, and the teams named now.
    told = edge.command("clinician", "add", anna, "--team", blue, "--json")
    with screen(edge, anna, told["password"]) as again:
        again.subscribe("v1/alerts/#")
        until(lambda: again.on(f"v1/alerts/{blue}/heartbeat"))
        assert not [m.topic for m in again.got if f"/{red}/" in m.topic]
    events = [json.loads(value) for _, _, value, _ in edge.records(topics.AUDIT_INBOX)]
    assert [(e["action"], e["who"][:5]) for e in events if e["entity_id"] == anna] == [
        ("clinician.added", "user:"), ("clinician.assigned", "user:"), ("clinician.assigned", "user:"),
        ("clinician.revoked", "user:"), ("clinician.added", "user:"),
    ]  # fmt: skip
    assert password not in json.dumps(events)


def test_who_gave_a_command_is_what_the_broker_says(care: Care) -> None:
    edge, blue, red, notifier = care.edge, care.blue, care.red, care.notifier
    kafka = Kafka(edge)
    anna, anna_password = clinician(edge, "anna", blue)
    ben, ben_password = clinician(edge, "ben", blue)
    place = raise_alert(kafka, alert(blue, care.p_blue))
    own = f"v1/alerts/{blue}/replies/{anna}"
    with screen(edge, anna, anna_password) as a, screen(edge, ben, ben_password) as b:
        for one in (a, b):
            one.subscribe(f"v1/alerts/{blue}/#")
        # Nobody publishes in another's name, nor for another team.
        assert not b.say(f"{place}/commands/{anna}", {"action": "acknowledge"})
        assert not b.say(f"v1/alerts/{red}/{care.p_red}/alert-2/commands/{ben}", {"action": "acknowledge"})
        # The user's own topic.
        assert a.say(f"{place}/commands/{anna}", {"action": "acknowledge", "command_id": "command-1"})
        (first,) = until(lambda: commands(care))
        assert first["who"] == f"clinician:{anna}"
        assert (first["patient"], first["alert_id"], first["action"]) == (care.p_blue, "alert-1", "acknowledge")
        answer_all(edge, kafka, blue, first)
        (reply,) = until(lambda: a.on(own))
        assert (reply["outcome"], reply["command_id"]) == ("done", "command-1")
        # MQTT 5: a response topic of one's own, and correlation data.
        assert a.say(f"{place}/commands/{anna}", {"action": "comment", "text": "x"}, f"{own}/tab-7", b"\x00\x01")
        second = until(lambda: len(found := commands(care)) == 2 and found[1])
        assert len(second["command_id"]) >= 8
        answer_all(edge, kafka, blue, second)
        until(lambda: a.on(f"{own}/tab-7"))
        (message,) = [m for m in a.got if m.topic == f"{own}/tab-7"]
        assert message.properties.CorrelationData == b"\x00\x01"
        # The team's topic: confirmed on the replies that only the named user may read.
        wish = {"action": "unsilence", "command_id": "command-3", "as": anna}
        assert b.say(f"{place}/commands", wish)
        asked = until(lambda: [r for r in a.on(own) if r["outcome"] == "confirm"])[0]
        assert len(commands(care)) == 2
        assert not [m for m in b.got if "replies" in m.topic or "commands" in m.topic]
        assert b.say(f"{place}/commands", {**wish, "confirm": "1.2"})
        assert b.say(f"{place}/commands", {**wish, "confirm": asked["confirm"], "action": "acknowledge"})
        assert a.say(f"{place}/commands", {**wish, "confirm": asked["confirm"]})
        third = until(lambda: len(found := commands(care)) == 3 and found[2])
        assert (third["who"], third["action"]) == (f"clinician:{anna}", "unsilence")
        assert not {"as", "confirm"} & third.keys()
        # What cannot be is refused, with the reason, and never reaches the alert engine.
        for topic, document, words in (
            (
                f"v1/alerts/{blue}/{care.p_red}/alert-2/commands/{anna}",
                {"action": "acknowledge"},
                "not in the care of team",
            ),
            (f"{place}/commands/{anna}", {"action": "sing"}, "`action` must be one of"),
            (f"{place}/commands/{anna}", b"no json", "no JSON"),
            (f"{place}/commands/{anna}", {"action": "acknowledge", "who": "user:root"}, "unknown field 'who'"),
            (f"{place}/commands/{anna}", {"action": "acknowledge", "as": ben}, "the broker says"),
        ):
            count = len(a.on(own))
            assert a.say(topic, document)
            refused = until(lambda count=count: len(found := a.on(own)) > count and found[-1])
            assert refused["outcome"] == "refused"
            assert words in refused["detail"]
        count = len(a.on(own))
        assert a.say(f"{place}/commands/{anna}", {"action": "acknowledge"}, "v1/devices/d/down")
        assert "is not yours" in until(lambda: len(found := a.on(own)) > count and found[-1])["detail"]
        assert a.say(f"{place}/commands/{anna}", {"action": "acknowledge"}, retain=True)
        until(lambda: "must not be retained" in a.on(own)[-1]["detail"])
    assert len(commands(care)) == 3
    inbox = [json.loads(value) for _, _, value, _ in edge.records(topics.AUDIT_INBOX)]
    refusals = [e for e in inbox if e["action"] == "alert.command_refused" and e["detail"]["patient"] == care.p_blue]
    assert {(e["who"], e["outcome"]) for e in refusals} == {(f"clinician:{anna}", "refused")}
    assert any("must not be retained" in e["detail"]["detail"] for e in refusals)
    assert notifier.metric("vitalgate_alert_commands_total") >= 12


def test_a_command_given_while_the_notifier_is_away_is_carried_when_it_is_back(
    care: Care, served: tuple[Edge, list[Process]]
) -> None:
    running = served[1]
    edge, blue = care.edge, care.blue
    kafka = Kafka(edge)
    anna, password = clinician(edge, "anna", blue)
    place = raise_alert(kafka, alert(blue, care.p_blue))
    care.notifier.kill()
    own = f"v1/alerts/{blue}/replies/{anna}"
    with screen(edge, anna, password) as a:
        a.subscribe(own)
        assert a.say(f"{place}/commands/{anna}", {"action": "acknowledge", "command_id": "while-away"})
        notifier = edge.run("notifier").ready()
        (given,) = until(lambda: commands(care))
        assert given["command_id"] == "while-away"
        notifier.kill()
        answer_all(edge, kafka, blue, given)  # the way back is known from the answer alone
        running.append(edge.run("notifier").ready())
        until(lambda: a.on(own))


def test_a_broker_that_forgot_its_users_is_told_again(care: Care) -> None:
    edge, blue, red = care.edge, care.blue, care.red
    anna, password = clinician(edge, "anna", blue)
    with edge.admin() as admin:
        role = f"clinician-{anna}"
        assert admin.run([{"command": "modifyRole", "rolename": role, "acls": []}]) == [None]
    edge.run("registrar").ready()  # it looks at the broker when it starts
    with screen(edge, anna, password) as a:
        a.subscribe("v1/alerts/#")
        until(lambda: a.on(f"v1/alerts/{blue}/heartbeat"))
        assert not [m.topic for m in a.got if f"/{red}/" in m.topic]
    changed = edge.command("clinician", "password", anna, "--json")
    assert edge.pub(anna, "x", "{}", password=password).returncode != 0
    assert edge.pub(anna, "x", "{}", password=changed["password"]).returncode == 0
    events = [json.loads(value) for _, _, value, _ in edge.records(topics.AUDIT_INBOX)]
    found = {e["event_id"]: e["action"] for e in events if e["entity_id"] == anna}
    assert sorted(found.values()) == ["clinician.added", "clinician.changed"]
    listed = edge.command("clinician", "list", "--team", blue, "--json")
    assert [one["clinician"] for one in listed] == [anna]
    shown = edge.command("clinician", "show", anna, "--json")
    assert f"v1/alerts/{blue}/+/+/commands/{anna}" in shown["topics"]["write"]
    for arguments, words in (
        (("add", anna), "exists already"),
        (("add", "vg-admin"), "not with 'vg-'"),
        (("add", f"{edge.name}-x", "--team", ""), "no name of a team"),
        (("assign", anna), "name --team"),
        (("assign", "nobody", "--team", "x"), "no active clinician 'nobody'"),
        (("revoke", "nobody"), "no active clinician"),
        (("show", "nobody"), "no clinician 'nobody'"),
    ):
        done = edge.try_command("clinician", *arguments)
        assert done.exit_code in (1, 2)
        assert words in done.stderr, (arguments, done.stderr)
    # One name is one user: a device cannot be named as a clinician is.
    done = edge.try_command("device", "add", "scale", "--id", anna)
    assert "is the user name of a clinician" in done.stderr


def spo2(patient: str, value: float) -> bytes:
    """A measurement of now, as intake gives it to the alert engine."""
    now = time.time_ns() // 1000
    one = records.Reading(0, "spo2", "", now, 0, value, None, "", "", "%", value, "%", now, 0)
    message = records.Message(
        f"ox-{patient}", "readings", 1, now, "ab" * 16, "e1", 1, 1, 1, False, 0, b"", b"", readings=[one]
    )
    return records.encode(records.PatientInput("add", patient, message))


def test_an_alert_is_acknowledged_at_the_real_engine_and_heartbeats_say_how_far_it_has_come(care: Care) -> None:
    edge, blue, red = care.edge, care.blue, care.red
    kafka = Kafka(edge)
    user = edge.settings.mqtt.username
    with edge.sub(user, f"v1/alerts/{blue}/heartbeat", f"v1/alerts/{red}/heartbeat") as got:
        until(lambda: {topic.split("/")[2] for topic, _, _ in got()} == {blue, red}, 10, "both teams' heartbeats")
        beat = json.loads(got()[-1][2])
        assert beat["state"] == "late"  # nobody works: quiet is not the same as well
        assert beat["alerts_through"] is None
        raise_alert(kafka, alert(blue, care.p_blue))
        edge.run("worker alerting").ready()

        def well() -> bool:
            latest = {(b := json.loads(payload))["team"]: b for _, _, payload in got()}
            return latest[blue]["state"] == "ok" and latest[blue]["open"] == 1 and latest[red]["open"] == 0

        until(well, 30, "a heartbeat of a system that works")
        assert json.loads(got()[-1][2])["behind_s"] < 5
    # The whole way: measured, raised, acknowledged from a screen, told to everybody, audited.
    anna, password = clinician(edge, "anna", blue)
    with screen(edge, anna, password) as a:
        a.subscribe(f"v1/alerts/{blue}/#")
        kafka.write(topics.INPUTS, care.p_blue, spo2(care.p_blue, 76.0))
        raised = until(lambda: [e for e in a.on(f"v1/alerts/{blue}/events") if e.get("rule") == "spo2-critical"])[0]
        place = topics.alert_topic(blue, care.p_blue, raised["alert_id"])
        until(lambda: a.on(place))
        assert a.say(f"{place}/commands/{anna}", {"action": "acknowledge", "command_id": "from-screen"})
        reply = until(lambda: a.on(f"v1/alerts/{blue}/replies/{anna}"))[0]
        assert (reply["outcome"], reply["state"], reply["command_id"]) == ("done", "acknowledged", "from-screen")
        until(lambda: a.on(place)[-1]["acknowledged_by"] == f"clinician:{anna}")
        # The same once more counts once, and gets the same answer.
        assert a.say(f"{place}/commands/{anna}", {"action": "acknowledge", "command_id": "from-screen"})
        until(lambda: a.on(f"v1/alerts/{blue}/replies/{anna}") == [reply, reply])
    inbox = [json.loads(value) for _, _, value, _ in edge.records(topics.AUDIT_INBOX)]
    steps = {e["event_id"]: e for e in inbox if e["entity_id"] == raised["alert_id"]}.values()
    assert [e["detail"]["by"] for e in steps if e["action"] == "alert.acknowledged"] == [f"clinician:{anna}"]
