"""The auditor on a real Kafka: killed while it writes, the chain has every event once and holds."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.alerts.worker_process import read_all, running, send, wait_for
from vitalgate.audit.chain import Verdict, verify
from vitalgate.audit.checkpoints import good_signature
from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.local.topics import create_topics

KEY = Ed25519PrivateKey.generate()
EVENTS = 2000


@pytest.fixture
def settings(kafka_bootstrap: str, tmp_path: Path) -> Settings:
    pem = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    flags = {
        "kafka.bootstrap": kafka_bootstrap, "kafka.prefix": f"auditor{os.getpid()}.",
        "audit.signing_key_file": str(tmp_path / "key.pem"), "audit.checkpoint_every": "50",
    }  # fmt: skip
    made = load(flags=flags, env={}, data=str(tmp_path / "data")).settings
    create_topics(made.kafka, (topics.AUDIT_INBOX, topics.AUDIT))
    return made


def _trail(settings: Settings) -> list[dict[str, Any]]:
    return [orjson.loads(message.value() or b"") for message in read_all(settings.kafka, topics.AUDIT)]


def _verdict(trail: list[dict[str, Any]]) -> Verdict:
    return verify(trail, lambda record: good_signature(record, KEY.public_key()))


def test_killed_while_it_writes(settings: Settings, tmp_path: Path) -> None:
    chance = random.Random(2)
    events = [orjson.dumps({"event_id": f"e{n}", "action": "batch.recorded"}) for n in range(EVENTS)]
    with running(settings, "auditor", tmp_path) as worker:
        for at in range(0, EVENTS, 500):
            send(settings.kafka, [(topics.AUDIT_INBOX, None, event) for event in events[at : at + 500]])
            time.sleep(chance.uniform(1.5, 2.5))
            worker.kill()
            worker.start()
        wait_for(lambda: _verdict(_trail(settings)).signed_through == EVENTS, 90)
        trail = _trail(settings)
    verdict = _verdict(trail)
    assert verdict.broken is None
    assert (verdict.first, verdict.tip.n) == (1, EVENTS)
    by_number = {record["n"]: record["event_id"] for record in trail if not record.get("checkpoint")}
    assert [by_number[n + 1] for n in range(EVENTS)] == [f"e{n}" for n in range(EVENTS)]
