"""A worker for tests, run as a process: it appends what it handled to a file and misbehaves as told.

``python stream_probe.py SETTINGS.json BEHAVIOUR.json SLOT``
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.stream import harness
from vitalgate.stream.errors import TransientError
from vitalgate.stream.worker import Record, Worker

MakeSettings = Callable[..., Settings]
TOPICS = {topic.name: topic for topic in topics.ALL}


class Probe(Worker):
    """Sink: one line `slot topic partition offset value` a record, written at once with O_APPEND."""

    name = "probe"

    def __init__(self, behaviour: dict[str, Any], slot: str) -> None:
        self.behaviour = behaviour
        self.slot = slot
        self.calls = 0
        self.sink = os.open(behaviour["sink"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        type(self).topics = tuple(TOPICS[name] for name in behaviour.get("topics", ["device.raw"]))
        type(self).deferred = behaviour.get("deferred", False)
        type(self).tick_s = behaviour.get("tick_s")

    def note(self, line: str) -> None:
        os.write(self.sink, (line + "\n").encode())

    async def on_assigned(self, partitions: frozenset[int]) -> None:
        self.note(f"{self.slot} assigned {','.join(map(str, sorted(partitions)))}")

    async def on_revoked(self, partitions: frozenset[int]) -> None:
        self.note(f"{self.slot} revoked {','.join(map(str, sorted(partitions)))}")

    async def handle(self, batch: list[Record]) -> None:
        told = self.behaviour
        self.calls += 1
        if self.calls == told.get("raise_at"):
            raise ValueError("one exception")
        if self.calls % told.get("transient_every", 1 << 60) == 0:
            raise TransientError("the sink is away")
        while Path(told.get("block", "/nonexistent")).exists():
            await asyncio.sleep(0.05)
        for record in batch:
            if told.get("poison_all"):
                raise ValueError("everything")
            if record.value == told.get("poison", "").encode() and record.value:
                raise ValueError("poison")
        await asyncio.sleep(told.get("seconds", 0.005))
        lines = [
            f"{self.slot} {record.topic} {record.partition} {record.offset} {(record.value or b'').decode()}\n"
            for record in batch
        ]
        os.write(self.sink, "".join(lines).encode())

    async def tick(self) -> None:
        self.note(f"{self.slot} tick")
        if self.deferred:
            self.context.acker.durable_all()

    async def stop(self) -> None:
        self.note(f"{self.slot} stop")


class Running:
    """A probe process."""

    def __init__(self, settings: Settings, folder: Path, slot: str = "0", **behaviour: Any) -> None:
        self.sink = folder / "sink"
        (folder / "settings.json").write_text(settings.model_dump_json())
        told = folder / f"behaviour-{slot}.json"
        told.write_text(json.dumps({"sink": str(self.sink), **behaviour}))
        self.log = (folder / f"log-{slot}").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder / "settings.json"), str(told), slot],
            stderr=self.log,
        )

    def stop(self, timeout: float = 10.0) -> tuple[int, float]:
        """SIGTERM; the exit status and the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout), time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self.log.close()


def read_sink(folder: Path) -> list[list[str]]:
    """Lines written so far, each split into its words."""
    sink = folder / "sink"
    return [line.split(" ") for line in sink.read_text().splitlines()] if sink.exists() else []


if __name__ == "__main__":
    settings_file, behaviour_file, own_slot = sys.argv[1:]
    told = json.loads(Path(behaviour_file).read_text())
    harness.run(Probe(told, own_slot), Settings.model_validate_json(Path(settings_file).read_text()), own_slot)
