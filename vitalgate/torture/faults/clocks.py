"""Clocks that are wrong: the devices', and ours."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import psycopg

from vitalgate.devices.codec import encode_json
from vitalgate.devices.times import text as rfc3339
from vitalgate.simulators.cast import Cast, Player, Prop
from vitalgate.simulators.connection import Connection
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.scenario import DeviceOf
from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.shape import Shape

_CLOCKS: dict[str, float] = {
    "ahead": 3 * 3600.0,
    "behind": -2 * 3600.0,
    "zone": 0.0,
    "epoch": -time.time(),
    "jumps": 0.0,
}
_COUNT = 10


class WrongClocks(Fault):
    """Devices whose clocks are three hours ahead, two behind, at 1970, jumping by an hour, or in another time zone.

    Each says when it sends. The event time must be right to two seconds in the table, with the time as sent and the
    skew beside it; what cannot be explained must be dead-lettered as `time_unexplained`, and nothing be nowhere.
    """

    name: ClassVar[str] = "wrong-clocks"
    row: ClassVar[str] = "clock"
    seconds: ClassVar[float] = 10.0

    def __init__(self) -> None:
        self.sent: dict[str, list[float]] = {}
        self.passwords: dict[str, str] = {}

    async def prepare(self, field: Field) -> None:
        """Register a device for each clock."""
        assert field.registry is not None
        given = DeviceOf.model_validate({"kind": "pulse-oximeter"})
        players = [Player(f"{field.traffic.prefix}-{c}", c, 1, "care", "Etc/UTC", Person(0)) for c in _CLOCKS]
        props = [Prop(f"{player.patient}-ox", "ox", "pulse-oximeter", player, given) for player in players]
        members = Cast(tuple(players), tuple(props))
        # Devices at the epoch may have been somebody's then.
        self.passwords = dict(await field.do(field.registry.enrol, members, time.time() - 86_400))
        self.sent = {}

    async def strike(self, field: Field) -> None:
        """Ten readings from each, one a second in three."""
        field.say("clocks " + ", ".join(_CLOCKS))
        await asyncio.gather(*(self._send(field, clock, off) for clock, off in _CLOCKS.items()))

    async def _send(self, field: Field, clock: str, off: float) -> None:
        device = f"{field.traffic.prefix}-{clock}-ox"
        up = asyncio.Event()
        acked: set[int] = set()
        connection = Connection(
            "127.0.0.1", field.rig.device_port, device, self.passwords[device], on_message=lambda *_: None,
            on_change=lambda there: up.set() if there else up.clear(), on_puback=acked.add,
        )  # fmt: skip
        connection.open()
        await asyncio.wait_for(up.wait(), 15)
        made = self.sent.setdefault(clock, [])
        for number in range(1, _COUNT + 1):
            now = time.time()
            shown = now + off + (3600 * (number > _COUNT // 2) if clock == "jumps" else 0)
            made.append(now)
            text = rfc3339(round(shown * 1e6))
            if clock == "zone":
                text = rfc3339(round((shown + 9 * 3600) * 1e6)).replace("Z", "") + "+09:00"
            reading: dict[str, Any] = {"metric": "spo2", "value": 97, "unit": "%", "time": text}
            document = {"epoch": clock, "seq": number, "sent_at": text, "readings": [reading]}
            connection.publish(f"v1/devices/{device}/readings", encode_json(document))
            await asyncio.sleep(0.3)
        give_up = time.monotonic() + 10
        while len(acked) < _COUNT and time.monotonic() < give_up:
            await asyncio.sleep(0.1)
        connection.close()

    async def after(self, field: Field) -> None:
        """Every reading in the table at the right time, or dead-lettered with the reason."""
        rows = await field.do(self._rows, field)
        for clock, made in self.sent.items():
            stored, dead = rows[clock]
            if len(stored) + sum(dead.values()) < len(made):
                field.faults.append(f"clock {clock}: {len(made)} sent, {len(stored)} stored and {dead} dead-lettered")
            if set(dead) - {"time_unexplained"}:
                field.faults.append(f"clock {clock}: dead-lettered as {dead}")
            wrong = [at for seq, at, _ in stored if abs(at - made[seq - 1]) > 2]
            if wrong and clock != "jumps":  # in a jump the estimate needs some messages to follow
                field.faults.append(f"clock {clock}: {len(wrong)} event times are off by more than 2 s")
            field.notes[f"clock {clock}: stored, dead-lettered, skews"] = [
                len(stored), sum(dead.values()), sorted({skew for *_, skew in stored}),
            ]  # fmt: skip

    def _rows(self, field: Field) -> dict[str, tuple[list[tuple[int, float, int]], dict[str, int]]]:
        database = field.rig.settings.database
        found: dict[str, tuple[list[tuple[int, float, int]], dict[str, int]]] = {}
        with psycopg.connect(database.dsn, options=f"-c search_path={database.db_schema}_data") as connection:
            for clock in self.sent:
                device = f"{field.traffic.prefix}-{clock}-ox"
                stored = connection.execute(
                    "SELECT seq, extract(epoch FROM time)::float8, skew_s FROM readings WHERE device_id = %s"
                    " AND metric = 'spo2'", (device,),
                ).fetchall()  # fmt: skip
                dead = connection.execute(
                    "SELECT reason, count(*)::int FROM dead_letters WHERE device_id = %s GROUP BY reason", (device,)
                ).fetchall()
                found[clock] = (stored, dict(dead))
        return found


class ServerClockSteps(Fault):
    """The wall clock of all our processes set hours ahead and back again, then seconds behind, while devices are right.

    As when somebody sets a server's clock, or a virtual machine wakes up. Readings must bear the same times, alerts the
    same onsets; timeouts, sessions and resending must neither stand still nor run out. A clock further behind than
    `intake.skew_tolerance_s` makes what comes look as if it came from the future, and is refused with that reason: that
    is not tried here, since refused is not the same.
    """

    name: ClassVar[str] = "server-clock-steps"
    row: ClassVar[str] = "clock"
    shape: ClassVar[Shape] = Shape(stepped_clock=True)
    seconds: ClassVar[float] = 16.0

    async def strike(self, field: Field) -> None:
        """Ahead, back, behind, back."""
        steps = (field.chance.uniform(0.5, 5) * 3600, 0.0, -field.chance.uniform(2, 20), 0.0)
        try:
            for step in steps:
                field.say(f"the clock of our processes: {step:+.0f} s")
                await field.do(field.rig.clock.set, step)
                await field.pause(2, 4)
        finally:
            await field.do(field.rig.clock.set, 0.0)
