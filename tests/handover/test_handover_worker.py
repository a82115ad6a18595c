"""The worker on real Kafka, with receivers that fail, hang and ask for patience, and kills in the middle."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from tests.alerts.worker_process import WorkerProcess, read_all, running, send, wait_for
from tests.handover.events import acknowledged, event
from tests.handover.receiver import SECRET, Receiver, receiver
from vitalgate.alerts.events import AlertEvent
from vitalgate.cli import cli
from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.handover.signature import keys_of, verify
from vitalgate.local.topics import create_topics
from vitalgate.stream.alerting_records import event_value

TOPICS = (
    topics.ALERTS, topics.ALERT_STATE, topics.ALERT_MEMORY, topics.ALERT_COMMANDS, topics.ALERT_REPLIES,
    topics.ALERT_DELIVERIES, topics.HANDOVER_MEMORY, topics.AUDIT_INBOX, topics.SETASIDE, topics.INPUTS,
    topics.FEATURES, topics.TICKS, topics.REGISTRY_DEVICES, topics.REGISTRY_ASSIGNMENTS, topics.REGISTRY_PATIENTS,
    topics.REGISTRY_CLINICIANS, topics.REGISTRY_ROSTERS, topics.REGISTRY_COHORTS,
)  # fmt: skip
_numbers = itertools.count(1)


@pytest.fixture
def settings(kafka_bootstrap: str, tmp_path: Path) -> Settings:
    """Everything is quick, and nothing of the database is named: there is none."""
    (tmp_path / "secret").write_text(SECRET)
    flags = {
        "kafka.bootstrap": kafka_bootstrap, "kafka.prefix": f"handover{os.getpid()}-{next(_numbers)}.",
        "kafka.partitions": "2", "handover.destinations": str(tmp_path / "destinations.toml"),
        "handover.moment_s": "0.3", "handover.deadline_s": "1", "handover.attempt_s": "8",
    }  # fmt: skip
    made = load(flags=flags, env={}, data=str(tmp_path / "data")).settings
    create_topics(made.kafka, TOPICS)
    return made


def destinations(settings: Settings, **urls: str) -> None:
    """Write the file; each is a webhook, with what its options say after a blank."""
    path = Path(settings.handover.destinations)
    text = ""
    for name, entry in urls.items():
        url, _, more = entry.partition(" ")
        text += f'[destination.{name}]\nwebhook = "{url}"\nsecret = {{ file = "{path.parent / "secret"}" }}\n{more}\n'
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def tell(settings: Settings, events: Iterable[AlertEvent]) -> None:
    send(settings.kafka, [(topics.ALERTS, one.patient, event_value(one)) for one in events])


def documents(settings: Settings, topic: topics.Topic) -> list[dict[str, Any]]:
    return [orjson.loads(message.value() or b"null") for message in read_all(settings.kafka, topic)]


def deliveries(settings: Settings) -> list[dict[str, Any]]:
    """Records of alert.deliveries, each once: after a kill one may be there twice, to the letter."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for one in documents(settings, topics.ALERT_DELIVERIES):
        assert found.setdefault((one["delivery_id"], one["number"]), one) == one
    return list(found.values())


def states(settings: Settings) -> Counter[str]:
    return Counter(one["state"] for one in deliveries(settings))


def shown_by_command(settings: Settings, *arguments: str) -> list[dict[str, Any]]:
    """What `vitalgate handover deliveries --json` says."""
    kafka = settings.kafka
    sets = (f"kafka.bootstrap={kafka.bootstrap}", f"kafka.prefix={kafka.prefix}", "kafka.partitions=2")
    options = [word for one in sets for word in ("--set", one)]
    done = CliRunner().invoke(cli, ["handover", "deliveries", *arguments, "--json", *options])
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = orjson.loads(done.output)
    return found


def genuine(there: Receiver) -> None:
    for got in there.got:
        assert verify(keys_of(SECRET), got.headers, got.body, got.at) == got.document["id"]


def test_a_storm_of_a_hundred_alarms_is_one_notification(settings: Settings, tmp_path: Path) -> None:
    with receiver() as there, receiver() as other:
        destinations(settings, board=there.url, cardio=f'{other.url} teams = ["cardio"]')
        with running(settings, "handover", tmp_path) as worker:
            tell(settings, [event(f"a{n}") for n in range(100)])
            wait_for(lambda: states(settings)["delivered"] == 1)
            # The whole storm again, as after a restart of the alert engine: told already.
            tell(settings, [event(f"a{n}") for n in range(100)])
            tell(settings, [event("b", priority="medium", patient="p2", team="cardio")])
            wait_for(lambda: states(settings)["delivered"] == 3)
            assert worker.stop() == 0
        assert [got.document["data"]["count"] for got in there.taken] == [100, 1] and len(other.taken) == 1
        genuine(there)
        said = there.got[0].body.decode()
        assert "100 alerts, the highest of high priority, need attention" in said
        assert all(word not in said for word in ("SpO2", "81.5", "spo2", "p1", "care"))
        audited = [one for one in documents(settings, topics.AUDIT_INBOX) if one["action"] == "handover.delivered"]
        assert len(audited) == 3 and "81.5" not in str(audited)
        assert documents(settings, topics.SETASIDE) == []
        shown = shown_by_command(settings)
        assert [one["count"] for one in shown if one["destination"] == "board"] == [100, 1]
        (step, last) = shown_by_command(settings, shown[0]["delivery_id"][:13])
        assert (step["state"], last["state"]) == ("waiting", "delivered")


def test_nothing_is_lost_when_the_worker_is_killed_again_and_again(settings: Settings, tmp_path: Path) -> None:
    """Receivers that fail, hang and refuse for the moment, and a kill -9 every second: each is delivered, as one."""
    chance = random.Random(5)
    names = [f"p{n}" for n in range(12)]
    impatient = settings.handover.model_copy(update={"attempt_s": 1.0})
    settings = settings.model_copy(update={"handover": impatient})
    with receiver() as there:
        destinations(settings, board=there.url)
        with running(settings, "handover", tmp_path) as worker:
            for round_ in range(4):
                there.script = [chance.choice([500, 503, 200, 200, 429]) for _ in range(20)]
                there.hang_s = chance.choice([0.0, 0.0, 1.5])
                tell(settings, [event(f"{name}-{round_}", patient=name) for name in names[round_ * 3 : round_ * 3 + 3]])
                time.sleep(chance.uniform(0.8, 2.2))
                worker.kill()
                worker.start()
            there.hang_s, there.script = 0.0, []
            wait_for(lambda: states(settings)["delivered"] == 12)
            assert worker.stop() == 0
        found = deliveries(settings)
    assert {one["patient"] for one in found if one["state"] == "delivered"} == set(names)
    assert len({one["delivery_id"] for one in found}) == 12, "a kill makes no further notification"
    assert {got.id for got in there.taken} == {one["delivery_id"] for one in found}
    by_id: dict[str, set[bytes]] = {}
    for got in there.got:
        by_id.setdefault(got.id, set()).add(orjson.dumps(got.document["data"]["alert_ids"]))
    assert all(len(bodies) == 1 for bodies in by_id.values()), "what has one id says the same each time"
    genuine(there)


def test_patience_is_kept_and_high_priority_goes_first(settings: Settings, tmp_path: Path) -> None:
    with receiver(script=[(429, {"retry-after": "3"})]) as there:
        destinations(settings, board=f"{there.url} at_once = 1")
        with running(settings, "handover", tmp_path):
            tell(settings, [event("first", patient="p0")])
            wait_for(lambda: len(there.got) == 1)
            lows = [event(f"low{n}", patient=f"p{n}", priority="low") for n in range(1, 4)]
            tell(settings, [*lows, event("high", patient="p9")])
            wait_for(lambda: len(there.taken) == 5)
        assert there.got[1].at - there.got[0].at > 2.8, "it asked for three seconds, of everybody"
        assert [got.document["data"]["priority"] for got in there.got] == ["high", "high", "high", "low", "low", "low"]


def test_answered_before_it_could_be_told(settings: Settings, tmp_path: Path) -> None:
    """What was answered while the worker was away is not told when it comes back."""
    with receiver() as there:
        destinations(settings, board=there.url)
        tell(settings, [event("a"), acknowledged("a"), event("b", patient="p2")])
        with running(settings, "handover", tmp_path):
            wait_for(lambda: states(settings)["delivered"] == 1)
        assert [got.document["data"]["alert_id"] for got in there.got] == [event("b").alert_id]
        assert states(settings)["withdrawn"] == 1


def test_destinations_change_while_it_runs(settings: Settings, tmp_path: Path) -> None:
    with receiver() as one, receiver() as two:
        destinations(settings, board=one.url)
        with running(settings, "handover", tmp_path):
            tell(settings, [event("a")])
            wait_for(lambda: len(one.got) == 1)
            Path(settings.handover.destinations).write_text("[[")
            time.sleep(2.5)
            tell(settings, [event("b", patient="p2")])
            wait_for(lambda: len(one.got) == 2)
            destinations(settings, other=two.url)
            actions = lambda: [d["action"] for d in documents(settings, topics.AUDIT_INBOX)]  # noqa: E731
            wait_for(lambda: "handover.configured" in actions())
            tell(settings, [event("c", patient="p3")])
            wait_for(lambda: len(two.got) == 1)
        assert len(one.got) == 2
        log = (tmp_path / "handover-0.log").read_text()
        assert "those before stay in force" in log and there_is_no_secret_in(log)


def there_is_no_secret_in(log: str) -> bool:
    return SECRET not in log and "/hook" not in log and "81.5" not in log


def test_a_file_that_cannot_be_used_stops_the_start(settings: Settings, tmp_path: Path) -> None:
    Path(settings.handover.destinations).write_text('[destination.d]\nemail = "a@b.c"')
    worker = WorkerProcess(settings, "handover", tmp_path)
    assert worker.process.wait(60) == 3
    assert "[smtp]" in (tmp_path / "handover-0.log").read_text()


def test_a_failure_is_an_alert_and_is_cleared_when_it_is_over(settings: Settings, tmp_path: Path) -> None:
    """With the alert engine: a high-priority alert that nobody can be told of raises another, told elsewhere."""
    from tests.alerts.feeding import given, reading
    from vitalgate.devices.records import encode

    def told(rule: str) -> list[str]:
        found = {one["event_id"]: one for one in documents(settings, topics.ALERTS) if one["rule"] == rule}
        return [one["happened"] for one in sorted(found.values(), key=lambda one: one["number"])]

    with receiver(status=500) as broken, receiver() as there:
        destinations(settings, broken=broken.url, good=f"{there.url} priority = 'high'")
        with running(settings, "handover", tmp_path), running(settings, "alerting", tmp_path):
            now = time.time()
            low = given(reading("glucose", 1, 40.0), seq=1)
            low.message.readings[0].time_us = low.message.received_us = round(now * 1e6)
            send(settings.kafka, [(topics.INPUTS, low.patient, encode(low))])
            wait_for(lambda: told("handover-failed") == ["raised"])
            # It reached somebody: that an alert did not reach everybody is told where notifications get through.
            wait_for(lambda: len(there.got) >= 2)
            state = [one for one in documents(settings, topics.ALERT_STATE) if one and one["rule"] == "handover-failed"]
            assert state[-1]["kind"] == "technical" and state[-1]["priority"] == "high"
            broken.status = 200
            wait_for(lambda: told("handover-failed") == ["raised", "cleared"])
        late = [one for one in deliveries(settings) if one["destination"] == "broken" and one["state"] == "late"]
        assert late and late[0]["undelivered"] == 1
        assert told("handover-failed") == ["raised", "cleared"], "the alert about failures makes no further ones"
