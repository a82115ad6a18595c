"""Records at the real pipeline: what is typed in comes back versioned, and everybody's doing is in the chain."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import TypeVar

from tests.storage.records_cast import patient, user
from vitalgate.local.stack import Stack
from vitalgate.pki.keyring import new_ring
from vitalgate.records.permissions import Role
from vitalgate.storage import records_changes
from vitalgate.storage.records_database import Actor, RecordsDatabase
from vitalgate.storage.records_read import Query, find, versions
from vitalgate.storage.records_readings import latest
from vitalgate.storage.records_write import create

PATIENCE_S = 60.0
T = TypeVar("T")


def _wait(ask: Callable[[], T | None]) -> T:
    give_up = time.monotonic() + PATIENCE_S
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < give_up, f"nothing came within {PATIENCE_S:g} s"
        time.sleep(0.2)


def test_readings_by_hand_and_the_trail(stack: Stack) -> None:
    mark = secrets.token_hex(4)
    who, name = f"typed-{mark}", f"dr-{mark}"
    settings = stack.settings.settings
    with RecordsDatabase(settings.database, new_ring(date(2026, 1, 1)), most=3, application="test") as db:
        with db.service("user:tester") as tx:
            patient(tx, who)
            doctor = Actor(user(tx, Role.CLINICIAN, clinician=name, email=f"{name}@example.org"), Role.CLINICIAN)
            own = Actor(user(tx, Role.PATIENT, patient=who, email=f"{who}@example.org"), Role.PATIENT)
            create(tx, "care_team", {"patient": who, "clinician": name})
        now = datetime.now(UTC).isoformat()
        for value in (81.2, 80.2):
            with db.acting(doctor) as tx:
                create(tx, "device_data", {"patient": who, "readings": [
                    {"metric": "weight", "value": value, "unit": "kg", "time": now}]})  # fmt: skip

        def corrected() -> str | None:
            with db.acting(doctor) as tx:
                found = find(tx, "device_data", Query({"patient": who, "current": True})).records
            return found[0].id if found and found[0].version == 2 else None

        identity = _wait(corrected)
        with db.acting(own) as tx:
            told = versions(tx, "device_data", identity)
            assert [(one.version, one.values["data_payload"]["value"]) for one in told] == [(1, 81.2), (2, 80.2)]
            assert {one.values["entered_by"] for one in told} == {doctor.user_id}
            assert told[0].values["device_type"] == "manual"
            assert latest(tx, who)[0]["dataPayload"]["value"] == 80.2
        records_changes.number(db)
        changes = [one for one in records_changes.read(db, 0, 100_000) if one.patient == who]
        stored = [one for one in changes if one.record == "device_data"]
        assert stored
        assert records_changes.deliver(db, stored, [own, doctor]) == {one.position: [0, 1] for one in stored}

        def chained() -> bool:
            with db.acting(own) as tx:
                log = find(tx, "audit_log", Query({"patient": who, "action": "device_data.create"})).records
            return len(log) == 2 and all(one.values["n"] and one.values["hash"] for one in log)

        _wait(chained)
        with db.acting(own) as tx:
            log = find(tx, "audit_log", Query({"patient": who, "actor": f"user:{doctor.user_id}"})).records
        assert {one.values["actor_name"] for one in log} == {name.title()}
        assert "device_data.read" in {one.values["action"] for one in log}
