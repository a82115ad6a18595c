"""From a raw record to rows, public records, receipts' memory and dead letters, through real worker processes."""

from __future__ import annotations

import json
import time

import psycopg

from tests.stream.pipeline import Pipeline, moment, payload_of, reading, wait_for
from vitalgate.config import topics
from vitalgate.devices.records import decode_batch, decode_input, decode_sequences


def state(pipeline: Pipeline, device: str) -> list[tuple[str, int]]:
    """(epoch, kept through) of each epoch in the newest record of a device's memory."""
    newest = [m for m in pipeline.records(topics.SEQUENCES) if m.key() == device.encode()]
    return [(kept.epoch, kept.through) for kept in decode_sequences(newest[-1].value()).epochs] if newest else []


def test_a_reading_goes_all_the_way(pipeline: Pipeline) -> None:
    pipeline.register("way-1", patient="p-way")
    trace = pipeline.send("way-1", reading("e1", 1))
    pipeline.flush()
    rows = "SELECT count(*) FROM {v}.readings WHERE device_id = 'way-1'"
    wait_for(lambda: pipeline.count(rows) == 1)
    wait_for(lambda: any(m.key() == b"way-1" for m in pipeline.records(topics.READINGS)))
    [message] = [m for m in pipeline.records(topics.READINGS) if m.key() == b"way-1"]
    document = json.loads(message.value())
    headers = dict(message.headers())
    assert headers["schema"] == b"device.readings"
    assert headers["schema_version"] == b"1"
    assert headers["trace"] == trace.encode()
    assert headers["message_id"].decode() == document["message_id"]
    assert document["readings"][0]["value"] == 97
    [found] = [m for m in pipeline.records(topics.INPUTS) if m.key() == b"p-way"]
    sent_on = decode_input(found.value())
    assert (sent_on.op, sent_on.patient, sent_on.message.device, sent_on.cause) == ("add", "p-way", "way-1", "live")
    assert state(pipeline, "way-1") == [("e1", 1)]
    validated = [m for m in pipeline.records(topics.VALIDATED) if b"way-1" in m.value()]
    assert [message.partition() for message in validated] == [found.partition() for found in validated]
    assert {decode_batch(m.value()).partition for m in validated} == {m.partition() for m in validated}


def test_repeats_are_receipted_again_and_stored_once(pipeline: Pipeline) -> None:
    pipeline.register("rep-1", patient="p-rep")
    for _ in range(3):
        for seq in range(1, 6):
            pipeline.send("rep-1", reading("e1", seq))
        pipeline.flush()
        time.sleep(0.3)
    rows = "SELECT count(*) FROM {v}.readings WHERE device_id = 'rep-1'"
    wait_for(lambda: pipeline.count("SELECT coalesce(sum(duplicate), 0) FROM {t}.ledger") >= 10)
    assert pipeline.count(rows) == 5
    records = [m for m in pipeline.records(topics.SEQUENCES) if m.key() == b"rep-1"]
    assert len(records) >= 3
    assert all(decode_sequences(m.value()).touched == ["e1"] for m in records)
    assert state(pipeline, "rep-1") == [("e1", 5)]
    inputs = [m for m in pipeline.records(topics.INPUTS) if m.key() == b"p-rep"]
    assert len(inputs) == 5


def test_bad_input_is_dead_lettered_with_its_bytes_and_the_good_part_kept(pipeline: Pipeline) -> None:
    pipeline.register("bad-1")
    half = reading("e1", 1)
    half["readings"].append({"metric": "spo2", "value": 250, "unit": "%", "time": moment(500)})
    pipeline.send("bad-1", half)
    pipeline.send("bad-1", b"\xff\x00 no such thing")
    pipeline.send("nobody", reading("e1", 1))
    pipeline.flush()
    wait_for(
        lambda: pipeline.count("SELECT count(*) FROM {v}.dead_letters WHERE device_id IN ('bad-1', 'nobody')") == 3
    )
    found = {
        document["reason"]: document
        for m in pipeline.records(topics.DEADLETTER)
        if (document := json.loads(m.value()))["device_id"] in ("bad-1", "nobody")
    }
    assert set(found) == {"out_of_range", "undecodable", "unknown_device"}
    assert payload_of(found["undecodable"]) == b"\xff\x00 no such thing"
    assert json.loads(payload_of(found["out_of_range"])) == half
    assert pipeline.count("SELECT count(*) FROM {v}.readings WHERE device_id = 'bad-1'") == 1


def test_a_device_registered_a_moment_ago_is_known(pipeline: Pipeline) -> None:
    for n in range(20):
        pipeline.register(f"fresh-{n}", patient=f"p-fresh-{n}")
        pipeline.send(f"fresh-{n}", reading("e", 1))
        pipeline.flush()
    wait_for(lambda: pipeline.count("SELECT count(*) FROM {v}.readings WHERE device_id LIKE 'fresh-%'") == 20)
    owners = {m.key() for m in pipeline.records(topics.INPUTS) if m.key().startswith(b"p-fresh-")}
    assert len(owners) == 20


def test_a_device_added_again_a_moment_ago_is_no_longer_revoked(pipeline: Pipeline) -> None:
    for n in range(10):
        pipeline.register(f"again-{n}", patient=f"p-again-{n}", state="revoked")
    pipeline.send("again-0", reading("e", 1))
    pipeline.flush()
    refused = "SELECT count(*) FROM {v}.dead_letters WHERE device_id LIKE 'again-%'"
    wait_for(lambda: pipeline.count(refused) == 1)
    for n in range(10):
        pipeline.register(f"again-{n}", patient=f"p-again-{n}")
        pipeline.send(f"again-{n}", reading("e", 2))
        pipeline.flush()
    wait_for(lambda: pipeline.count("SELECT count(*) FROM {v}.readings WHERE device_id LIKE 'again-%'") == 10)
    assert pipeline.count(refused) == 1


def test_every_batch_is_audited_and_the_ranges_are_marked_published(pipeline: Pipeline) -> None:
    events = [json.loads(m.value()) for m in pipeline.records(topics.AUDIT_INBOX)]
    recorded = [event for event in events if event["action"] == "batch.recorded"]
    assert sum(event["detail"]["items"] for event in recorded) == pipeline.count("SELECT sum(items) FROM {t}.ledger")
    wait_for(lambda: pipeline.count("SELECT count(*) FROM {t}.ledger WHERE NOT published") == 0)


def test_with_the_database_down_intake_goes_on_and_nothing_is_lost(pipeline: Pipeline) -> None:
    pipeline.register("down-1", patient="p-down")
    with psycopg.connect(pipeline.settings.database.dsn) as blocker:
        blocker.execute(f"LOCK TABLE {pipeline.schema}_data.ledger IN ACCESS EXCLUSIVE MODE")
        for seq in range(1, 101):
            pipeline.send("down-1", reading("e1", seq))
        pipeline.flush()
        wait_for(lambda: state(pipeline, "down-1") == [("e1", 100)])
        assert len([m for m in pipeline.records(topics.INPUTS) if m.key() == b"p-down"]) == 100
        assert pipeline.count("SELECT count(*) FROM {v}.readings WHERE device_id = 'down-1'") == 0
    wait_for(lambda: pipeline.count("SELECT count(*) FROM {v}.readings WHERE device_id = 'down-1'") == 100)


def test_archiver_stores_results_once_and_by_revision(pipeline: Pipeline) -> None:
    def feature(value: float, revision: int) -> dict[str, object]:
        return {
            "patient": "p-arch", "device_id": "arch-1", "channel": "ecg.II", "recording": "r1", "name": "heart_rate",
            "window": {"first_sample": 0, "stop_sample": 2500}, "start": moment(0), "end": moment(10), "value": value,
            "unit": "/min", "algorithm": "a", "algorithm_version": "1", "revision": revision, "withdrawn": False,
        }  # fmt: skip

    for value, revision in ((61.0, 1), (64.0, 3), (62.0, 2), (64.0, 3)):
        pipeline.put(topics.FEATURES, "p-arch", feature(value, revision))
    pipeline.put(topics.FEATURES, "p-arch", {"not": "a feature"})
    pipeline.flush()
    query = "SELECT value FROM {v}.features WHERE device_id = 'arch-1'"
    wait_for(lambda: pipeline.sql(query) == [(64.0,)])
    wait_for(lambda: len(pipeline.records(topics.SETASIDE)) == 1)
    [aside] = pipeline.records(topics.SETASIDE)
    assert json.loads(aside.value())["topic"] == "patient.features"


def test_health_says_what_is_awaited_and_metrics_tell_the_lag(pipeline: Pipeline) -> None:
    assert pipeline.health("recorder", "readyz") == (200, {"status": "ok", "failing": {}})
    pipeline.register("health-1")
    with psycopg.connect(pipeline.settings.database.dsn, autocommit=True) as owner:
        owner.execute(f"ALTER TABLE {pipeline.schema}_data.ledger RENAME TO ledger_away")
        try:
            pipeline.send("health-1", reading("e1", 1))
            pipeline.flush()
            wait_for(lambda: pipeline.health("recorder", "readyz")[0] == 503)
            body = pipeline.health("recorder", "readyz")[1]
            assert "vitalgate migrate" in body["failing"]["handling"]
            assert pipeline.health("recorder", "healthz")[0] == 200
            assert pipeline.health("intake", "readyz")[0] == 200
            wait_for(lambda: pipeline.metric("recorder", "vitalgate_worker_lag") >= 1)
        finally:
            owner.execute(f"ALTER TABLE {pipeline.schema}_data.ledger_away RENAME TO ledger")
    wait_for(lambda: pipeline.count("SELECT count(*) FROM {v}.readings WHERE device_id = 'health-1'") == 1)
    wait_for(lambda: pipeline.health("recorder", "readyz")[0] == 200)
    wait_for(lambda: pipeline.metric("recorder", "vitalgate_worker_lag") == 0)
    assert pipeline.metric("intake", "vitalgate_items_total") >= 1
