"""`vitalgate tail`: what people see of a topic, and what a program reads."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.stream.stream_probe import MakeSettings
from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.devices.records import DeviceSequences, Kept, Message, PatientInput, Reading, encode
from vitalgate.stream.follow import plain


def tail(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    flags = [f"--set=kafka.bootstrap={settings.kafka.bootstrap}", f"--set=kafka.prefix={settings.kafka.prefix}"]
    command = [sys.executable, "-m", "vitalgate.cli", "tail", *arguments, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def put(settings: Settings, topic: topics.Topic, rows: list[tuple[str, bytes]]) -> None:
    from confluent_kafka import Producer

    from vitalgate.stream.producer import configuration

    producer = Producer(configuration(settings.kafka, "test"))
    for key, value in rows:
        producer.produce(topics.full(topic, settings.kafka), value, key, headers=[("trace", b"ab")])
    producer.flush()


def test_json_lines_readable_lines_filters_and_the_audit_of_reading(make_settings: MakeSettings) -> None:
    settings = make_settings(topics.READINGS, topics.SEQUENCES, topics.AUDIT_INBOX)
    rows = [(f"d{n % 3}", json.dumps({"device_id": f"d{n % 3}", "n": n}).encode()) for n in range(9)]
    put(settings, topics.READINGS, rows)
    done = tail(settings, "device.readings", "--from-beginning", "--json", "--device", "d1", "--for", "1")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert [line["value"]["n"] for line in lines] == [1, 4, 7]
    assert {line["headers"]["trace"] for line in lines} == {"ab"}
    read = tail(settings, "audit.inbox", "--from-beginning", "--json", "--count", "1")
    event = json.loads(read.stdout)["value"]
    assert (event["action"], event["entity_id"], event["detail"]) == ("data.read", "device.readings", {"device": "d1"})


def test_wrong_names_and_missing_topics_say_what_to_do(make_settings: MakeSettings) -> None:
    settings = make_settings(topics.AUDIT_INBOX)
    wrong = tail(settings, "readings")
    assert wrong.returncode == 2
    assert "device.readings" in wrong.stderr
    missing = tail(settings, "patient.beats")
    assert missing.returncode == 1
    assert "vitalgate topics create" in missing.stderr


def test_internal_records_have_their_fields_names() -> None:
    state = DeviceSequences("d", 4, [Kept("e", 1, 9, [(12, 13)])])
    shown = plain("device.sequences", encode(state))
    kept = shown["epochs"][0]
    assert (kept["epoch"], kept["epoch_no"], kept["through"], kept["beyond"]) == ("e", 1, 9, [[12, 13]])
    reading = Reading(0, "spo2", "", 1, 0, 97.0, None, "", "", "%", 97.0, "%", 1, 0)
    message = Message("d", "readings", 1, 2, "t", "e", 1, 1, 1, False, 0, b"\x01", b"\x02", [reading])
    shown = plain("patient.inputs", encode(PatientInput("add", "p", message)))
    assert shown["message"]["payload_hash"] == "01"
    assert shown["message"]["readings"][0]["metric"] == "spo2"
    assert plain("device.raw", b"\xff\x00") == {"bytes": "ff00"}
    assert plain("device.raw", b"hello") == {"text": "hello"}
    assert plain("device.raw", None) is None
