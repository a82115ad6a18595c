"""The examples for device makers do what they say, on a real broker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.parts import PASSWORD, Edge
from tests.gateway.server_side import SmallIntake

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def edge(served_edge: Edge) -> Edge:
    return served_edge


@pytest.fixture
def server(edge: Edge) -> Iterator[SmallIntake]:
    intake = SmallIntake(edge)
    yield intake
    intake.close()


def environment(edge: Edge, device: str, tmp_path: Path) -> dict[str, str]:
    mqtt = edge.settings.mqtt
    return {
        **os.environ, "VG_HOST": mqtt.host, "VG_PORT": str(mqtt.port), "VG_DEVICE": device, "VG_PASSWORD": PASSWORD,
        "VG_OUTBOX": str(tmp_path / "outbox.sqlite"),
    }  # fmt: skip


def values(server: SmallIntake, device: str) -> list[float]:
    return [
        document["readings"][0]["value"]
        for topic, document in server.documents
        if "readings" in document and f"/{device}/" in topic
    ]


def run(command: list[str], env: dict[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=env, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_python(edge: Edge, server: SmallIntake, tmp_path: Path) -> None:
    (device,) = edge.add_devices("py")
    env = environment(edge, device, tmp_path)
    done = run([sys.executable, str(EXAMPLES / "python" / "thermometer.py"), "36.8", "37.1"], env)
    assert done.returncode == 0, done.stderr
    assert values(server, device) == [36.8, 37.1]


def test_shell(edge: Edge, server: SmallIntake, tmp_path: Path) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not on this machine (Debian, Ubuntu: apt-get install mosquitto-clients)")
    (device,) = edge.add_devices("sh")
    env = environment(edge, device, tmp_path)
    script = str(EXAMPLES / "shell" / "send_reading.sh")
    done = run(["sh", script, "36.9"], env)
    assert done.returncode == 0, done.stderr
    assert '"kept_through":1' in done.stdout
    assert values(server, device) == [36.9]
    nobody = run(["sh", script, "36.9"], {**env, "VG_WAIT": "3", "VG_PASSWORD": "wrong"})
    assert nobody.returncode != 0


def test_c(edge: Edge, server: SmallIntake, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on this machine (Debian, Ubuntu: apt-get install gcc)")
    program = tmp_path / "thermometer"
    probe = run([compiler, "-E", "-x", "c", "-", "-o", os.devnull], dict(os.environ), "#include <mosquitto.h>\n")
    if probe.returncode != 0:
        pytest.skip("libmosquitto's header is not on this machine (Debian, Ubuntu: apt-get install libmosquitto-dev)")
    source = str(EXAMPLES / "c" / "thermometer.c")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    built = run([compiler, *flags, "-o", str(program), source, "-lmosquitto"], dict(os.environ))
    assert built.returncode == 0, built.stderr
    (device,) = edge.add_devices("c")
    done = run([str(program)], environment(edge, device, tmp_path), "36.8\nnonsense\n37.25\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 kept\n2 kept\n"
    assert "not a number: nonsense" in done.stderr
    assert values(server, device) == [36.8, 37.25]
