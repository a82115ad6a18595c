"""Real parts for this room's tests: a broker and Kafka of its own, processes of ours, and clients not written by us."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, KafkaException, TopicPartition

from vitalgate.cli import cli
from vitalgate.config import topics
from vitalgate.config.loading import env_name, load, read_secret
from vitalgate.config.settings import Settings
from vitalgate.gateway import dynsec
from vitalgate.gateway.address import Address
from vitalgate.local.stack import Stack
from vitalgate.local.topics import create_topics

PASSWORD = "a-device's-password"
_numbers = itertools.count(1)


def until(condition: Callable[[], Any], seconds: float = 45.0, what: str = "") -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what or condition}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One of our processes, as the supervisor would run it."""

    def __init__(self, name: str, env: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self.log = log
        clean = {key: value for key, value in os.environ.items() if not key.startswith("VITALGATE_")}
        with log.open("ab") as stream:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "vitalgate.cli", *name.split()],
                env={**clean, **env, "VITALGATE_HEALTH_PORT": str(self.port), "VITALGATE_LOG_FORMAT": "text"},
                stdout=stream,
                stderr=stream,
                cwd=log.parent,
            )

    def ready(self, seconds: float = 60.0) -> Process:
        """Wait until it says that it is ready."""

        def check() -> bool:
            if self.popen.poll() is not None:
                raise AssertionError(f"ended with {self.popen.returncode}: {self.log.read_text()[-2000:]}")
            return self.get("/readyz")[0] == 200

        until(check, seconds, f"readiness; its log: {self.log}")
        return self

    def get(self, path: str) -> tuple[int, str]:
        """(status, body) of a health page; 0 when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """A metric's value, summed over its labels."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].split(" ")[0] == name)

    def rss(self) -> int:
        """Resident memory in bytes."""
        return int(Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu(self) -> float:
        """CPU seconds used so far."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def stop(self, seconds: float = 10.0) -> tuple[int, float]:
        """SIGTERM; returns (exit status, seconds it took)."""
        start = time.monotonic()
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(seconds), time.monotonic() - start


class Subscriber:
    """A running `mosquitto_sub`, on a terminal of its own so that it does not hold back what it prints."""

    def __init__(self, command: list[str]) -> None:
        self.text = ""
        self._master, slave = pty.openpty()
        self.popen = subprocess.Popen(command, stdout=slave, stderr=slave, stdin=subprocess.DEVNULL)
        os.close(slave)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 65_536):
                self.text += data.decode("utf-8", "replace").replace("\r\n", "\n")

    def __call__(self) -> list[tuple[str, bool, str]]:
        """(topic, retained, payload) of all that has come so far."""
        lines = self.text.rpartition("\n")[0].splitlines()
        return [(f[0], f[1] == "1", f[2]) for line in lines if len(f := line.split("\t", 2)) == 3]

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self._thread.join(5)
        os.close(self._master)


class Edge:
    """Broker and Kafka, and one deployment on them with topics of its own."""

    def __init__(self, stack: Stack, folder: Path, **flags: str) -> None:
        self.stack = stack
        self.folder = folder
        number = next(_numbers)
        self.name = f"e{os.getpid()}x{number}"
        given = {
            "kafka.prefix": f"{self.name}.",
            "mqtt.share_group": self.name,
            "gateway.slot": self.name,
            "worker.slot": self.name,
            "database.db_schema": self.name,
            **{name.replace("__", "."): value for name, value in flags.items()},
        }
        self.flags = given
        self.settings: Settings = load(env={}, data=str(stack.data), flags=given).settings
        create_topics(self.settings.kafka)
        self._processes: list[Process] = []

    # --- the broker -------------------------------------------------------------------------------------------------

    def admin(self) -> dynsec.Dynsec:
        mqtt = self.settings.mqtt
        password = read_secret(mqtt.admin_password_file, "administrator's password")
        return dynsec.Dynsec(mqtt, password, name="test")

    def add_devices(self, *names: str) -> tuple[str, ...]:
        """Devices with `PASSWORD`, under names that no other test uses."""
        call = next(_numbers)
        full = tuple(f"{self.name}-{call}{name}" for name in names)
        with self.admin() as admin:
            admin.ensure_roles()
            assert set(admin.run([dynsec.create(name, PASSWORD) for name in full])) == {None}
        return full

    def address(self, client_id: str) -> Address:
        """Where and as whom the gateway's user connects."""
        mqtt = self.settings.mqtt
        return Address(mqtt.host, mqtt.port, client_id, mqtt.username, self.gateway_password, clean=True)

    @property
    def gateway_password(self) -> str:
        return read_secret(self.settings.mqtt.password_file, "gateway's password")

    def pub(
        self, device: str, topic: str, payload: str | bytes, *options: str, password: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """`mosquitto_pub` as this device."""
        data = payload.encode() if isinstance(payload, str) else payload
        command = [*self._client("mosquitto_pub", device, password), "-t", topic, "-q", "1", *options]
        command.append("-s" if data else "-n")
        done = subprocess.run(command, input=data, capture_output=True, timeout=20, check=False)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextlib.contextmanager
    def sub(self, user: str, *filters: str, version: str = "mqttv5", password: str = "") -> Iterator[Subscriber]:
        """`mosquitto_sub` as this user."""
        command = [*self._client("mosquitto_sub", user, password), "-V", version, "-q", "1", "-F", "%t\t%r\t%p", "-d"]
        for name in filters:
            command += ["-t", name]
        subscriber = Subscriber(command)
        try:
            until(lambda: "Subscribed (mid" in subscriber.text, 10, "mosquitto_sub's subscription")
            yield subscriber
        finally:
            subscriber.close()

    @contextlib.contextmanager
    def sub_when_up(self, user: str, *filters: str, password: str = "") -> Iterator[Subscriber]:
        """As `sub`, once a broker that was killed is back."""
        until(lambda: self.pub(user, "nobody/listens", "", password=password).returncode == 0, 20, "the broker")
        with self.sub(user, *filters, password=password) as subscriber:
            yield subscriber

    def _client(self, program: str, user: str, password: str = "") -> list[str]:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is not on this machine (Debian, Ubuntu: apt-get install mosquitto-clients)")
        mqtt = self.settings.mqtt
        secret = password or {mqtt.username: self.gateway_password}.get(user, PASSWORD)
        return [path, "-h", mqtt.host, "-p", str(mqtt.port), "-u", user, "-P", secret]

    # --- processes --------------------------------------------------------------------------------------------------

    def run(self, name: str, **flags: str) -> Process:
        """Start one of our processes; it is killed at the end of the test."""
        given = {**self.flags, **{key.replace("__", "."): value for key, value in flags.items()}}
        env = {env_name(key): value for key, value in given.items()} | {"VITALGATE_STACK_DATA": str(self.stack.data)}
        process = Process(name, env, self.folder / f"{name.split()[0]}.log")
        self._processes.append(process)
        return process

    def try_command(self, *arguments: str) -> Result:
        """Run one of our commands to its end, in this process."""
        settings = [part for name, value in self.flags.items() for part in ("--set", f"{name}={value}")]
        return CliRunner().invoke(cli, [*arguments, "--data", str(self.stack.data), *settings])

    def command(self, *arguments: str, wait: bool = True) -> Any:
        """Run one of our commands, which must do its work; what it prints, read as JSON where it is that.

        With `wait`, nothing may be left for later.
        """
        done = self.try_command(*arguments)
        assert done.exit_code == 0, done.stderr
        assert not (wait and done.stderr), done.stderr
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def pid(self, part: str) -> int:
        """Process id of `mosquitto` or `kafka`."""
        processes = self.stack.status()["processes"]
        return int(next(process["pid"] for process in processes if process["name"] == part))

    def close(self) -> None:
        for process in self._processes:
            if process.popen.poll() is None:
                process.kill()

    # --- Kafka ------------------------------------------------------------------------------------------------------

    def records(self, topic: topics.Topic) -> list[tuple[str, dict[str, str], bytes, int]]:
        """(key, headers, value, partition) of everything on a topic now."""
        name = topics.full(topic, self.settings.kafka)
        source = Consumer({"bootstrap.servers": self.settings.kafka.bootstrap, "group.id": "x", "log_level": 2})
        try:
            parts = source.list_topics(name, timeout=10).topics[name].partitions
            ends = {}
            for part in parts:
                low, high = until(lambda part=part: _ends(source, name, part), 10, "a leader of the partition")
                if high > low:
                    ends[part] = high
            source.assign([TopicPartition(name, part, 0) for part in ends])
            out = []
            while ends:
                first = source.poll(10.0)  # `consume` alone would wait for the full number
                assert first is not None
                for message in (first, *source.consume(5000, 0)):
                    assert message.error() is None
                    headers = {key: value.decode() for key, value in message.headers() or ()}
                    key = (message.key() or b"").decode()
                    out.append((key, headers, message.value() or b"", message.partition()))
                    if message.offset() + 1 >= ends.get(message.partition(), 0):
                        ends.pop(message.partition(), None)
            return out
        finally:
            source.close()


def _ends(source: Consumer, name: str, partition: int) -> tuple[int, int] | None:
    try:
        low, high = source.get_watermark_offsets(TopicPartition(name, partition), timeout=10, cached=False)
    except KafkaException:  # a topic that has just been made has no leader for a moment
        return None
    return low, high


def numbers(edge: Edge) -> list[int]:
    """The `n` of every JSON payload in device.raw, in no particular order."""
    return [json.loads(value)["n"] for _, _, value, _ in edge.records(topics.RAW)]
