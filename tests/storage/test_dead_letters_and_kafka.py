"""What touches Kafka: dead letters sent through again, records in flight, gaps; and the commands around them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.storage.builders import T0, Log, reading
from tests.storage.conftest import Query
from vitalgate.cli import cli
from vitalgate.config import topics
from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.config.topics import full
from vitalgate.devices.intake import RawRecord
from vitalgate.devices.records import Dead, DeviceSequences, Kept, encode
from vitalgate.local.topics import create_topics
from vitalgate.storage import in_flight, ledger
from vitalgate.storage.deadletter_store import DeadLetters, Wanted
from vitalgate.storage.errors import StorageError
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.times import moment


@pytest.fixture(scope="module")
def kafka(kafka_bootstrap: str) -> KafkaSettings:
    """Topics of this module's own."""
    settings = KafkaSettings(bootstrap=kafka_bootstrap, prefix=f"st{os.getpid()}.", partitions=2)
    create_topics(settings)
    return settings


@pytest.fixture
def store(database: DatabaseSettings) -> Iterator[DeadLetters]:
    """The dead letters of the schema."""
    made = DeadLetters(database)
    yield made
    made.close()


@pytest.fixture
def dead(database: DatabaseSettings, kafka: KafkaSettings) -> Iterator[tuple[Recorder, Log]]:
    """Three dead letters: two of ox-1 (one an item of a message), one of another device."""
    log = Log()
    with Recorder(database, kafka) as recorder:
        recorder.apply(
            log.batch(
                log.message(dead=[Dead(-1, "unknown_device", "no device 'ox-1'")], payload=b'{"a": 1}', received_us=T0),
                log.message(dead=[Dead(2, "out_of_range", "140 %")], payload=b"\xff\x00", received_us=T0 + 60_000_000),
                log.message("ox-2", dead=[Dead(-1, "unknown_device", "no device")], payload=b"{}", received_us=T0),
            )
        )
        yield recorder, log


def _raw(kafka: KafkaSettings, after: dict[int, int]) -> list[RawRecord]:
    """Records of device.raw beyond these offsets."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "test", "enable.auto.commit": False})
    topic, found = full(topics.RAW, kafka), []
    try:
        for partition in range(2):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            consumer.assign([TopicPartition(topic, partition, after[partition])])
            for _ in range(end - after[partition]):
                message = consumer.poll(10)
                assert message is not None and message.error() is None
                found.append(
                    RawRecord.of(partition, message.offset() or 0, message.value() or b"", message.headers() or [], 0)
                )
                assert message.key() == found[-1].topic.split("/")[2].encode()
    finally:
        consumer.close()
    return found


def _ends(kafka: KafkaSettings) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "test"})
    topic = full(topics.RAW, kafka)
    try:
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(2)}
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Wanted(), 3),
        (Wanted(reason="unknown_device"), 2),
        (Wanted(device="ox-2"), 1),
        (Wanted(start=moment(T0) + timedelta(seconds=1)), 1),
        (Wanted(stop=moment(T0) + timedelta(seconds=1), device="ox-1"), 1),
        (Wanted(limit=2), 2),
    ],
)
def test_dead_letters_are_found(dead: tuple[Recorder, Log], store: DeadLetters, wanted: Wanted, count: int) -> None:
    assert len(store.find(wanted)) == count


def test_a_replay_is_a_new_record_that_names_the_old_one(
    dead: tuple[Recorder, Log], store: DeadLetters, kafka: KafkaSettings, query: Query
) -> None:
    before = _ends(kafka)
    done = store.replay(Wanted(device="ox-1"), kafka)
    assert len(done.sent) == 2
    records = sorted(_raw(kafka, before), key=lambda record: record.replay_of or 0)
    assert [(r.value, r.topic, r.received_us, r.replay_of, r.replay_item) for r in records] == [
        (b'{"a": 1}', "v1/devices/ox-1/readings", T0, done.sent[0].id, -1),
        (b"\xff\x00", "v1/devices/ox-1/readings", T0 + 60_000_000, done.sent[1].id, 2),
    ]
    assert records[0].trace == f"{0:032x}"
    again = store.replay(Wanted(device="ox-1"), kafka)
    assert (again.sent, len(again.refused)) == ([], 2)
    assert _ends(kafka) != before and sum(_ends(kafka).values()) == sum(before.values()) + 2
    assert len(store.replay(Wanted(device="ox-1"), kafka, again=True).sent) == 2


def test_a_resolved_one_is_not_sent_again(dead: tuple[Recorder, Log], store: DeadLetters, kafka: KafkaSettings) -> None:
    recorder, log = dead
    (first, *_) = store.find(Wanted())
    recorder.apply(log.batch(log.message(readings=[reading(97)], replay_of=first.id)))
    done = store.replay(Wanted(ids=[first.id, 999_999]), kafka, again=True)
    assert done.sent == []
    assert [why.split()[0] for _, why in done.refused] == ["resolved", "there"]
    assert len(store.find(Wanted())) == 2
    assert len(store.find(Wanted(resolved=True))) == 3


def test_without_kafka_nothing_counts_as_replayed(dead: tuple[Recorder, Log], store: DeadLetters) -> None:
    with pytest.raises(StorageError, match="none counts as replayed"):
        store.replay(Wanted(), KafkaSettings(bootstrap="127.0.0.1:1"), timeout_s=1.0)
    assert all(row.replayed_at is None for row in store.find(Wanted()))


def test_records_in_flight_and_gaps(
    dead: tuple[Recorder, Log], database: DatabaseSettings, kafka: KafkaSettings
) -> None:
    found = in_flight.complete(ledger.read(database), kafka)
    assert found.in_flight == sum(max(0, end - (3 if p == 0 else 0)) for p, end in _ends(kafka).items())
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    holes = Kept("e1", 1, 5, [(8, 9), (12, 20)], [], 1)
    for state in (
        DeviceSequences("whole", 9, [Kept("e1", 1, 9)]),
        DeviceSequences("torn", 9, [Kept("e1", 1, 5, [(7, 9)], [], 1)]),
        DeviceSequences("torn", 9, [Kept("e0", 1, 3), holes]),
    ):
        producer.produce(full(topics.SEQUENCES, kafka), encode(state), state.device)
    producer.flush(10)
    found = in_flight.complete(ledger.read(database), kafka)
    assert found.gaps == [{"device_id": "torn", "epoch": "e1", "missing": [[6, 7], [10, 11]], "since_us": 1}]
    assert "torn epoch e1 has not sent 6 to 7, 10 to 11" in found.text()


def _run(database: DatabaseSettings, kafka: KafkaSettings, *words: str) -> tuple[int, str]:
    flags = {
        "database.dsn": database.dsn, "database.db_schema": database.db_schema, "kafka.bootstrap": kafka.bootstrap,
        "kafka.prefix": kafka.prefix,
    }  # fmt: skip
    settings = [part for name, value in flags.items() for part in ("--set", f"{name}={value}")]
    result = CliRunner().invoke(cli, [*words, *settings], prog_name="vitalgate")
    return result.exit_code, result.output


def test_the_commands(
    dead: tuple[Recorder, Log], database: DatabaseSettings, kafka: KafkaSettings, query: Query
) -> None:
    code, text = _run(database, kafka, "deadletter", "list", "--json", "--reason", "out_of_range")
    listed = json.loads(text)
    assert (code, [row["item"] for row in listed], listed[0]["payload_hex"]) == (0, [2], "ff00")
    number = str(listed[0]["id"])
    code, text = _run(database, kafka, "deadletter", "show", number)
    assert code == 0 and "140 %" in text
    assert _run(database, kafka, "deadletter", "show", "999999")[0] == 1
    code, text = _run(database, kafka, "deadletter", "replay", number, "--json")
    assert (code, json.loads(text)) == (0, {"replayed": [int(number)], "refused": {}})
    code, text = _run(database, kafka, "deadletter", "replay", number)
    assert "0 sent through again" in text and "--again" in text
    assert _run(database, kafka, "deadletter", "replay")[0] == 2
    code, text = _run(database, kafka, "deadletter", "list")
    assert len(text.splitlines()) == 3

    code, text = _run(database, kafka, "patient", "add", "p-7", "--zone", "Asia/Tokyo", "--json")
    assert (code, json.loads(text)["team"]) == (0, "care")
    code, text = _run(database, kafka, "patient", "add", "p-7")
    assert (code, "exists already" in text) == (1, True)
    code, text = _run(database, kafka, "patient", "list", "--json")
    assert [row["zone"] for row in json.loads(text)] == ["Asia/Tokyo"]
    assert _run(database, kafka, "patient", "move", "p-7", "UTC", "--since", "2026-11-01")[0] == 0
    code, text = _run(database, kafka, "patient", "show", "p-7")
    assert "UTC since 2026-11-01" in text
    assert _run(database, kafka, "patient", "show", "p-8")[0] == 1

    code, text = _run(database, kafka, "ledger", "--json")
    document = json.loads(text)
    assert {"received", "stored", "duplicate", "dead_lettered", "in_flight", "lost", "balanced", "gaps"} <= set(
        document
    )
    assert (code, document["balanced"]) == (0, True)
    query("DELETE FROM dead_letters WHERE reason = 'out_of_range'")
    code, text = _run(database, kafka, "ledger", "--tables-only")
    assert (code, "NOT BALANCED" in text) == (1, True)
    code, text = _run(database, kafka, "migrate", "--json")
    assert (code, json.loads(text)["applied"]) == (0, [])
