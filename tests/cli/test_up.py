"""`vitalgate up`, `status` and `down` as a person types them, on a broker alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

COMMAND = (sys.executable, "-u", "-m", "vitalgate.cli")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def in_the_foreground() -> Iterator[None]:
    """A child started from here hears Ctrl-C, also when the tests themselves run in the background and do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("in_the_foreground")
def test_ctrl_c_stops_everything_that_runs_in_the_foreground(data: Path) -> None:
    started = subprocess.Popen(
        [*COMMAND, "up", "--only", "mqtt", "--data", str(data)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stdout
    lines = iter(started.stdout.readline, "Ctrl-C stops it.\n")
    assert any("The stack is ready" in line for line in lines)
    everyone = psutil.Process(started.pid).children(recursive=True)
    assert len(everyone) >= 2
    os.killpg(started.pid, signal.SIGINT)
    assert started.wait(20) == 0
    _, alive = psutil.wait_procs(everyone, timeout=5)
    assert not alive


def test_detached_it_is_up_until_down(data: Path) -> None:
    up = run("up", "--detach", "--only", "mqtt", "--data", str(data))
    assert up.returncode == 0, up.stderr
    assert "mosquitto ready after" in up.stdout
    try:
        status = run("status", "--json", "--data", str(data))
        assert status.returncode == 0
        document = json.loads(status.stdout)
        assert document["mqtt"]["host"] == "127.0.0.1"
        assert {"name", "pid", "state", "restarts"} <= document["processes"][0].keys()
        assert document["health"]["mqtt"]["ok"]
        readable = run("--data", str(data), "status").stdout
        assert f"MQTT       127.0.0.1:{document['mqtt']['port']}" in readable
        again = run("up", "--detach", "--only", "mqtt", "--data", str(data))
        assert again.returncode == 1
        assert "already running" in again.stderr
        rows = {row["name"]: row for row in json.loads(run("settings", "mqtt", "--json", "--data", str(data)).stdout)}
        assert rows["mqtt.port"]["value"] == document["mqtt"]["port"]
        assert rows["mqtt.port"]["source"] == "stack"
    finally:
        down = run("down", "--remove", "--data", str(data))
    assert down.returncode == 0
    assert "has stopped" in down.stdout
    assert not data.exists()
