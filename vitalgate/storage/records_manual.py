"""Readings that a person types in: the same validation, topics and versions as a device's, with who entered them.

They wait in a table, written in the transaction of the audit event; the registrar puts them on device.raw, as from a
device of the patient's own of kind `manual`, and its numbering makes a repeat one and the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg

from vitalgate.devices.catalogue import load
from vitalgate.devices.check import check
from vitalgate.records.catalogue import record_type
from vitalgate.records.errors import Invalid, NotAllowed
from vitalgate.storage.connect import Connection
from vitalgate.storage.records_database import Transaction
from vitalgate.storage.records_read import Record

MOST = 100
"""Readings entered at once."""


def enter(tx: Transaction, values: Mapping[str, Any]) -> Record:
    """Enter readings of a patient.

    Parameters
    ----------
    values
        `patient`, and `readings` as a device sends them: metric, value or code, unit, time, ….

    Returns
    -------
    Record
        Its id is DEVICE/hand/NUMBER, the message as it will be found in `audit_log`; the readings are there as
        DeviceData once the pipeline has stored them, with `enteredBy`.

    Raises
    ------
    Invalid
        For what the pipeline would not accept: each reading is named with the reason.
    NotAllowed
        When the user may not enter data of this patient.
    """
    kind = record_type("device_data")
    readings = values["readings"]
    _check(readings)
    try:
        row = tx.execute(
            "SELECT device, number FROM enter_by_hand(%s, %s)", (values["patient"], orjson.dumps(readings).decode())
        ).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotAllowed(
            "you may not enter data of this patient", action="device_data.create", record="device_data",
            patient=values["patient"],
        ) from error  # fmt: skip
    assert row is not None
    device, number = row
    return Record(
        kind,
        {
            "id": f"{device}/hand/{number}", "patient": values["patient"], "device": device, "device_type": "manual",
            "version": 1, "entered_by": tx.who, "readings": readings,
        },
    )  # fmt: skip


def _check(readings: Sequence[Any]) -> None:
    if not 1 <= len(readings) <= MOST:
        raise Invalid(f"{len(readings)} readings at once; 1 to {MOST} can be entered", [("readings", "too many")])
    payload = orjson.dumps({"epoch": "hand", "seq": 1, "readings": readings})
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    wrong = [
        (f"readings.{finding.item}" if finding.item is not None else "readings", f"{finding.text} [{finding.reason}]")
        for finding in check(payload, "readings", "manual", received_us=now_us, kinds=load())
        if finding.level == "wrong"
    ]
    if wrong:
        raise Invalid("; ".join(f"{where}: {what}" for where, what in wrong), wrong)


@dataclass(frozen=True)
class Typed:
    """One message on its way to device.raw."""

    n: int
    device: str
    payload: bytes
    entered_at: datetime


def waiting(connection: Connection, limit: int = 200) -> list[Typed]:
    """Messages whose device the topics know already, oldest first. The connection is the owner's."""
    rows = connection.execute(
        "SELECT n, device_id, payload, entered_at FROM manual_entries m WHERE sent_at IS NULL"
        " AND NOT EXISTS (SELECT FROM registry_outbox o WHERE o.key = m.device_id AND o.applied_at IS NULL)"
        " ORDER BY n LIMIT %s",
        (limit,),
    ).fetchall()
    return [Typed(n, device, bytes(payload), entered_at) for n, device, payload, entered_at in rows]


def mark_sent(connection: Connection, numbers: Sequence[int]) -> None:
    """Kafka has these."""
    connection.execute("UPDATE manual_entries SET sent_at = now() WHERE n = ANY(%s)", (list(numbers),))
