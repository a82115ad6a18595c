"""Devices that lose their memory: reset, replaced, restored from an old backup of their outbox."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import ClassVar

from vitalgate.torture.fault import Fault, Field, until
from vitalgate.torture.traffic import TortureDevice


def _numbered(field: Field) -> list[TortureDevice]:
    return [device for device in field.traffic.devices.values() if device.file is not None]


async def _drained(device: TortureDevice) -> bool:
    async def empty() -> bool:
        return device.pending == 0

    return await until(empty, 20)


def _open_anew(device: TortureDevice, file: Path) -> None:
    """As a device starts: a new epoch, and what is in the outbox is to be sent."""
    device.outbox.close()
    device.keep_in(file)
    at = 0
    while found := device.outbox.front(at):
        for place, key in found:
            at = place
            if key not in device.tracker:
                device.tracker.add(*key, time.monotonic())


class DeviceReset(Fault):
    """Devices reset: the counter starts over under a new epoch, what was not receipted is still in the outbox."""

    name: ClassVar[str] = "device-reset"
    row: ClassVar[str] = "device"
    seconds: ClassVar[float] = 8.0

    async def strike(self, field: Field) -> None:
        """Each twice, offline in between, so that something waits in the outbox."""
        for device in _numbered(field) * 2:
            field.say(f"reset {device.name}")
            device.cut()
            await field.pause(0.2, 0.8)
            assert device.file is not None
            _open_anew(device, device.file)
            device.connect()


class DeviceReplaced(Fault):
    """A device replaced by another of the same name and password, with an empty outbox and a counter from 1."""

    name: ClassVar[str] = "device-replaced"
    row: ClassVar[str] = "device"

    async def strike(self, field: Field) -> None:
        """When the old one has nothing left to send, as whoever replaces it would see."""
        for device in field.chance.sample(_numbered(field), 2):
            if not await _drained(device):
                field.notes.setdefault("not replaced, for it still had something to send", []).append(device.name)
                continue
            assert device.file is not None
            field.say(f"replace {device.name}")
            device.cut()
            _open_anew(device, device.file.with_suffix(".replaced"))
            device.connect()


class DeviceRestored(Fault):
    """A device whose outbox is put back from an old backup: it sends again what was kept long ago, and numbers anew.

    The old messages are repeats under their old numbers and change nothing; the new ones have an epoch of their own,
    so that none is taken for a repeat.
    """

    name: ClassVar[str] = "device-restored"
    row: ClassVar[str] = "device"
    seconds: ClassVar[float] = 12.0

    async def strike(self, field: Field) -> None:
        """Copy the file while it is full, let it be sent, put the copy back."""
        device = field.chance.choice(_numbered(field))
        assert device.file is not None
        device.cut()
        await field.pause(2, 4)
        backup = device.file.with_suffix(".backup")
        held = len(device.outbox)
        device.outbox.close()
        shutil.copyfile(device.file, backup)
        _open_anew(device, device.file)
        device.connect()
        await _drained(device)
        field.say(f"restore {device.name} from a backup with {held} messages")
        field.notes["messages in the backup"] = held
        device.cut()
        restored = device.file.with_suffix(".restored")
        backup.rename(restored)
        _open_anew(device, restored)
        device.connect()
        await asyncio.sleep(0)
