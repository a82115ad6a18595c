"""ECG reports by the signal engine, and measurements over time as a series."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from vitalgate.records.ecg_engine import fields
from vitalgate.storage.records_audit import audit
from vitalgate.storage.records_database import Transaction
from vitalgate.storage.records_read import Record
from vitalgate.storage.records_write import create, transition

MEASURED = ("rate", "pr", "qrs", "qt", "qtc", "burden")


def from_engine(
    tx: Transaction, patient: str, document: Mapping[str, Any], *, ordered_by: str | None = None,
    files: list[dict[str, Any]] | None = None,
) -> Record:  # fmt: skip
    """A preliminary report of what the signal engine found; a clinician finalises it.

    Parameters
    ----------
    document
        As `vitalgate report ecg --json` writes it.
    files
        References to stored files, such as the page as PDF.

    Raises
    ------
    Invalid
        When it is no such document.
    NotAllowed
        When the user may not make reports of this patient.
    """
    given = {"patient": patient, **fields(document), "orderedBy": ordered_by, "reportData": files or []}
    made = create(tx, "ecg_report", given)
    return transition(tx, "ecg_report", made.id, "issue", version=made.version)


def measurements(tx: Transaction, patient: str, start: datetime, stop: datetime) -> list[dict[str, Any]]:
    """What was measured, over time: rate, PR, QRS, QT and QTc of the reports, and the burden of fibrillation.

    Of each report its current version, unless it is a draft, cancelled or withdrawn; of burdens each day's last window.
    In order of time: `time`, the measurements there are, and `report` or `device` that they are from.
    """
    rows = tx.execute(
        "SELECT coalesce(recorded_at, reported_at, created_at) AS at, id, result_data FROM ecg_reports"
        " WHERE patient_id = %(patient)s AND status IN ('preliminary', 'final', 'amended') AND withdrawn_at IS NULL"
        " AND result_data IS NOT NULL AND coalesce(recorded_at, reported_at, created_at) >= %(start)s"
        " AND coalesce(recorded_at, reported_at, created_at) < %(stop)s",
        {"patient": patient, "start": start, "stop": stop},
    ).fetchall()
    found: list[dict[str, Any]] = [
        {"time": at, "report": identity} | {name: result[name] for name in MEASURED if result.get(name) is not None}
        for at, identity, result in rows
    ]
    burdens = tx.execute(
        "SELECT DISTINCT ON (date_trunc('day', end_time), device_id) end_time, device_id, value FROM features"
        " WHERE patient_id = %(patient)s AND name = 'af.burden' AND value IS NOT NULL AND time >= %(start)s"
        " AND time < %(stop)s ORDER BY date_trunc('day', end_time), device_id, end_time DESC",
        {"patient": patient, "start": start, "stop": stop},
    ).fetchall()
    found += [{"time": at, "device": device, "burden": value} for at, device, value in burdens]
    if tx.actor is not None:
        detail = {"what": "measurements", "count": len(found), "via": tx.actor.via}
        audit(tx, "ecg_report.read", "ecg_report", "", patient=patient, detail=detail)
    return sorted(found, key=lambda one: one["time"])
