"""Processes killed again and again under load: in the end everything is there, once, and every account balances."""

from __future__ import annotations

import json
import random
import threading
import time

import pytest

from tests.stream.pipeline import Pipeline, reading, wait_for
from vitalgate.config import topics
from vitalgate.devices.records import decode_input, decode_sequences
from vitalgate.storage import ledger

DEVICES, MESSAGES = 30, 60


@pytest.mark.slow
def test_killing_intake_and_recorder_under_load_loses_nothing(
    bootstrap: str, dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pipeline = Pipeline(bootstrap, dsn, tmp_path_factory.mktemp("chaos"), worker__session_timeout_s="3")
    chance = random.Random(4)
    try:
        for n in range(DEVICES):
            pipeline.register(f"c-{n}", patient=f"p-{n}")
        pipeline.start("intake", "recorder")

        def send() -> None:
            for seq in range(1, MESSAGES + 1):
                for n in range(DEVICES):
                    pipeline.send(f"c-{n}", reading("e1", seq, 90 + (seq + n) % 10))
                    if chance.random() < 0.05:  # a device that got no receipt yet sends again
                        pipeline.send(f"c-{n}", reading("e1", seq, 90 + (seq + n) % 10))
                time.sleep(0.2)
            pipeline.flush()

        sender = threading.Thread(target=send)
        sender.start()
        kills = 0
        while sender.is_alive():
            time.sleep(chance.uniform(0.3, 2))
            for name in chance.choice((["intake"], ["recorder"], ["intake", "recorder"])):
                pipeline.kill(name)
                pipeline.start(name)
                kills += 1
            if kills == 3:  # a second intake joins in the middle, and shares the partitions from then on
                pipeline.start("intake-1")
        assert kills >= 5

        rows = "SELECT count(*) FROM {v}.readings"
        wait_for(lambda: pipeline.count(rows) == DEVICES * MESSAGES, 60)
        wait_for(lambda: ledger.read(pipeline.settings.database).in_flight in (0, None), 30)
        found = ledger.read(pipeline.settings.database)
        assert found.balanced, found.faults
        assert found.lost == 0
        assert found.stored == DEVICES * MESSAGES
        assert pipeline.count("SELECT count(*) FROM {v}.readings WHERE version > 1") == 0
        wait_for(lambda: pipeline.count("SELECT count(*) FROM {t}.ledger WHERE NOT published") == 0)

        newest = {m.key(): decode_sequences(m.value()) for m in pipeline.records(topics.SEQUENCES)}
        assert {key: [(k.epoch, k.through, k.beyond) for k in s.epochs] for key, s in newest.items()} == {
            f"c-{n}".encode(): [("e1", MESSAGES, [])] for n in range(DEVICES)
        }
        wanted = {(f"c-{n}", seq) for n in range(DEVICES) for seq in range(1, MESSAGES + 1)}
        inputs = [decode_input(m.value()) for m in pipeline.records(topics.INPUTS)]
        assert {(one.message.device, one.message.seq) for one in inputs} == wanted
        public = [json.loads(m.value()) for m in pipeline.records(topics.READINGS)]
        assert {(one["device_id"], entry["seq"]) for one in public for entry in one["readings"]} == wanted
        assert len({one["message_id"] for one in public}) == DEVICES * MESSAGES
    finally:
        pipeline.close()
