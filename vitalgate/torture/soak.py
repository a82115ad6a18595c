"""A soak: a steady rate for long, and the slope of every process's memory after warm-up."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg

from vitalgate.config.settings import Settings
from vitalgate.config.topics import device_topic
from vitalgate.devices.codec import encode_json
from vitalgate.devices.times import text as rfc3339
from vitalgate.simulators.cast import Cast, Player, Prop, Registry, new_prefix
from vitalgate.simulators.connection import Connection
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.scenario import DeviceOf
from vitalgate.torture.reliability import machine
from vitalgate.torture.rig import Rig

_DEVICES = 100
_SAMPLE_EVERY_S = 5.0
_TURN_S = 0.02
#: Share of the time that does not count: caches fill, heaps grow to their size.
WARM_UP = 1 / 3
_MIB = 2**20
#: Messages of one device that the broker may not have acknowledged yet; beyond, the device waits.
_UNACKED = 200


@dataclass
class Soak:
    """What a soak showed."""

    minutes: float
    asked: int
    """Messages a second that were to be sent."""
    sent: int = 0
    lost: int = 0
    """Messages acknowledged by the broker that are in no row when all is quiet."""
    processes: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Name to (MiB resident at the end, MiB an hour after warm-up)."""
    restarts: dict[str, int] = field(default_factory=dict)
    """Processes that were started more than once."""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "minutes": self.minutes, "asked": self.asked, "sent": self.sent, "lost": self.lost,
            "processes": self.processes, "restarts": self.restarts, "machine": machine(),
            "date": datetime.now(UTC).date().isoformat(),
        }  # fmt: skip


def slope(times_s: Sequence[float], values: Sequence[float]) -> float:
    """Least-squares slope per hour; 0 of fewer than three points."""
    if len(times_s) < 3:
        return 0.0
    return float(np.polyfit(np.asarray(times_s) / 3600, values, 1)[0])


def soak(
    minutes: float, rate: int, registry: Callable[[Settings], Registry], say: Callable[[str], None]
) -> Soak:  # fmt: skip
    """Run one on a system of its own. Raises StackError when that does not start."""
    folder = Path(tempfile.mkdtemp(prefix="vitalgate-soak-"))
    folder.chmod(0o711)
    rig = Rig(folder / "rig")
    try:
        say("starting a system")
        rig.start()
        return asyncio.run(_soak(rig, registry(rig.settings), minutes, rate, say))
    finally:
        rig.stop()
        with contextlib.suppress(OSError):
            folder.rmdir()


async def _soak(rig: Rig, registry: Registry, minutes: float, rate: int, say: Callable[[str], None]) -> Soak:
    result = Soak(minutes, rate)
    prefix = new_prefix("soak")
    given = DeviceOf.model_validate({"kind": "pulse-oximeter"})
    players = [Player(f"{prefix}-{n}", "soak", n, "care", "Etc/UTC", Person(0)) for n in range(_DEVICES)]
    props = [Prop(f"{player.patient}-ox", "ox", "pulse-oximeter", player, given) for player in players]
    passwords = await asyncio.to_thread(registry.enrol, Cast(tuple(players), tuple(props)), time.time() - 600)
    devices = [_Device(name, password, rig.device_port) for name, password in passwords.items()]
    for device in devices:
        device.connection.open()
    await asyncio.sleep(2)
    say(f"{rate} messages/s from {len(devices)} devices for {minutes:g} minutes")
    began = time.monotonic()
    watching = asyncio.create_task(_watch(rig, began, minutes * 60, say, devices))
    await _send(devices, rate, began, minutes * 60)
    memory = await watching
    result.sent = sum(device.sent for device in devices)
    give_up = time.monotonic() + 120
    acked = set()
    while time.monotonic() < give_up:
        await asyncio.sleep(1)
        acked = {(device.name, seq) for device in devices for seq in device.acked}
        result.lost = await asyncio.to_thread(_missing, rig, acked, list(passwords))
        if len(acked) == result.sent and not result.lost:
            break
    for device in devices:
        device.connection.close()
    result.processes = memory
    status = await asyncio.to_thread(rig.status)
    result.restarts = {name: one["restarts"] for name, one in status.items() if one["restarts"]}
    return result


class _Device:
    """Plain QoS 1 with numbers; waits when the broker does not keep up."""

    def __init__(self, name: str, password: str, port: int) -> None:
        self.name = name
        self.sent = 0
        self.acked: set[int] = set()
        self._numbers: dict[int, int] = {}
        self.connection = Connection(
            "127.0.0.1", port, name, password, on_message=lambda *_: None, on_change=lambda _: None,
            on_puback=self._acknowledged,
        )  # fmt: skip

    def _acknowledged(self, mid: int) -> None:
        seq = self._numbers.pop(mid, None)
        if seq is not None:
            self.acked.add(seq)

    def send(self) -> bool:
        """One message of three readings; False when the broker is behind."""
        if len(self._numbers) >= _UNACKED:
            return False
        now = rfc3339(time.time_ns() // 1000)
        seq = self.sent + 1
        readings = [
            {"metric": metric, "value": value, "unit": unit, "time": now}
            for metric, value, unit in (("spo2", 95 + seq % 4, "%"), ("pulse_rate", 70 + seq % 9, "/min"))
        ]
        payload = encode_json({"epoch": "soak", "seq": seq, "readings": readings})
        mid = self.connection.publish(device_topic(self.name, "readings"), payload)
        if mid is None:
            return False
        self._numbers[mid] = seq
        self.sent = seq
        return True


async def _send(devices: Sequence[_Device], rate: int, began: float, seconds: float) -> None:
    turn = given = 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * rate) - given
        for _ in range(min(due, int(rate * _TURN_S * 5) + 1)):
            turn += 1
            devices[turn % len(devices)].send()
        given += due  # what could not be sent in its second is not caught up: the rate is a rate
        await asyncio.sleep(_TURN_S)


async def _watch(
    rig: Rig, began: float, seconds: float, say: Callable[[str], None], devices: Sequence[_Device]
) -> dict[str, tuple[float, float]]:
    points: dict[str, list[tuple[float, float]]] = {}
    told = began
    pids: Mapping[str, int | None] = {}
    while (passed := time.monotonic() - began) < seconds:
        if int(passed / _SAMPLE_EVERY_S) % 6 == 0 or not pids:
            pids = {name: one["pid"] for name, one in (await asyncio.to_thread(rig.status)).items()}
        for name, pid in pids.items():
            with contextlib.suppress(psutil.Error):
                if pid is not None:
                    points.setdefault(name, []).append((passed, _resident(pid)))
        if time.monotonic() - told > 30:
            told = time.monotonic()
            whole = sum(own[-1][1] for own in points.values())
            say(f"  {passed / 60:5.1f} min  {sum(d.sent for d in devices):,} sent  {whole:,.0f} MiB in all")
        await asyncio.sleep(_SAMPLE_EVERY_S)
    warm = seconds * WARM_UP
    return {
        name: (own[-1][1], slope([at for at, _ in own if at >= warm], [value for at, value in own if at >= warm]))
        for name, own in points.items()
    }


def _resident(pid: int) -> float:
    """MiB that a process and its children hold of their own (proportional share where memory is shared)."""
    process = psutil.Process(pid)
    whole = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            whole += getattr(one.memory_full_info(), "pss", one.memory_info().rss) / _MIB
    return whole


def _missing(rig: Rig, acked: set[tuple[str, int]], names: list[str]) -> int:
    database = rig.settings.database
    with psycopg.connect(database.dsn, options=f"-c search_path={database.db_schema}_data") as connection:
        rows = connection.execute(
            "SELECT device_id, seq FROM readings WHERE metric = 'spo2' AND device_id = ANY(%s)", (names,)
        ).fetchall()
    return len(acked - {(name, seq) for name, seq in rows})
