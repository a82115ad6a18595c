"""The auditor on a real Kafka: killed while it writes, or with a stranger on its topics, it chains every event once."""

from __future__ import annotations

import itertools
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
from vitalgate.audit.chain import Verdict, append, tip_of, verify
from vitalgate.audit.checkpoints import good_signature
from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.local.topics import create_topics
from vitalgate.stream.anchor_file import read_anchor_file
from vitalgate.stream.audit_tip import read_record

KEY = Ed25519PrivateKey.generate()
EVENTS = 2000
RUNS = itertools.count()


@pytest.fixture
def settings(kafka_bootstrap: str, tmp_path: Path) -> Settings:
    pem = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    flags = {
        "kafka.bootstrap": kafka_bootstrap, "kafka.prefix": f"auditor{os.getpid()}-{next(RUNS)}.",
        "audit.signing_key_file": str(tmp_path / "key.pem"), "audit.checkpoint_every": "50",
        "audit.checkpoint_s": "1", "audit.anchor_file": str(tmp_path / "anchors.jsonl"),
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
        wait_for(lambda: [at["n"] for at in read_anchor_file(tmp_path / "anchors.jsonl")][-1:] == [EVENTS], 20)
        trail = _trail(settings)
    verdict = _verdict(trail)
    assert verdict.broken is None
    assert (verdict.first, verdict.tip.n) == (1, EVENTS)
    by_number = {record["n"]: record["event_id"] for record in trail if not record.get("checkpoint")}
    assert [by_number[n + 1] for n in range(EVENTS)] == [f"e{n}" for n in range(EVENTS)]
    anchors = read_anchor_file(tmp_path / "anchors.jsonl")
    assert verify(trail, lambda record: good_signature(record, KEY.public_key()), anchors).anchors == len(anchors)


def test_a_stranger_on_its_topics_neither_stops_it_nor_leads_it_astray(settings: Settings, tmp_path: Path) -> None:
    """Records that it did not write are left where they are; the next link goes on from its own last one."""
    events = [orjson.dumps({"event_id": f"e{n}", "action": "batch.recorded"}) for n in range(60)]
    oddities = [b"", b"\xff\x00", b"[1]", b"{}", b'{"n":"x"}', b'{"checkpoint":true}', b'{"checkpoint":true,"n":"7"}',
                b'{"hash":"00","n":1e99}', b"[" * 100_000]  # fmt: skip
    with running(settings, "auditor", tmp_path) as worker:
        send(settings.kafka, [(topics.AUDIT_INBOX, None, event) for event in events[:30]])
        # 30 is no multiple of checkpoint_every: it is signed because it has waited long enough.
        wait_for(lambda: _verdict(_trail(settings)).signed_through == 30, 60)
        worker.kill()
        tip = tip_of(next(link for link in _trail(settings) if link["n"] == 30))
        forged = append(tip, 10**9, events[0])  # believed, it would have every event passed over
        assert forged is not None
        send(settings.kafka, [(topics.AUDIT, None, odd) for odd in (*oddities, orjson.dumps(forged[1]))])
        send(settings.kafka, [(topics.AUDIT_INBOX, None, odd) for odd in oddities])
        send(settings.kafka, [(topics.AUDIT_INBOX, None, event) for event in events[30:]])
        worker.start()
        whole = 60 + len(oddities)

        def honest() -> list[dict[str, Any]]:
            return [link for link in _readable(settings) if link.get("inbox_offset") != 10**9]

        wait_for(lambda: _verdict(honest()).signed_through == whole, 60)
    verdict = _verdict(honest())
    assert (verdict.broken, verdict.tip.n) == (None, whole)
    assert sum(link.get("action") == "audit.unreadable" for link in honest()) >= 6
    found = _verdict(_readable(settings, everything=True)).broken
    assert found is not None and found.n == 31


def _readable(settings: Settings, *, everything: bool = False) -> list[dict[str, Any]]:
    records = [read_record(message.value()) for message in read_all(settings.kafka, topics.AUDIT)]
    return [
        record for record in records
        if everything or (isinstance(record.get("n"), int) and len(str(record.get("hash"))) == 64)
    ]  # fmt: skip
