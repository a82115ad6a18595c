"""Stored items come once more onto patient.inputs, each to the patient who had the device, just as they were."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from tests.alerts.worker_process import read_all
from tests.report.conftest import HANDOVER, RATE, START, START_US, _messages
from vitalgate.cli import _context
from vitalgate.cli.reprocess import command
from vitalgate.config import topics
from vitalgate.config.loading import Loaded, load
from vitalgate.config.settings import DatabaseSettings
from vitalgate.devices.records import PatientInput, Waveform, decode_input
from vitalgate.local.topics import create_topics
from vitalgate.signal import beats as detector
from vitalgate.stream.reprocess import reprocess


@pytest.fixture
def loaded(
    deployment: DatabaseSettings, kafka_bootstrap: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Loaded:
    flags = {
        "kafka.bootstrap": kafka_bootstrap, "kafka.prefix": f"re{os.getpid()}-{abs(hash(request.node.name))}.",
        "kafka.partitions": "2", "database.dsn": deployment.dsn, "database.db_schema": deployment.db_schema,
    }  # fmt: skip
    made = load(flags=flags, env={}, data=str(tmp_path))
    create_topics(made.settings.kafka, (topics.INPUTS, topics.AUDIT_INBOX))
    return made


def sent(loaded: Loaded) -> list[PatientInput]:
    return [decode_input(m.value() or b"") for m in read_all(loaded.settings.kafka, topics.INPUTS)]


def blocks(found: list[PatientInput]) -> dict[int, tuple[str, Waveform]]:
    return {w.first_sample: (one.patient, w) for one in found for w in one.message.waveforms}


def test_waveforms_as_they_were_to_whom_they_belong(loaded: Loaded) -> None:
    summary = reprocess(loaded.settings, START, START + timedelta(minutes=5))
    found = sent(loaded)
    stored = {w.first_sample: w for message in _messages() for w in message.waveforms}
    again = blocks(found)
    assert again.keys() == stored.keys()
    for first, (patient, block) in again.items():
        assert patient == ("p1" if START_US + first * 4000 < HANDOVER.timestamp() * 1e6 else "p2")
        assert block.samples == stored[first].samples and block.start_us == stored[first].start_us
    assert {one.cause for one in found} == {"reprocess"} and {one.op for one in found} == {"add"}
    ranks = {w.first_sample: one.message.order for one in found for w in one.message.waveforms}
    assert ranks == {second * RATE: second for second in range(40) if second != 35}
    assert summary.samples == 39 * RATE and summary.algorithms[detector.NAME] == detector.VERSION
    [event] = [orjson.loads(m.value() or b"") for m in read_all(loaded.settings.kafka, topics.AUDIT_INBOX)]
    assert event["action"] == "history.reprocessed" and event["detail"]["samples"] == summary.samples


def test_one_patient_one_stretch_and_readings(loaded: Loaded) -> None:
    reprocess(loaded.settings, START + timedelta(seconds=20), START + timedelta(seconds=30), patient="p2")
    assert sorted(blocks(sent(loaded))) == [25 * RATE + k * RATE for k in range(5)]
    before = len(sent(loaded))
    summary = reprocess(loaded.settings, START, START + timedelta(seconds=40), algorithm="alerts")
    assert (summary.readings, summary.samples) == (4, 0)
    readings = [(one.patient, r.metric, r.time_us) for one in sent(loaded)[:] for r in one.message.readings]
    assert sorted(readings) == [
        ("p1", "pulse_rate", START_US + 5_000_000), ("p1", "pulse_rate", START_US + 15_000_000),
        ("p2", "pulse_rate", START_US + 25_000_000), ("p2", "pulse_rate", START_US + 35_000_000),
    ]  # fmt: skip
    assert len(sent(loaded)) > before


def test_command(loaded: Loaded) -> None:
    options = _context.Options(loaded=loaded)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(command, arguments, obj=options)
        return result.exit_code, result.stdout

    begin, end = "2026-11-20T09:00:00Z", "2026-11-20T10:00:00Z"
    status, said = run("--from", begin, "--to", end)
    assert status == 0 and "2 patients" in said and f"{detector.NAME} {detector.VERSION} is current" in said
    status, said = run("--from", begin, "--to", end, "--json")
    assert orjson.loads(said)["devices"] == ["patch"]
    assert run("--from", end, "--to", begin)[0] == 2
    assert run("--from", "now", "--to", end)[0] == 2
    assert run("--from", begin, "--to", end, "--algorithm", "magic")[0] == 2
