"""Data follows its assignment, through kills of the registrar; which stretches change hands."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.parts import Edge, until
from vitalgate.config import topics
from vitalgate.devices import records
from vitalgate.storage.migrate import migrate
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.registry import NewDevice, Registry
from vitalgate.stream.groups import group
from vitalgate.stream.stretches import END, changed

BASE = datetime(2026, 11, 20, tzinfo=UTC)


def assigned(*items: tuple[str, int, int | None]) -> list[dict[str, Any]]:
    return [
        {"patient": patient, "from": hour(start), "to": None if stop is None else hour(stop)}
        for patient, start, stop in items
    ]


def hour(n: int) -> str:
    return (BASE + timedelta(hours=n)).isoformat().replace("+00:00", "Z")


def test_stretches_that_change_hands() -> None:
    at = [BASE + timedelta(hours=n) for n in range(10)]
    assert changed([], assigned(("a", 1, None))) == [(at[1], END, None, "a")]
    assert changed(assigned(("a", 1, None)), []) == [(at[1], END, "a", None)]
    assert changed(assigned(("a", 1, None)), assigned(("a", 1, 4), ("b", 4, None))) == [(at[4], END, "a", "b")]
    before, after = assigned(("a", 1, 3), ("a", 3, 6)), assigned(("b", 2, 5))
    assert changed(before, after) == [(at[1], at[2], "a", None), (at[2], at[5], "a", "b"), (at[5], at[6], "a", None)]
    assert changed(assigned(("a", 1, 3), ("a", 3, 6)), assigned(("a", 1, 6))) == []


PATIENTS = st.lists(st.sampled_from(["", "a", "b"]), min_size=12, max_size=12)


@given(PATIENTS, PATIENTS)
def test_stretches_tell_every_hour_that_changes_and_no_other(was: list[str], now: list[str]) -> None:
    def ranges(who: list[str]) -> list[dict[str, Any]]:
        return assigned(*((patient, n, n + 1) for n, patient in enumerate(who) if patient))

    found = changed(ranges(was), ranges(now))
    for n in range(12):
        moment = BASE + timedelta(hours=n, minutes=30)
        inside = [s for s in found if s.start <= moment < s.stop]
        if was[n] == now[n]:
            assert not inside
        else:
            assert [(s.before or "", s.after or "") for s in inside] == [(was[n], now[n])]


class Stored:
    """A deployment whose recorder is driven by hand."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        migrate(edge.settings.database)
        self.registry = Registry(edge.settings.database)
        for patient in ("p1", "p2"):
            self.registry.add_patient(patient, "Europe/Berlin", "care")
        self.registry.add_devices([NewDevice("ox", "pulse-oximeter", "$7$1$a$b")])

    def store(self, first: int, values: list[tuple[int, float]]) -> None:
        """Raw records from this offset on, one reading each at (hour, value), stored."""
        messages = []
        for n, (at, value) in enumerate(values):
            time_us = int((BASE + timedelta(hours=at)).timestamp() * 1e6)
            reading = records.Reading(0, "spo2", "", time_us, 0, value, None, "", "", "%", value, "%", time_us, 0)
            messages.append(
                records.Message(
                    "ox", "readings", first + n, time_us, f"{first + n:032x}", "e", first + n + 1, 1, first + n + 1,
                    False, 0, b"%016d" % (first + n), b"%08d" % (first + n), readings=[reading],
                    device_kind="pulse-oximeter",
                )
            )  # fmt: skip
        recorder = Recorder(self.edge.settings.database, self.edge.settings.kafka)
        recorder.apply(records.ValidatedBatch(0, first, first + len(values) - 1, messages))
        recorder.close()

    def handed_out(self, end: int) -> None:
        """Commit what intake would have committed when it had sent on the raw records before this offset."""
        kafka = self.edge.settings.kafka
        consumer = Consumer(
            {"bootstrap.servers": kafka.bootstrap, "group.id": group(self.edge.settings, "intake"), "log_level": 2}
        )
        try:
            where = TopicPartition(topics.full(topics.RAW, kafka), 0, end)
            consumer.commit(offsets=[where], asynchronous=False)
        finally:
            consumer.close()

    def inputs(self) -> list[tuple[str, str, str, float]]:
        """(op, patient, cause, value) of all readings on patient.inputs."""
        out = []
        for key, _, value, _ in self.edge.records(topics.INPUTS):
            found = records.decode_input(value)
            assert found.patient == key
            out += [(found.op, key, found.cause, r.value_num) for r in found.message.readings]
        return sorted(out)


@pytest.fixture
def stored(make_edge: Callable[..., Edge]) -> Any:
    found = Stored(make_edge())
    yield found
    found.registry.close()


def test_readings_of_an_unassigned_device_are_claimed_and_a_correction_moves_them(stored: Stored) -> None:
    stored.store(0, [(1, 91.0), (2, 92.0), (3, 93.0), (4, 94.0)])
    edge = stored.edge
    edge.run("registrar").ready()
    edge.command("device", "assign", "ox", "--patient", "p1", "--from", hour(2), "--json")
    claimed = [("add", "p1", "claim", value) for value in (92.0, 93.0, 94.0)]
    until(lambda: stored.inputs() == claimed)
    edge.command("device", "assign", "ox", "--patient", "p2", "--from", hour(3), "--to", hour(4), "--json")
    moved = [("add", "p2", "move", 93.0), ("remove", "p1", "move", 93.0)]
    until(lambda: stored.inputs() == sorted(claimed + moved))
    edge.command("device", "assign", "ox", "--nobody", "--from", hour(4), "--json")
    until(lambda: ("remove", "p1", "move", 94.0) in stored.inputs())
    events = [json.loads(value) for _, _, value, _ in edge.records(topics.AUDIT_INBOX)]
    told = [(e["action"], e["detail"]["removed"], e["detail"]["added"]) for e in events if "removed" in e["detail"]]
    assert told == [("data.claimed", 0, 3), ("data.moved", 1, 1), ("data.moved", 1, 0)]


def test_a_move_waits_for_what_was_on_its_way_and_survives_a_kill(stored: Stored) -> None:
    edge = stored.edge
    device_topic = {"topic": "v1/devices/ox/readings"}
    producer = Producer({"bootstrap.servers": edge.settings.kafka.bootstrap})
    for n in range(3):  # three raw records, of which the recorder has stored one
        producer.produce(
            topics.full(topics.RAW, edge.settings.kafka), b"{}", partition=0, headers=list(device_topic.items())
        )
        assert producer.flush(10) == 0, n
    stored.store(0, [(1, 91.0)])
    registrar = edge.run("registrar").ready()
    change = stored.registry.assign("ox", "p1", BASE)
    until(lambda: json.loads(edge.records(topics.REGISTRY_ASSIGNMENTS)[-1][2])["assignments"])
    assert not stored.registry.wait_applied(change.outbox, 2.0)
    assert stored.inputs() == []
    # Other changes do not wait behind it.
    assert stored.registry.wait_applied(stored.registry.add_patient("p3", "UTC", "care").outbox, 5.0)
    registrar.kill()
    stored.store(1, [(2, 92.0), (3, 93.0)])
    stored.handed_out(2)
    edge.run("registrar").ready()
    # The third is stored, but what intake made of it for a former patient may still be on its way.
    assert not stored.registry.wait_applied(change.outbox, 2.5)
    assert stored.inputs() == []
    stored.handed_out(3)
    assert stored.registry.wait_applied(change.outbox, 15.0)
    assert stored.inputs() == [("add", "p1", "claim", value) for value in (91.0, 92.0, 93.0)]
