"""A thundering herd: a thousand devices offline, then back at the same moment."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

import psycopg

from vitalgate.devices.codec import encode_json
from vitalgate.devices.times import text as rfc3339
from vitalgate.simulators.cast import Cast, Player, Prop
from vitalgate.simulators.connection import Connection
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.scenario import DeviceOf
from vitalgate.torture.fault import Fault, Field

_DEVICES, _EACH = 1000, 24
_DAY_S = 86_400


class Herd(Fault):
    """1,000 devices back at once after a day offline, each with a day's 24 readings in its outbox.

    Lost 0; meanwhile the live devices' alerts must not wait: the time from a reading's arrival to its alert is told.
    """

    name: ClassVar[str] = "herd"
    row: ClassVar[str] = "herd"
    alone: ClassVar[bool] = True
    weight: ClassVar[float] = 0.5
    seconds: ClassVar[float] = 18.0

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}
        self.begin = 0.0

    async def prepare(self, field: Field) -> None:
        """Register them."""
        assert field.registry is not None
        given = DeviceOf.model_validate({"kind": "pulse-oximeter"})
        word = f"{field.traffic.prefix}-herd"
        players = [Player(f"{word}-{n}", "herd", n, "care", "Etc/UTC", Person(0)) for n in range(_DEVICES)]
        props = [Prop(f"{player.patient}-ox", "ox", "pulse-oximeter", player, given) for player in players]
        self.passwords = {}
        for first in range(0, _DEVICES, 250):
            few = Cast(tuple(players[first : first + 250]), tuple(props[first : first + 250]))
            self.passwords |= await field.do(field.registry.enrol, few, time.time() - 2 * _DAY_S)

    async def strike(self, field: Field) -> None:
        """All connect and send at the same moment, and send again what is not receipted."""
        from vitalgate.simulators.fleet import allow_files

        allow_files(_DEVICES)
        self.begin = time.time()
        field.say(f"{_DEVICES} devices with {_DEVICES * _EACH} readings of a day are back")
        done = await asyncio.gather(*(self._one(field, *pair) for pair in self.passwords.items()))
        field.say(f"all sent, {sum(done)} connections were needed")

    async def _one(self, field: Field, device: str, password: str) -> int:
        left = {seq: self._payload(seq) for seq in range(1, _EACH + 1)}
        connects = 0
        give_up = time.monotonic() + 60
        while left and time.monotonic() < give_up:
            connects += 1
            up, gone = asyncio.Event(), asyncio.Event()
            numbers: dict[int, int] = {}

            def acked(mid: int, numbers: dict[int, int] = numbers) -> None:
                left.pop(numbers.get(mid, 0), None)

            def changed(there: bool, up: asyncio.Event = up, gone: asyncio.Event = gone) -> None:
                (up if there else gone).set()

            connection = Connection(
                "127.0.0.1", field.rig.device_port, device, password, on_message=lambda *_: None, on_change=changed,
                on_puback=acked,
            )  # fmt: skip
            try:
                connection.open()
                await asyncio.wait_for(up.wait(), 10)
                for seq, payload in list(left.items()):
                    mid = connection.publish(f"v1/devices/{device}/readings", payload)
                    if mid is not None:
                        numbers[mid] = seq
                until = time.monotonic() + 15
                while left and not gone.is_set() and time.monotonic() < until:
                    await asyncio.sleep(0.05)
            except (OSError, TimeoutError):
                await asyncio.sleep(0.5)
            finally:
                connection.close()
        return connects

    def _payload(self, seq: int) -> bytes:
        at = rfc3339(round((self.begin - _DAY_S + seq * 3600 - 7200) * 1e6))
        reading = {"metric": "spo2", "value": 96 + seq % 3, "unit": "%", "time": at}
        return encode_json({"epoch": "day", "seq": seq, "readings": [reading]})

    async def after(self, field: Field) -> None:
        """Every reading is there once, and alerts of the live devices came in time."""
        stored, late = await field.do(self._rows, field)
        give_up = time.monotonic() + 60
        while stored != _DEVICES * _EACH and time.monotonic() < give_up:
            await asyncio.sleep(1)
            stored, late = await field.do(self._rows, field)
        if stored != _DEVICES * _EACH:
            field.faults.append(f"of {_DEVICES * _EACH} readings of the herd {stored} are stored")
        field.notes["slowest alert of a live device during the herd, s"] = late

    def _rows(self, field: Field) -> tuple[int, float | None]:
        database = field.rig.settings.database
        with psycopg.connect(database.dsn, options=f"-c search_path={database.db_schema}_data") as connection:
            row = connection.execute(
                "SELECT count(*) FROM readings WHERE device_id = ANY(%s)", (list(self.passwords),)
            ).fetchone()
            late = connection.execute(
                "SELECT max(extract(epoch FROM detected_at - received_at))::float8 FROM alert_events"
                " WHERE patient_id = ANY(%s) AND state = 'raised' AND NOT hindsight"
                " AND detected_at >= to_timestamp(%s)",
                (list(field.traffic.patients()), self.begin),
            ).fetchone()
        assert row is not None and late is not None
        return int(row[0]), None if late[0] is None else round(float(late[0]), 2)
