"""A patient's strip comes whole out of the database: signal in its place, beats, rhythm, gaps, only what is theirs."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from tests.alerts.worker_process import read_all
from tests.report.conftest import HANDOVER, RATE, START, beat_times
from vitalgate.cli import _context
from vitalgate.cli.plot import command
from vitalgate.config import topics
from vitalgate.config.loading import Loaded, load
from vitalgate.config.settings import DatabaseSettings
from vitalgate.local.topics import create_topics
from vitalgate.report.strip import NothingToDraw, draw_patient_strip, patient_strip


def test_everything_of_the_moment(deployment: DatabaseSettings) -> None:
    strip = patient_strip(deployment, "p1", START + timedelta(seconds=11.5), 10, choice="none")
    assert str(strip.start) == "2026-11-20 10:00:11.500000+01:00", "in the patient's own zone"
    [lead] = strip.leads
    assert (lead.label, lead.rate, len(lead.samples)) == ("II", 250.0, 2500)
    expected = [round(at - 11.5, 3) for at in beat_times() if 11.5 <= at < 21.5]
    assert [round(mark.at_s, 3) for mark in strip.beats] == expected
    for mark in strip.beats[1:-1]:
        near = lead.samples[round(mark.at_s * RATE) - 20 : round(mark.at_s * RATE) + 20]
        assert abs(int(np.argmax(near)) - 20) <= 1, "a mark stands over its R wave"
        assert near.max() == pytest.approx(1.0, abs=0.01), "millivolts"
    spans = {span.kind: span for span in strip.spans}
    assert spans["pause"].text == "pause 3.6 s"
    joined = spans["bradycardia"]
    assert (joined.text, round(joined.from_s, 3), round(joined.to_s, 3)) == ("bradycardia 39 /min", 0.5, 10.5)
    assert strip.filter == "none (as recorded)" and "patch" in strip.notes[0]


def test_a_gap_is_a_gap(deployment: DatabaseSettings) -> None:
    strip = patient_strip(deployment, "p2", START + timedelta(seconds=30), 9)
    missing = np.isnan(strip.leads[0].samples)
    assert missing[5 * RATE : 6 * RATE].all() and missing.sum() == RATE


def test_latest_without_a_time(deployment: DatabaseSettings) -> None:
    strip = patient_strip(deployment, "p2", None, 5)
    assert abs((strip.start - START).total_seconds() - 35) < 0.01


def test_nothing_to_draw_says_where_there_is_some(deployment: DatabaseSettings, tmp_path: Path) -> None:
    with pytest.raises(NothingToDraw, match="the latest is at 2026-11-20 09:00:40"):
        patient_strip(deployment, "p2", START - timedelta(hours=3), 10)
    with pytest.raises(NothingToDraw, match="no ECG of patient nobody"):
        patient_strip(deployment, "nobody", None, 10)
    assert draw_patient_strip(deployment, "nobody", START.timestamp(), 10, tmp_path / "s.png") is None
    assert not list(tmp_path.iterdir())


def test_a_strip_ends_where_the_device_changed_hands(deployment: DatabaseSettings) -> None:
    strip = patient_strip(deployment, "p1", HANDOVER - timedelta(seconds=5), 10)
    assert np.isnan(strip.leads[0].samples[5 * RATE :]).all(), "the rest is another patient's"
    assert not np.isnan(strip.leads[0].samples[: 5 * RATE]).any()
    assert all(mark.at_s < 5 for mark in strip.beats)


def test_command(deployment: DatabaseSettings, kafka_bootstrap: str, tmp_path: Path) -> None:
    flags = {
        "kafka.bootstrap": kafka_bootstrap, "kafka.prefix": f"plot{os.getpid()}.", "kafka.partitions": "1",
        "database.dsn": deployment.dsn, "database.db_schema": deployment.db_schema,
    }  # fmt: skip
    loaded = load(flags=flags, env={}, data=str(tmp_path))
    create_topics(loaded.settings.kafka, (topics.AUDIT_INBOX,))

    def run(*arguments: str, using: Loaded = loaded) -> tuple[int, str]:
        result = CliRunner().invoke(command, arguments, obj=_context.Options(loaded=using))
        return result.exit_code, result.output

    path = tmp_path / "strip.svg"
    status, said = run("p1", "--at", "2026-11-20T09:00:11.5Z", "--seconds", "10", "-o", str(path))
    assert status == 0 and "beats from" in said and b"pause 3.6 s" in path.read_bytes()
    assert run("p1", "-o", "strip.bmp")[0] == 2
    assert run("p1", "--at", "yesterday", "-o", "s.png")[0] == 2
    assert run("p1", "--at", "2026-11-20T09:00:11", "-o", "s.png")[0] == 2
    status, said = run("nobody", "-o", str(path))
    assert status == 1 and "no ECG of patient nobody" in said
    told = [orjson.loads(m.value() or b"") for m in read_all(loaded.settings.kafka, topics.AUDIT_INBOX)]
    assert [(event["action"], event["entity_id"]) for event in told] == [
        ("ecg_plotted", "p1"),
        ("ecg_plotted", "nobody"),
    ]
    lost = load(flags=flags | {"kafka.bootstrap": "127.0.0.1:1"}, env={}, data=str(tmp_path))
    status, said = run("p1", "-o", str(tmp_path / "not.png"), using=lost)
    assert status == 1 and "nothing was read" in said and not (tmp_path / "not.png").exists()
