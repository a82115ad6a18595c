"""Fill a session of cardiac rehabilitation from the ergometer and the ECG that were worn during it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from vitalgate.records.errors import Conflict
from vitalgate.records.rehab import RECOVERY, Series, summary
from vitalgate.storage.records_audit import audit
from vitalgate.storage.records_database import Transaction
from vitalgate.storage.records_read import Record, get
from vitalgate.storage.records_write import transition

#: From the ECG, a value every ten seconds; and as the ergometer says it.
_RATE = "heart_rate"
_ERGOMETER = "exercise_heart_rate"


def measured(
    tx: Transaction, patient: str, start: datetime, stop: datetime, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    """SessionDetails of what was measured in [start, stop), by their outside names; nothing measured, nothing told.

    The heart rate is that of the source which covers more of the session: the ECG's where both do.
    """
    until = stop + RECOVERY + timedelta(seconds=1)
    ecg, by_ecg = _series(
        tx, "SELECT time, value, device_id FROM features WHERE patient_id = %s AND name = %s AND value IS NOT NULL"
        " AND time >= %s AND time < %s ORDER BY time", (patient, _RATE, start, until),
    )  # fmt: skip
    told, by_ergometer = _metric(tx, patient, _ERGOMETER, start, until)
    power, by_power = _metric(tx, patient, "power", start, stop)
    energy, _ = _metric(tx, patient, "energy", start, until)
    first, second = summary(ecg, power, start, stop, low, high), summary(told, power, start, stop, low, high)
    better, devices = (second, by_ergometer)
    if first.get("coverage", 0.0) >= second.get("coverage", 0.0):
        better, devices = (first, by_ecg)
    if not better and not energy:
        return {}
    if energy:
        better["energyKcal"] = round(max(value for _, value in energy) - _before(energy), 1)
    better["devices"] = sorted(devices | by_power)
    audit(tx, "device_data.read", "device_data", "", patient=patient, detail={"what": "rehabilitation session"})
    return better


def fill(tx: Transaction, identity: str, *, minutes: float | None = None, version: int | None = None) -> Record:
    """Complete a session (or correct a completed one) with what was measured during it.

    Parameters
    ----------
    minutes
        How long it lasted; as planned when left out.

    Raises
    ------
    Conflict
        When nothing was measured, or no duration is known.
    NotFound, NotAllowed, Changed
        As `records_write.transition`.
    """
    record = get(tx, "cardiac_rehab_log", identity)
    lasting = minutes if minutes is not None else record.values["duration"]
    if not lasting:
        raise Conflict("say how long the session lasted; it was planned without a duration")
    start = record.values["date"]
    before = record.values["session_details"] or {}
    found = measured(
        tx, str(record.values["patient"]), start, start + timedelta(minutes=lasting), before.get("targetLow"),
        before.get("targetHigh"),
    )  # fmt: skip
    if not found:
        raise Conflict("nothing was measured during this session: no ergometer and no ECG of this patient had data")
    kept = {name: before[name] for name in ("targetLow", "targetHigh", "note") if before.get(name) is not None}
    given: dict[str, Any] = {"duration": lasting, "sessionDetails": {**kept, **found}}
    if "energyKcal" in found:
        given["caloriesBurned"] = found["energyKcal"]
    verb = "change" if record.values["status"] == "completed" else "complete"
    return transition(tx, "cardiac_rehab_log", identity, verb, given, version=version)


def _metric(tx: Transaction, patient: str, metric: str, start: datetime, stop: datetime) -> tuple[Series, set[str]]:
    return _series(
        tx, "SELECT time, value, device_id FROM device_data WHERE patient_id = %s AND metric = %s AND value IS NOT NULL"
        " AND time >= %s AND time < %s AND current AND NOT retracted ORDER BY time", (patient, metric, start, stop),
    )  # fmt: skip


def _series(tx: Transaction, text: str, values: tuple[Any, ...]) -> tuple[Series, set[str]]:
    rows = tx.execute(text, values).fetchall()
    return [(time, float(value)) for time, value, _ in rows], {device for _, _, device in rows}


def _before(energy: Series) -> float:
    """The counter at the first reading of the session, which began at nothing unless it counts on."""
    first = energy[0][1]
    return first if len(energy) > 1 else 0.0
