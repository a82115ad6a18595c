"""`vitalgate device check` on a file and on what a device sends."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from tests.gateway.parts import Edge
from vitalgate.cli import cli
from vitalgate.config import topics
from vitalgate.devices.codec import encode_cbor

GOOD = {"readings": [{"metric": "spo2", "value": 97, "unit": "%", "time": "2026-11-21T10:00:00+01:00"}]}
BAD = {"readings": [{"metric": "spo2", "value": 130, "unit": "%", "time": "2026-11-21T10:00:00+01:00"}]}


def check(tmp_path: Path, payload: bytes, *options: str) -> Result:
    file = tmp_path / "payload"
    file.write_bytes(payload)
    return CliRunner().invoke(cli, ["device", "check", str(file), "--kind", "pulse-oximeter", *options])


def test_a_good_payload_is_fine_in_both_forms(tmp_path: Path) -> None:
    for payload in (json.dumps(GOOD).encode(), encode_cbor(GOOD)):
        done = check(tmp_path, payload)
        assert done.exit_code == 0, done.output
        assert "spo2 = 97 %" in done.output
        found = json.loads(check(tmp_path, payload, "--json").output)
        assert {finding["level"] for finding in found} <= {"fine", "advice"}


def test_a_bad_one_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    done = check(tmp_path, json.dumps(BAD).encode())
    assert done.exit_code == 1
    assert "out_of_range" in done.output
    assert check(tmp_path, b"\xff\xff").exit_code == 1
    assert "wrong_topic" in check(tmp_path, json.dumps(GOOD).encode(), "--topic", "receipts").output


def test_wrong_calls(tmp_path: Path) -> None:
    run = CliRunner().invoke
    for arguments, words in (
        (["device", "check"], "name a FILE"),
        (["device", "check", "-", "--live", "x"], "name a FILE"),
        (["device", "check", "-"], "--kind"),
        (["device", "check", "-", "--kind", "toaster"], "no device kind 'toaster'"),
    ):
        done = run(cli, arguments, input="{}")
        assert done.exit_code == 2, done.output
        assert words in done.output


def test_what_a_device_sends_is_checked_as_it_arrives(edge: Edge) -> None:
    (device,) = edge.add_devices("a")
    edge.run("gateway").ready()
    topic = topics.device_topic(device, "readings")
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            for document in (GOOD, BAD):
                edge.pub(device, topic, json.dumps(document))
            time.sleep(0.2)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        done = edge.try_command(
            "device", "check", "--live", device, "--kind", "pulse-oximeter", "--seconds", "4", "--json"
        )
    finally:
        stop.set()
        thread.join()
    assert done.exit_code == 1, done.output
    seen: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert {sighting["topic"] for sighting in seen} == {topic}
    reasons = {
        finding["reason"] for sighting in seen for finding in sighting["findings"] if finding["level"] == "wrong"
    }
    assert "out_of_range" in reasons
