"""The workers intake, recorder and archiver as processes on real Kafka and PostgreSQL, for the tests of this room."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition

from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.local.topics import create_topics
from vitalgate.storage.migrate import migrate

_numbers = itertools.count(1)
START = datetime(2026, 11, 20, 8, tzinfo=UTC)


def wait_for(check: Callable[[], bool], seconds: float = 60.0) -> None:
    """Until it holds."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


class Pipeline:
    """A deployment of its own: topic prefix, schema, worker processes."""

    def __init__(self, bootstrap: str, dsn: str, folder: Path, **flags: str) -> None:
        self.folder = folder
        number = f"{os.getpid()}_{next(_numbers)}"
        self.flags = {
            "kafka.bootstrap": bootstrap,
            "kafka.prefix": f"p{number}.",
            "kafka.partitions": "2",
            "database.dsn": dsn,
            "database.db_schema": f"stream_{number}",
            **{name.replace("__", "."): value for name, value in flags.items()},
        }
        self.settings: Settings = load(flags=self.flags, env={}, data=str(folder)).settings
        create_topics(self.settings.kafka)
        migrate(self.settings.database)
        self.schema = self.settings.database.db_schema
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._changes = itertools.count(1)
        self._producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 1})

    # --- processes ------------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start workers; `intake-1` is intake in slot 1."""
        for name in names:
            worker, _, slot = name.partition("-")
            flags = [f"--set={key}={value}" for key, value in self.flags.items()]
            with (self.folder / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "vitalgate.cli", "worker", worker, "--slot", slot or "0", *flags],
                    stderr=log,
                    env={key: value for key, value in os.environ.items() if not key.startswith("VITALGATE_")},
                )

    def is_ready(self, name: str) -> bool:
        """Whether it says so itself."""
        return "health endpoints" in self.log(name) and self.health(name, "readyz")[0] == 200

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self, name: str) -> int:
        """SIGTERM and the exit status."""
        self.processes[name].send_signal(signal.SIGTERM)
        return self.processes[name].wait(10)

    def close(self) -> None:
        """Kill what runs."""
        for name, process in self.processes.items():
            if process.poll() is None:
                self.kill(name)

    def log(self, name: str) -> str:
        """What a worker wrote."""
        return (self.folder / f"{name}.log").read_text()

    def _get(self, name: str, page: str) -> tuple[int, bytes]:
        port = next(json.loads(line)["port"] for line in self.log(name).splitlines() if '"health endpoints"' in line)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def health(self, name: str, page: str) -> tuple[int, Any]:
        """Status and body of /healthz or /readyz of a worker."""
        status, body = self._get(name, page)
        return status, json.loads(body)

    def metric(self, name: str, metric: str) -> float:
        """Sum of a metric over its labels."""
        lines = self._get(name, "metrics")[1].decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == metric)

    # --- in -------------------------------------------------------------------------------------------------------

    def put(self, topic: topics.Topic, key: str, body: Any) -> None:
        """One JSON record."""
        self._producer.produce(topics.full(topic, self.settings.kafka), json.dumps(body), key)

    def register(
        self, device: str, kind: str = "pulse-oximeter", patient: str | None = None, state: str = "active"
    ) -> None:
        """A device, with a patient since 2020."""
        self.put(topics.REGISTRY_DEVICES, device, {
            "device": device, "kind": kind, "state": state, "serial": "", "firmware": "", "credential_hash": "",
            "updated_at": "2026-01-01T00:00:00Z", "change": next(self._changes),
        })  # fmt: skip
        if patient:
            row = {"id": next(self._changes), "patient": patient, "from": "2020-01-01T00:00:00Z", "to": None}
            body = {"device": device, "change": next(self._changes), "assignments": [row]}
            self.put(topics.REGISTRY_ASSIGNMENTS, device, body)
        self._producer.flush()

    def send(self, device: str, payload: bytes | dict[str, Any], leaf: str = "readings", **headers: str) -> str:
        """What the gateway would have produced for one MQTT message; returns its trace id."""
        trace = uuid.uuid4().hex
        received = headers.pop("received_at", None) or str(time.time_ns() // 1000)
        given = {"topic": f"v1/devices/{device}/{leaf}", "received_at": received, "trace": trace, "gateway": "0"}
        self._producer.produce(
            topics.full(topics.RAW, self.settings.kafka),
            payload if isinstance(payload, bytes) else json.dumps(payload).encode(),
            device,
            headers=[(name, value.encode()) for name, value in {**given, **headers}.items()],
        )
        self._producer.poll(0)
        return trace

    def flush(self) -> None:
        """Everything sent is in Kafka."""
        assert self._producer.flush(10) == 0

    # --- out ------------------------------------------------------------------------------------------------------

    def records(self, topic: topics.Topic) -> list[Any]:
        """All records of a topic up to its present end, as messages of confluent-kafka, partition by partition."""
        name = topics.full(topic, self.settings.kafka)
        consumer = Consumer({"bootstrap.servers": self.settings.kafka.bootstrap, "group.id": "test-reader"})
        found = []
        try:
            for partition in range(topic.partitions or self.settings.kafka.partitions):
                low, end = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=10)
                consumer.assign([TopicPartition(name, partition, low)])
                at = low
                while at < end:
                    message = consumer.poll(10)
                    assert message is not None, f"{name}/{partition} stands at {at} of {end}"
                    if message.error() is None:
                        found.append(message)
                        at = (message.offset() or 0) + 1
        finally:
            consumer.close()
        return found

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Rows; `{v}` is the schema of views, `{t}` that of tables."""
        with psycopg.connect(self.settings.database.dsn) as connection:
            text = query.replace("{v}", self.schema).replace("{t}", f"{self.schema}_data")
            return connection.execute(text.encode()).fetchall()

    def count(self, query: str) -> int:
        """First column of the first row."""
        return int(self.sql(query)[0][0])


def moment(seconds: float) -> str:
    """RFC 3339 time this long after START."""
    return (START + timedelta(seconds=seconds)).isoformat()


def reading(epoch: str, seq: int, value: float = 97, **more: Any) -> dict[str, Any]:
    """A message with one saturation."""
    entry = {"metric": "spo2", "value": value, "unit": "%", "time": moment(seq), **more}
    return {"epoch": epoch, "seq": seq, "readings": [entry]}


def payload_of(document: dict[str, Any]) -> bytes:
    """Original bytes in a dead letter."""
    return base64.b64decode(document["payload_base64"])
