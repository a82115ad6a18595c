"""The analysis worker on a real Kafka: killed again and again, its beats are the detector's on the whole recording."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests.alerts.worker_process import read_all, running, send, wait_for
from tests.analysis.test_analysis_core import FS, _ecg, _message
from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.devices.records import PatientInput, decode_input, encode
from vitalgate.local.topics import create_topics
from vitalgate.signal.beats import find_beats

TOPICS = (
    topics.INPUTS, topics.BEATS, topics.FEATURES,
    topics.REGISTRY_DEVICES, topics.REGISTRY_ASSIGNMENTS, topics.REGISTRY_PATIENTS,
)  # fmt: skip
PATIENTS, SECONDS, PACKET_S = 3, 60, 2


@pytest.fixture
def settings(kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # as `vitalgate worker` sets it
    flags = {
        "kafka.bootstrap": kafka_bootstrap, "kafka.prefix": f"analysis{os.getpid()}.", "kafka.partitions": "2",
        "analysis.idle_s": "3",
    }  # fmt: skip
    made = load(flags=flags, env={}, data=str(tmp_path / "data")).settings
    create_topics(made.kafka, TOPICS)
    return made


def _inputs(patient: int) -> list[tuple[topics.Topic, str | None, bytes]]:
    samples = _ecg(SECONDS, seed=patient)
    return [
        (topics.INPUTS, f"p{patient}", encode(PatientInput("add", f"p{patient}", _message(a, samples[a : a + n], a))))
        for n in [PACKET_S * FS]
        for a in range(0, len(samples), n)
    ]


def _decoded(patient: int) -> list[PatientInput]:
    return [decode_input(value) for _, _, value in _inputs(patient)]


def _newest(settings: Settings, topic: topics.Topic) -> dict[tuple[Any, ...], dict[str, Any]]:
    newest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for message in read_all(settings.kafka, topic):
        record = orjson.loads(message.value() or b"")
        part = record["block"] if "block" in record else (record["name"], record["window"]["first_sample"])
        key = (record["patient"], record["recording"], part)
        if key not in newest or record["revision"] >= newest[key]["revision"]:
            newest[key] = record
    return newest


def _beats(settings: Settings) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {f"p{n}": [] for n in range(PATIENTS)}
    for record in _newest(settings, topics.BEATS).values():
        found[record["patient"]] += [beat["sample"] for beat in record["beats"]]
    return {patient: sorted(samples) for patient, samples in found.items()}


def test_killed_at_random_it_gives_the_beats_of_one_pass(settings: Settings, tmp_path: Path) -> None:
    chance = random.Random(5)
    wanted = {
        f"p{n}": find_beats((_ecg(SECONDS, seed=n) / np.float32(200)).astype(np.float32), FS)[0].tolist()
        for n in range(PATIENTS)
    }
    records = [record for packets in zip(*map(_inputs, range(PATIENTS)), strict=True) for record in packets]
    with running(settings, "analysis", tmp_path) as worker:
        for at in range(0, len(records), len(records) // 4):
            part = records[at : at + len(records) // 4]
            send(settings.kafka, part + chance.sample(part, min(5, len(part))))  # some are delivered twice
            time.sleep(chance.uniform(2.0, 4.0))
            worker.kill()
            worker.start()
        wait_for(lambda: _beats(settings) == wanted, 60)
        features = _newest(settings, topics.FEATURES).values()
        standing = {(f["patient"], f["name"]) for f in features if not f["withdrawn"]}
        assert {
            (f"p{n}", name) for n in range(PATIENTS) for name in ("heart_rate", "event.pause", "hrv_60s.rmssd")
        } <= standing
        message = read_all(settings.kafka, topics.BEATS)[0]
        headers = dict(message.headers() or [])
        assert headers["schema"] == b"patient.beats"
        arrived = dict(read_all(settings.kafka, topics.FEATURES)[0].headers() or [])
        sent = {encoded.message.received_us for n in range(PATIENTS) for encoded in _decoded(n)}
        assert int(arrived["received_at"]) in sent and int(headers["received_at"]) in sent, "of the completing packet"
        assert headers["message_id"].decode() == orjson.loads(message.value() or b"")["message_id"]
