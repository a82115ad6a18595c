"""docs/consume.md: its consumer and its command lines, run against records that our own workers made."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stream.pipeline import Pipeline, moment, reading, wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "consume.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def environment(pipeline: Pipeline) -> dict[str, str]:
    kafka = pipeline.settings.kafka
    return {**os.environ, "BOOTSTRAP": kafka.bootstrap, "TOPIC_PREFIX": kafka.prefix}


@pytest.fixture(scope="session")
def filled(pipeline: Pipeline) -> Pipeline:
    for name in ("page-1", "page-2"):
        pipeline.register(name)
    for seq in (1, 3, 2):
        pipeline.send("page-1", reading("e", seq, 90 + seq))
    pipeline.send("page-2", reading("e", 1, 88))
    pipeline.send("page-2", reading("e", 2, 99, time=moment(1)))  # another value of the same measurement
    pipeline.send("page-2", b"not a message")
    pipeline.flush()
    wait_for(lambda: pipeline.count("SELECT count(*) FROM {v}.readings WHERE device_id LIKE 'page-%'") == 5)
    wait_for(lambda: pipeline.count("SELECT count(*) FROM {v}.dead_letters WHERE device_id = 'page-2'") == 1)
    wait_for(lambda: pipeline.count("SELECT count(*) FROM {t}.ledger WHERE NOT published") == 0)
    return pipeline


def test_the_consumer_prints_the_latest_value_of_each_device(filled: Pipeline, tmp_path: Path) -> None:
    [code] = blocks("python")
    script = tmp_path / "consumer.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], env=environment(filled), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("page-")] == [
        "page-1 93 % at 2026-11-20T08:00:03Z (version 1)",
        "page-2 99 % at 2026-11-20T08:00:01Z (version 2)",
    ]


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not on this machine (apt install kcat)")
def test_kcat_reads_the_same(filled: Pipeline) -> None:
    readings, dead = [
        subprocess.run(
            ["sh", "-c", block], env=environment(filled), capture_output=True, text=True, timeout=30, check=True
        ).stdout.splitlines()
        for block in blocks("sh")
    ]
    assert {"page-1", "page-2"} <= {line.split(" ")[0] for line in readings}
    headers = dict(part.split("=", 1) for part in readings[0].split(" ")[1].split(","))
    assert headers["schema"] == "device.readings"
    assert set(headers) == {"schema", "schema_version", "trace", "message_id"}
    document = json.loads(readings[0].split(" ", 2)[2])
    assert document["message_id"] == headers["message_id"]
    assert {"page-2": "undecodable"}.items() <= {d["device_id"]: d["reason"] for d in map(json.loads, dead)}.items()
