"""Gateways and workers added and taken away under load; old beside new; a migration meanwhile."""

from __future__ import annotations

from typing import ClassVar

import psycopg

from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.rig import Rig
from vitalgate.torture.shape import Shape

_TWO = Shape(copies="gateway=2,intake=2,recorder=2")


class Scale(Fault):
    """Second gateways and workers taken away and added again under load, in any order."""

    name: ClassVar[str] = "scale"
    row: ClassVar[str] = "scale"
    shape: ClassVar[Shape] = _TWO
    seconds: ClassVar[float] = 16.0

    async def strike(self, field: Field) -> None:
        """Away one after the other, back in another order."""
        names = ["gateway-1", "intake-1", "recorder-1"]
        field.chance.shuffle(names)
        for name in names:
            field.say(f"stop {name}")
            await field.do(field.rig.stop_one, name)
            await field.pause(0.3, 2)
        field.chance.shuffle(names)
        for name in names:
            field.say(f"start {name}")
            await field.do(field.rig.start_one, name)
            await field.pause(0.3, 2)


class Upgrade(Fault):
    """A rolling restart, old beside new, while a migration adds a column to the tables that are written to.

    Old and new are of one release here: what is tried is that each takes over from the other in the middle of the
    traffic, and that a schema change of the kind allowed (additive) under load stops nobody for long.
    """

    name: ClassVar[str] = "upgrade"
    row: ClassVar[str] = "upgrade"
    shape: ClassVar[Shape] = _TWO
    seconds: ClassVar[float] = 16.0

    async def strike(self, field: Field) -> None:
        """Stop the old, migrate, start the new, one process after the other."""
        field.say("migration: a column more")
        await field.do(_migrate, field.rig)
        for name in ("recorder", "recorder-1", "intake", "intake-1", "gateway", "gateway-1", "alerting", "analysis"):
            field.say(f"restart {name}")
            await field.do(field.rig.stop_one, name)
            await field.do(field.rig.start_one, name)
            await field.pause(0, 0.5)


def _migrate(rig: Rig) -> None:
    database = rig.settings.database
    with psycopg.connect(
        database.dsn, autocommit=True, options=f"-c search_path={database.db_schema}_data -c lock_timeout=20s"
    ) as connection:
        for table in ("readings", "waveforms", "features", "ledger"):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS torture_note text")
