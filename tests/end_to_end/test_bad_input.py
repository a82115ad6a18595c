"""Ten thousand bad messages through the real stack: nothing restarts, and each is found as stored or dead-lettered."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.end_to_end.fuzz import Fuzz, Sent
from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings, Settings
from vitalgate.devices import catalogue
from vitalgate.devices.decode import decode
from vitalgate.devices.identity import payload_hash
from vitalgate.devices.reasons import Reason, Refused
from vitalgate.devices.records import Message, decode_batch
from vitalgate.local.stack import Stack
from vitalgate.storage.connect import Connection, connect
from vitalgate.storage.registry import Registry
from vitalgate.stream import enrolment
from vitalgate.stream.groups import group
from vitalgate.stream.workers import WORKERS, make_worker

MESSAGES = 10_000
SEED = 20_261_121
PREFIX = "fuzzed-"
KEPT_OF_OVERSIZE = 65_536
"""The gateway keeps the beginning of what is too large; the dead letter bears its hash."""

Place = tuple[int, int]
"""Partition and offset of a raw record."""


class Outcome(NamedTuple):
    """What was sent, and what there is of it."""

    sent: list[Sent]
    processes_before: dict[str, tuple[int, int]]
    processes_after: dict[str, tuple[int, int]]
    raw: dict[bytes, list[Place]]
    """Payload hash to the raw records with these bytes."""
    dead: dict[bytes, set[str]]
    """Payload hash to the reasons of its dead letters."""
    details: dict[str, str]
    """The detail of one dead letter of each reason."""
    rows: set[Place]
    """Raw records that rows of the tables were made from."""
    repeated: set[Place]
    """Raw records whose every item is in the tables from another raw record that says the same."""
    set_aside: int


def until(condition: Callable[[], bool], what: str, seconds: float = 150.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def outcome(stack: Stack) -> Outcome:
    settings = stack.settings.settings
    kinds = {kind: f"{PREFIX}{kind}" for kind in catalogue.load().kinds}
    with Registry(settings.database) as registry:
        registry.add_patient("fuzzed", "Europe/Berlin", "care")
    told = enrolment.add(settings, [enrolment.Wanted(device, kind, "fuzzed") for kind, device in kinds.items()])
    assert told.applied
    passwords = {device.device_id: device.password for device in told.devices}
    sent = list(Fuzz(SEED, kinds, time.time_ns() // 1000).messages(MESSAGES))
    with Log(settings.kafka) as log, connect(settings.database, "test", autocommit=True) as connection:
        raw_from, aside_from = log.ends(topics.RAW), log.ends(topics.SETASIDE)
        validated_from = log.ends(topics.VALIDATED)
        before = processes(stack)
        publish(settings, passwords, sent)
        # The broker's word came at once; the gateway needs a little longer.
        until(
            lambda: sum(log.ends(topics.RAW).values()) - sum(raw_from.values()) >= len(sent),
            f"{len(sent)} raw records are on {topics.RAW.name}",
        )
        raw: dict[bytes, list[Place]] = defaultdict(list)
        for record in log.read(topics.RAW, raw_from):
            if record.key().decode().startswith(PREFIX):
                raw[payload_hash(record.value())].append((record.partition(), record.offset()))
        ends = log.ends(topics.RAW)
        until(lambda: caught_up(connection, log, ends), "the recorder has applied every raw record")
        until(lambda: log.lag(settings) == 0, "every worker has read to the end")
        rows = places(connection)
        others = {place for found in raw.values() for place in found} - rows
        repeated = set()
        for record in log.read(topics.VALIDATED, validated_from):
            batch = decode_batch(record.value())
            for message in batch.messages:
                place = (batch.partition, message.offset)
                if place in others and message.items() and all(stored(connection, message)):
                    repeated.add(place)
        aside = sum(log.ends(topics.SETASIDE).values()) - sum(aside_from.values())
        return Outcome(sent, before, processes(stack), raw, *dead_letters(connection), rows, repeated, aside)


def test_at_least_half_of_the_payloads_parse(outcome: Outcome) -> None:
    def parses(payload: bytes) -> bool:
        try:
            decode(payload)
        except Refused:
            return False
        return True

    assert len({one.payload for one in outcome.sent}) == MESSAGES
    assert sum(parses(one.payload) for one in outcome.sent) >= MESSAGES / 2


def test_no_process_ended_and_no_record_was_set_aside(outcome: Outcome) -> None:
    assert outcome.processes_after == outcome.processes_before
    assert outcome.set_aside == 0


def test_each_payload_is_found_by_its_hash_as_stored_or_dead_lettered(outcome: Outcome) -> None:
    nowhere = []
    for one in outcome.sent:
        digest = payload_hash(one.payload if len(one.payload) < 1_000_000 else one.payload[:KEPT_OF_OVERSIZE])
        found = outcome.raw.get(digest, [])
        kept = any(place in outcome.rows or place in outcome.repeated for place in found)
        if not found or not (kept or digest in outcome.dead):
            nowhere.append((one.how, one.device, one.leaf, one.payload[:300], found))
    assert not nowhere, f"{len(nowhere)} payloads are nowhere, the first: {nowhere[0]}"


def test_every_reason_that_a_device_can_cause_was_hit_and_none_other(outcome: Outcome) -> None:
    seen = set[str]().union(*outcome.dead.values())
    possible = {reason.value for reason in Reason if reason.by_device}
    assert not possible - seen
    assert not seen - possible, [outcome.details[reason] for reason in seen - possible]


def test_some_was_stored(outcome: Outcome) -> None:
    stored_payloads = sum(any(place in outcome.rows for place in found) for found in outcome.raw.values())
    assert stored_payloads > len(outcome.dead) / 10


# --- sending --------------------------------------------------------------------------------------------------------


def publish(settings: Settings, passwords: dict[str, str], sent: list[Sent]) -> None:
    """Publish everything at QoS 1, each as the device it belongs to, and wait for the broker's acknowledgements."""
    clients = {}
    acknowledged = itertools.count()
    done = threading.Event()

    def count(*_: object) -> None:
        if next(acknowledged) + 1 == len(sent):
            done.set()

    for device, password in passwords.items():
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, device)
        client.username_pw_set(device, password)
        client.max_inflight_messages_set(100)
        client.on_publish = count
        client.connect(settings.mqtt.host, settings.mqtt.port, keepalive=300)
        client.loop_start()
        clients[device] = client
    try:
        for one in sent:
            clients[one.device].publish(topics.device_topic(one.device, one.leaf), one.payload, qos=1)
        assert done.wait(150), f"the broker has acknowledged {next(acknowledged)} of {len(sent)}"
    finally:
        for client in clients.values():
            client.disconnect()
            client.loop_stop()


def processes(stack: Stack) -> dict[str, tuple[int, int]]:
    """Process id and number of restarts by name."""
    return {entry["name"]: (entry["pid"], entry["restarts"]) for entry in stack.status()["processes"]}


# --- Kafka ----------------------------------------------------------------------------------------------------------


class Log:
    """Reads topics from where they stood to their end."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._consumer = Consumer(
            {"bootstrap.servers": kafka.bootstrap, "group.id": "fuzz-test", "enable.auto.commit": False}
        )
        self._groups: dict[str, Consumer] = {}

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        for consumer in (self._consumer, *self._groups.values()):
            consumer.close()

    def ends(self, topic: topics.Topic) -> dict[int, int]:
        """End offset of each partition."""
        name = topics.full(topic, self._kafka)
        partitions = self._consumer.list_topics(name, timeout=10).topics[name].partitions
        return {n: self._consumer.get_watermark_offsets(TopicPartition(name, n), timeout=10)[1] for n in partitions}

    def read(self, topic: topics.Topic, start: dict[int, int]) -> list[Any]:
        """All records from these offsets to the present end."""
        name = topics.full(topic, self._kafka)
        left = {n: end for n, end in self.ends(topic).items() if end > start[n]}
        self._consumer.assign([TopicPartition(name, n, start[n]) for n in left])
        found: list[Any] = []
        limit = time.monotonic() + 60
        while left:
            assert time.monotonic() < limit, f"{name} cannot be read to its end"
            for record in self._consumer.consume(2000, timeout=0.2):
                assert record.error() is None, record.error()
                found.append(record)
            at = self._consumer.position([TopicPartition(name, n) for n in left])
            left = {place.partition: left[place.partition] for place in at if place.offset < left[place.partition]}
        self._consumer.unassign()
        return found

    def lag(self, settings: Settings) -> int:
        """Records that some worker has not acknowledged yet."""
        behind = 0
        for name in WORKERS:
            read = [topic for topic in make_worker(name).topics if topic is not topics.TICKS]  # ticks never end
            ends = {
                TopicPartition(topics.full(t, self._kafka), n): end for t in read for n, end in self.ends(t).items()
            }
            if name not in self._groups:
                options = {"bootstrap.servers": self._kafka.bootstrap, "group.id": group(settings, name)}
                self._groups[name] = Consumer(options)
            committed = self._groups[name].committed(list(ends), timeout=10)
            behind += sum(max(0, ends[place] - max(0, place.offset)) for place in committed)
        return behind


# --- the database ---------------------------------------------------------------------------------------------------


def caught_up(connection: Connection, log: Log, ends: dict[int, int]) -> bool:
    found = connection.execute("SELECT partition, max(last_offset) FROM ledger GROUP BY partition").fetchall()
    applied = dict(found)
    return all(applied.get(partition, -1) + 1 >= end for partition, end in ends.items())


def places(connection: Connection) -> set[Place]:
    """The raw records that rows were made from."""
    tables = ("readings", "waveforms", "device_status", "pending_corrections", "dead_letters")
    one = "SELECT raw_partition, raw_offset FROM {} WHERE device_id LIKE %(device)s"
    query = " UNION ".join(one.format(table) for table in tables)
    return set(connection.execute(query.encode(), {"device": f"{PREFIX}%"}).fetchall())


def dead_letters(connection: Connection) -> tuple[dict[bytes, set[str]], dict[str, str]]:
    """Reasons by the hash of the payload, and a detail by reason."""
    found: dict[bytes, set[str]] = defaultdict(set)
    details = {}
    for digest, reason, detail, place in connection.execute(
        "SELECT payload_hash, reason, detail, dead_id FROM dead_letters WHERE device_id LIKE %s", (f"{PREFIX}%",)
    ).fetchall():
        found[bytes(digest)].add(reason)
        details[reason] = f"{place}: {detail}"
    return found, details


def stored(connection: Connection, message: Message) -> list[bool]:
    """Whether each item is in the tables: the same measurement, block or status, whichever message it came with."""

    def exists(query: str, *values: Any) -> bool:
        return connection.execute(query.encode(), (message.device, *values)).fetchone() is not None

    at = "to_timestamp(0) + %s * interval '1 microsecond'"
    found = [
        exists(
            f"SELECT 1 FROM readings WHERE device_id = %s AND metric = %s AND site = %s AND time = {at} AND idx = %s"
            " AND value_num IS NOT DISTINCT FROM %s AND value_code IS NOT DISTINCT FROM %s",
            reading.metric, reading.site, reading.time_us, reading.index, reading.value_num, reading.value_code,
        )
        for reading in message.readings
    ]  # fmt: skip
    found += [
        exists(
            "SELECT 1 FROM waveforms WHERE device_id = %s AND channel = %s AND recording = %s"
            " AND first_sample <= %s AND first_sample + count >= %s",
            block.channel, block.recording, block.first_sample, block.first_sample + block.count,
        )
        for block in message.waveforms
    ]  # fmt: skip
    if message.status is not None:
        found.append(
            exists(f"SELECT 1 FROM device_status WHERE device_id = %s AND time = {at}", message.status.time_us)
        )
    return found + [False] * len(message.dead)
