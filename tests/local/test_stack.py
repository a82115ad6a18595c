"""The supervisor on real parts: broker and database are quick enough to be started anew for a test."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from vitalgate.local import control
from vitalgate.local.errors import StackError
from vitalgate.local.ports import HOST
from vitalgate.local.stack import Stack, remove_data

SMALL = {"mqtt", "postgres"}


@pytest.fixture
def data() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vitalgate-test-"))
    folder.chmod(0o711)
    yield folder / "data"
    Stack(folder / "data").stop()
    remove_data(folder / "data")
    folder.rmdir()


def family(pid: int) -> list[psutil.Process]:
    """A supervisor and all that it runs."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def process(status: dict, name: str) -> dict:  # type: ignore[type-arg]
    return next(entry for entry in status["processes"] if entry["name"] == name)


def test_status_names_addresses_processes_and_health(data: Path) -> None:
    with Stack(data, only=SMALL) as stack:
        status = stack.status()
        settings = stack.settings.settings
        assert status["mqtt"] == {"broker": "mosquitto", "host": settings.mqtt.host, "port": settings.mqtt.port}
        assert status["database"] == {"dsn": settings.database.dsn}
        assert status["kafka"] == {"bootstrap": settings.kafka.bootstrap}
        assert {entry["name"]: entry["state"] for entry in status["processes"]} == {
            "mosquitto": "ready",
            "postgres": "ready",
        }
        assert all(part["ok"] for part in status["health"].values())
        with psycopg.connect(settings.database.dsn) as connection:
            row = connection.execute("SELECT current_database(), current_setting('fsync')").fetchone()
        assert row == ("vitalgate", "on")
    with pytest.raises(control.NotRunningError, match="no stack is running"):
        control.status(data)


def test_no_secret_is_on_a_command_line_or_in_a_log(data: Path) -> None:
    with Stack(data, only=SMALL) as stack:
        secrets = [(data / "secrets" / name).read_text().strip() for name in ("mqtt-gateway", "mqtt-admin", "postgres")]
        secrets.append((data / "secrets" / "audit-signing-key.pem").read_text().splitlines()[1])
        shown = ""
        for each in family(stack.status()["pid"]):
            with contextlib.suppress(psutil.NoSuchProcess):
                shown += " ".join(each.cmdline())
        shown += "".join(path.read_text(errors="replace") for path in (data / "logs").iterdir())
        shown += str(stack.status())
        assert not [secret for secret in secrets if secret in shown]


def test_a_killed_supervisor_leaves_no_process_and_the_next_start_works(data: Path) -> None:
    stack = Stack(data, only={*SMALL, "kafka"})
    stack.start()
    everyone = family(stack.status()["pid"])
    names = {each.name() for each in everyone}
    assert {"java", "mosquitto", "postgres"} <= names
    os.kill(stack.status()["pid"], signal.SIGKILL)
    _, alive = psutil.wait_procs(everyone, timeout=10)
    assert not alive
    with Stack(data, only=SMALL) as again:
        assert all(part["ok"] for part in again.status()["health"].values())


def test_a_killed_starter_leaves_no_process(data: Path) -> None:
    code = (
        "import sys, time; from vitalgate.local.stack import Stack\n"
        "stack = Stack(sys.argv[1], only={'mqtt'}); stack.start(); print('ready', flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(data)], stdout=subprocess.PIPE)
    assert starter.stdout
    assert starter.stdout.readline() == b"ready\n"
    everyone = family(control.status(data)["pid"])
    starter.kill()
    starter.wait()
    _, alive = psutil.wait_procs(everyone, timeout=10)
    assert not alive


def test_a_detached_stack_outlives_its_starter(data: Path) -> None:
    code = "import sys; from vitalgate.local.stack import Stack\nStack(sys.argv[1], only={'mqtt'}).start(detach=True)"
    subprocess.run([sys.executable, "-c", code, str(data)], check=True, timeout=60)
    time.sleep(0.3)
    everyone = family(control.status(data)["pid"])
    control.stop(data)
    assert not [each for each in everyone if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_what_is_killed_comes_back_and_what_is_stopped_stays_stopped(data: Path) -> None:
    with Stack(data, only={"mqtt"}) as stack:
        first = process(stack.status(), "mosquitto")
        control.kill_process(data, "mosquitto")
        status = control.wait_until(
            data, lambda found: process(found, "mosquitto")["restarts"] == 1 and found["health"]["mqtt"]["ok"]
        )
        second = process(status, "mosquitto")
        assert second["pid"] != first["pid"]
        assert second["last_exit"] == -signal.SIGKILL
        control.stop_process(data, "mosquitto")
        time.sleep(0.5)
        status = control.status(data)
        assert process(status, "mosquitto")["state"] == "stopped"
        assert not status["health"]["mqtt"]["ok"]
        control.start_process(data, "mosquitto")
        assert control.status(data)["health"]["mqtt"]["ok"]
        with pytest.raises(StackError, match="no process 'nobody'; there are mosquitto"):
            control.stop_process(data, "nobody")


def test_a_second_start_in_the_same_directory_is_refused(data: Path) -> None:
    with Stack(data, only={"mqtt"}) as stack:
        with pytest.raises(StackError, match=r"already running in .*; stop it with `vitalgate down`"):
            Stack(data, only={"mqtt"}).start()
        assert stack.status()["health"]["mqtt"]["ok"]


def test_another_port_is_taken_when_the_last_one_is_occupied(data: Path) -> None:
    with Stack(data, only={"mqtt"}) as stack:
        port = stack.settings.settings.mqtt.port
    with Stack(data, only={"mqtt"}) as stack:
        assert stack.settings.settings.mqtt.port == port
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind((HOST, port))
        taker.listen()
        with Stack(data, only={"mqtt"}) as stack:
            assert stack.status()["health"]["mqtt"]["ok"]
            assert stack.settings.settings.mqtt.port != port


def test_a_port_that_the_user_names_is_that_or_an_error(data: Path) -> None:
    with socket.socket() as taker:
        taker.bind((HOST, 0))
        taker.listen()
        port = taker.getsockname()[1]
        with pytest.raises(StackError, match=rf"mqtt\.port is {port}, which something .* already uses; stop that"):
            Stack(data, {"mqtt.port": str(port)}, {"mqtt"}).start()
    with Stack(data, {"mqtt.port": str(port)}, {"mqtt"}) as stack:
        assert stack.status()["mqtt"]["port"] == port


def test_the_guilty_log_is_in_the_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binaries = data.parent / "bin"
    binaries.mkdir()
    broken = binaries / "mosquitto"
    broken.write_text("#!/bin/sh\necho the broker is broken; exit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    try:
        says = r"mosquitto was not ready .* ended \d times, last with exit status 3(?s:.*)the broker is broken"
        with pytest.raises(StackError, match=says):
            Stack(data, {"local.ready_timeout_s": "10"}, {"mqtt"}).start()
    finally:
        broken.unlink()
        binaries.rmdir()


def test_a_part_of_your_own_is_not_started(data: Path) -> None:
    with Stack(data, {"mqtt.external": "true"}, SMALL) as stack:
        assert [entry["name"] for entry in stack.status()["processes"]] == ["postgres"]
        assert "mqtt" not in (data / "stack.toml").read_text()


def test_an_unknown_setting_is_refused_before_anything_starts(data: Path) -> None:
    with pytest.raises(StackError, match=r"unknown setting 'mqtt\.prot'"):
        Stack(data, {"mqtt.prot": "1"}, SMALL).start()


def test_the_database_keeps_what_it_had_when_started_again(data: Path) -> None:
    with Stack(data, only={"postgres"}) as stack, psycopg.connect(stack.settings.settings.database.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with Stack(data, only={"postgres"}) as stack, psycopg.connect(stack.settings.settings.database.dsn) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
