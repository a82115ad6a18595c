"""The alerting worker on a real Kafka, killed again and again: one alert for each cause, and none twice in the end."""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.alerts import reference
from tests.alerts.feeding import book, feature, given, reading, us
from tests.alerts.worker_process import read_all, running, send, wait_for
from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.config.topics import Topic
from vitalgate.devices import times
from vitalgate.devices.records import PatientInput, encode
from vitalgate.local.topics import create_topics
from vitalgate.stream.alerting_ask import ask
from vitalgate.stream.alerting_read import events, open_alerts
from vitalgate.stream.alerting_setting import SettingError, rosters, set_roster

TOPICS = (
    topics.INPUTS, topics.FEATURES, topics.TICKS, topics.ALERTS, topics.ALERT_STATE, topics.ALERT_MEMORY,
    topics.AUDIT_INBOX, topics.REGISTRY_DEVICES, topics.REGISTRY_ASSIGNMENTS, topics.REGISTRY_PATIENTS,
    topics.ALERT_COMMANDS, topics.ALERT_REPLIES, topics.ALERT_DELIVERIES, topics.REGISTRY_ROSTERS,
    topics.REGISTRY_COHORTS,
)  # fmt: skip
_numbers = itertools.count(1)


@pytest.fixture
def settings(kafka_bootstrap: str, tmp_path: Path) -> Settings:
    flags = {
        "kafka.bootstrap": kafka_bootstrap, "kafka.prefix": f"alerting{os.getpid()}-{next(_numbers)}.",
        "kafka.partitions": "2",
    }  # fmt: skip
    made = load(flags=flags, env={}, data=str(tmp_path / "data")).settings
    create_topics(made.kafka, TOPICS)
    return made


def inputs(records: list[PatientInput]) -> list[tuple[Topic, str | None, bytes]]:
    return [(topics.INPUTS, record.patient, encode(record)) for record in records]


def tick(at: float, partitions: int = 2) -> list[tuple[Topic, str | None, bytes]]:
    # Keys that murmur2 puts into each of two partitions.
    value = orjson.dumps({"time": times.text(us(at)), "time_us": us(at)})
    return [(topics.TICKS, key, value) for key in ("a", "b", "c", "d", "e", "f")]


def rhythm(**fields: Any) -> tuple[Topic, str | None, bytes]:
    record = feature(**fields)
    record["start"], record["end"] = times.text(record.pop("start_us")), times.text(record.pop("end_us"))
    return topics.FEATURES, record["patient"], orjson.dumps(record)


def told(settings: Settings) -> list[dict[str, Any]]:
    """The events, each once: after a kill one may be there twice, to the letter."""
    found: dict[str, bytes] = {}
    for message in read_all(settings.kafka, topics.ALERTS):
        value = message.value() or b""
        assert isinstance(value, bytes)
        name = orjson.loads(value)["event_id"]
        assert found.setdefault(name, value) == value
    return [orjson.loads(value) for value in found.values()]


def state(settings: Settings) -> dict[bytes, dict[str, Any]]:
    found: dict[bytes, Any] = {}
    for message in read_all(settings.kafka, topics.ALERT_STATE):
        key, value = message.key(), message.value()
        assert isinstance(key, bytes)
        found[key] = None if value is None else orjson.loads(value)
    return {key: value for key, value in found.items() if value is not None}


def test_raised_and_cleared_on_the_topics(settings: Settings, tmp_path: Path) -> None:
    patient = {"patient": "p1", "change": 1, "zones": [], "team": "cardio", "overrides": {}}
    send(settings.kafka, [(topics.REGISTRY_PATIENTS, "p1", orjson.dumps(patient))])
    with running(settings, "alerting", tmp_path) as worker:
        send(settings.kafka, inputs([given(reading("glucose", 0, 43.8125), seq=1)]))
        wait_for(lambda: len(told(settings)) == 2)
        raised = {e["rule"]: e for e in told(settings)}
        assert set(raised) == {"glucose-low", "glucose-very-low"}
        event = raised["glucose-very-low"]
        assert (event["state"], event["team"], event["priority"]) == ("raised", "cardio", "high")
        assert event["value"] == 43.8125
        assert {value["alert_id"] for value in state(settings).values()} == {e["alert_id"] for e in raised.values()}
        # The team changes while the alerts are open: the state says so, no event is made.
        send(settings.kafka, [(topics.REGISTRY_PATIENTS, "p1", orjson.dumps(patient | {"team": "renal", "change": 2}))])
        wait_for(lambda: {value["team"] for value in state(settings).values()} == {"renal"})
        send(settings.kafka, inputs([given(reading("glucose", 900, 99.8125), seq=2)]))
        wait_for(lambda: not state(settings))
        assert len(told(settings)) == 4
        message = read_all(settings.kafka, topics.ALERTS)[0]
        assert dict(message.headers() or [])["schema"] == b"patient.alerts" and message.key() == b"p1"
        inbox = [orjson.loads(m.value() or b"") for m in read_all(settings.kafka, topics.AUDIT_INBOX)]
        assert sorted(e["action"] for e in inbox) == ["alert.cleared"] * 2 + ["alert.raised"] * 2
        assert "43.8" not in str(inbox) and "99.8" not in str(inbox), "no measured value in the audit trail"
        assert worker.stop() == 0


def test_timer_outlives_a_kill(settings: Settings, tmp_path: Path) -> None:
    with running(settings, "alerting", tmp_path) as worker:
        send(settings.kafka, [*tick(18), rhythm(name="event.asystole", start=10, end=16, value=6.0)])
        wait_for(lambda: len(told(settings)) == 1)
        worker.kill()
        worker.start()
        send(settings.kafka, tick(60))
        wait_for(lambda: len(told(settings)) == 2)
        assert [e["state"] for e in told(settings)] == ["raised", "cleared"]


def test_killed_at_random_gives_what_an_undisturbed_run_gives(settings: Settings, tmp_path: Path) -> None:
    chance = random.Random(7)
    records: list[PatientInput] = []
    for patient in range(20):
        value = 97.0
        for at in range(0, 900, 5):
            value = chance.choice([value] * 8 + [86.0, 91.0, 97.0])
            records.append(given(reading("spo2", at, value), patient=f"p{patient}", device=f"d{patient}", seq=at))
    records.sort(key=lambda record: record.message.seq + chance.random() * 60)
    wanted = sorted(
        (f"p{n}", rule, onset, end)
        for n in range(20)
        for rule in ("spo2-low", "spo2-critical")
        for onset, end in reference.intervals(
            book().rules[rule], reference.standing([r for r in records if r.patient == f"p{n}"])
        )
    )
    assert len(wanted) > 20
    with running(settings, "alerting", tmp_path) as worker:
        for part in range(6):
            send(settings.kafka, inputs(records[part::6] if part == 0 else records[len(records) * part // 6 :]))
            time.sleep(chance.uniform(1.2, 3.0))
            worker.kill()
            worker.start()
        send(settings.kafka, inputs(records))

        def known() -> list[tuple[str, str, int, int | None]]:
            last: dict[str, dict[str, Any]] = {}
            for event in told(settings):
                if event["number"] >= last.get(event["alert_id"], event)["number"]:
                    last[event["alert_id"]] = event
            return sorted(
                (e["patient"], e["rule"], times.parse(e["onset"]).us,
                 None if e["cleared_at"] is None else times.parse(e["cleared_at"]).us)
                for e in last.values() if e["state"] != "retracted" and e["rule"] in ("spo2-low", "spo2-critical")
            )  # fmt: skip

        wait_for(lambda: known() == wanted)
        # The settle time of those that are over has not passed: no tick has said so.
        open_now = {v["alert_id"] for v in state(settings).values() if not v["cleared_at"] and v["metric"] == "spo2"}
        assert len(open_now) == sum(end is None for *_, end in wanted)


def command(alert: dict[str, Any], name: str, action: str, **more: Any) -> tuple[Topic, str | None, bytes]:
    document = {
        "command_id": f"command-{name}", "alert_id": alert["alert_id"], "patient": alert["patient"], "who": "anna",
        "action": action, "at": times.text(us(0)), **more,
    }  # fmt: skip
    return topics.ALERT_COMMANDS, alert["patient"], orjson.dumps(document)


def replies(settings: Settings) -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {}
    for message in read_all(settings.kafka, topics.ALERT_REPLIES):
        document = orjson.loads(message.value() or b"")
        found.setdefault(document["command_id"], set()).add((document["outcome"], document["state"]))
    return found


def test_commands_and_escalation_survive_kills(settings: Settings, tmp_path: Path) -> None:
    """Answered and climbing alerts, with the worker killed again and again: each step once, timers kept."""
    chance = random.Random(3)
    roster = {
        "team": "care", "members": ["anna"], "always_on_call": ["duty"],
        "escalation": {"high": [{"after_s": 60, "to": "team"}, {"after_s": 120, "to": "on-call"}]},
    }  # fmt: skip
    assert [set_roster(settings.kafka, roster).team] == [one.team for one in rosters(settings.kafka)]
    with pytest.raises(SettingError, match="members"):
        set_roster(settings.kafka, roster | {"members": []})
    names = [f"p{n}" for n in range(8)]
    with running(settings, "alerting", tmp_path) as worker:

        def disturbed() -> None:
            time.sleep(chance.uniform(0.0, 0.8))
            worker.kill()
            worker.start()

        def happened(what: str) -> list[str]:
            return sorted(e["patient"] for e in told(settings) if e["happened"] == what)

        send(settings.kafka, tick(0))
        low = [given(reading("glucose", 1, 40.0), patient=name, device=f"d-{name}", seq=1) for name in names]
        send(settings.kafka, inputs(low))
        disturbed()
        wait_for(lambda: len([e for e in told(settings) if e["rule"] == "glucose-very-low"]) == 8)
        alerts = {e["patient"]: e for e in told(settings) if e["rule"] == "glucose-very-low"}
        answered = [command(alerts[name], f"ack-{name}", "acknowledge") for name in names[:4]]
        send(settings.kafka, answered)
        disturbed()
        send(settings.kafka, [*answered, *answered])
        wait_for(lambda: len(happened("acknowledged")) == 4)
        send(settings.kafka, tick(65))
        disturbed()
        wait_for(lambda: happened("escalated") == names[4:])
        disturbed()
        send(settings.kafka, tick(125))
        wait_for(lambda: len(happened("escalated")) == 8)
        standing = {alert["alert_id"]: alert for alert in open_alerts(settings.kafka)}
        assert standing[alerts["p0"]["alert_id"]]["acknowledged_by"] == "anna"
        assert [standing[alerts[n]["alert_id"]]["state"] for n in ("p0", "p7")] == ["acknowledged", "escalated"]
        asked = ask(settings.kafka, alerts["p6"], "comment", "user:ben", text="called")
        assert (asked.outcome, asked.state) == ("done", "escalated")
        assert "closed" not in ask(settings.kafka, alerts["p6"], "unsilence", "user:ben").detail
        (written,) = events(settings.kafka, lambda event: event["happened"] == "commented")
        assert (written["who"], written["comment"]) == ("user:ben", "called")
        last = [command(alerts["p7"], "ack-p7", "acknowledge"), command(alerts["p0"], "ack-again", "acknowledge")]
        last.append((topics.ALERT_COMMANDS, "p0", orjson.dumps({"command_id": "command-bad", "action": "sing"})))
        last.append((topics.ALERT_COMMANDS, "p0", b"no document"))
        send(settings.kafka, last)
        wait_for(lambda: "command-bad" in replies(settings) and len(happened("acknowledged")) == 5)
        said = replies(settings)
        assert all(said[f"command-ack-{name}"] == {("done", "acknowledged")} for name in [*names[:4], "p7"])
        assert said["command-ack-again"] == {("refused", "acknowledged")} and said["command-bad"] == {("refused", "")}
        for event in told(settings):
            if event["happened"] == "escalated":
                assert event["recipients"] == (["anna"] if event["escalation_level"] == 1 else ["duty"])
        numbers: dict[str, list[int]] = {}
        for event in told(settings):
            numbers.setdefault(event["alert_id"], []).append(event["number"])
        assert all(sorted(found) == list(range(1, len(found) + 1)) for found in numbers.values()), "each step once"
        inbox = {orjson.loads(m.value() or b"")["event_id"]: m for m in read_all(settings.kafka, topics.AUDIT_INBOX)}
        actions = [orjson.loads(m.value() or b"")["action"] for m in inbox.values()]
        assert actions.count("alert.acknowledged") == 5 and actions.count("alert.escalated") == 8
