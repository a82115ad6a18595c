"""No room: disks full for Kafka, Mosquitto and PostgreSQL, and a worker out of memory."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path
from typing import ClassVar

from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.faults.broker import plain_roles
from vitalgate.torture.shape import Shape
from vitalgate.torture.stranger import Burst

_SMALL = Shape(small_disks=True)
_WANTED_BYTES = 2_000_000


class _DiskFull(Fault):
    row: ClassVar[str] = "room"
    shape: ClassVar[Shape] = _SMALL
    seconds: ClassVar[float] = 12.0
    part: ClassVar[str]
    log: ClassVar[str]
    complaint: ClassVar[tuple[str, ...]] = ("No space left on device",)

    async def strike(self, field: Field) -> None:
        """Fill what is left, wait, make room again."""
        folder = field.rig.disk(self.part)
        field.say(f"the disk of {self.part} is full")
        ballast = await field.do(_fill, folder)
        try:
            await field.pause(5, 8)
        finally:
            await field.do(ballast.unlink)
            field.say(f"the disk of {self.part} has room again")

    async def after(self, field: Field) -> None:
        """The log must say what was wrong, if the part met the full disk at all."""
        log = field.rig.parts.layout.log(self.log)
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        field.notes[f"{self.part} said that its disk was full"] = any(word in text for word in self.complaint)


class DatabaseDiskFull(_DiskFull):
    """PostgreSQL's file system full for five to eight seconds: no row, no WAL."""

    name: ClassVar[str] = "database-disk-full"
    part: ClassVar[str] = "postgres"
    log: ClassVar[str] = "postgres"


class KafkaDiskFull(_DiskFull):
    """Kafka's file system full for five to eight seconds: it stops when it cannot write its log."""

    name: ClassVar[str] = "kafka-disk-full"
    part: ClassVar[str] = "kafka"
    log: ClassVar[str] = "kafka"


class BrokerDiskFull(_DiskFull):
    """Mosquitto's file system full for five to eight seconds: its memory is not written down."""

    name: ClassVar[str] = "broker-disk-full"
    part: ClassVar[str] = "mosquitto"
    log: ClassVar[str] = "mosquitto"
    complaint: ClassVar[tuple[str, ...]] = ("No space left on device", "Error saving in-memory database")

    async def strike(self, field: Field) -> None:
        """As the others, and killed meanwhile in one of two rounds."""
        if field.chance.random() < 0.5:
            field.hurt |= plain_roles(field)
            field.say("kill -9 mosquitto when its disk is full")
            ballast = await field.do(_fill, field.rig.disk(self.part))
            await field.do(field.rig.kill, "mosquitto")
            await field.pause(3, 5)
            await field.do(ballast.unlink)
            field.say("room again")
            return
        await super().strike(field)


class OutOfMemory(Fault):
    """A worker that gets no more memory than it has (RLIMIT_AS), under load: it must end and come back, not go on half.

    Meanwhile a stranger sends two megabytes at once, so that memory is wanted; all that was acknowledged to it must be
    stored. The limit goes with the process; the one that the supervisor starts in its place has none.
    """

    name: ClassVar[str] = "out-of-memory"
    row: ClassVar[str] = "room"

    def __init__(self) -> None:
        self.burst: Burst | None = None

    async def prepare(self, field: Field) -> None:
        """Register the stranger."""
        self.burst = await Burst.enrol(field)

    async def strike(self, field: Field) -> None:
        """Limit one worker after the other."""
        assert self.burst is not None
        for name in field.chance.sample(("intake", "recorder", "alerting", "analysis"), 2):
            pid = await field.do(field.rig.pid, name)
            if pid is None:
                continue
            field.say(f"no more memory for {name}")
            resource.prlimit(pid, resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
            await self.burst.send(_WANTED_BYTES)
            await field.pause(2, 3)
            if await field.do(field.rig.pid, name) == pid:
                resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                field.say(f"memory for {name} again")
            else:
                field.notes.setdefault("ended for want of memory", []).append(name)

    async def after(self, field: Field) -> None:
        """Nothing of the stranger's is missing."""
        assert self.burst is not None
        await self.burst.account(field, all_kept=True)


def _fill(folder: Path) -> Path:
    """Take all room of a file system; the file that does."""
    ballast = folder / "ballast"
    with ballast.open("wb") as stream:
        free = shutil.disk_usage(folder).free
        try:
            os.posix_fallocate(stream.fileno(), 0, max(1, free))
        except OSError:
            block = b"\0" * 65_536
            try:
                while True:
                    stream.write(block)
                    stream.flush()
            except OSError:
                pass
    return ballast
