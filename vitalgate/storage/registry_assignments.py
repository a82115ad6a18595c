"""Who had a device when: a new statement replaces what it overlaps and leaves the rest."""

from __future__ import annotations

from datetime import datetime

from vitalgate.storage.connect import Connection
from vitalgate.storage.errors import StorageError
from vitalgate.storage.registry_records import Stretch, moved_stretches


def assign(
    connection: Connection, device_id: str, patient_id: str | None, start: datetime, stop: datetime | None
) -> list[Stretch]:
    """Say who has a device in [start, stop) in place of what was said before; the stretches whose patient changes.

    Raises
    ------
    StorageError
        When it ends before it begins.
    """
    if stop is not None and stop <= start:
        raise StorageError(f"the assignment ends at {stop.isoformat()}, not after its start {start.isoformat()}")
    before = connection.execute(
        "DELETE FROM assignments WHERE device_id = %s AND during && tstzrange(%s, %s)"
        " RETURNING patient_id, lower(during), upper(during)",
        (device_id, start, stop),
    ).fetchall()
    pieces: list[tuple[str, datetime, datetime | None]] = []
    for patient, low, high in before:
        if low < start:
            pieces.append((patient, low, start))
        if stop is not None and (high is None or stop < high):
            pieces.append((patient, stop, high))
    if patient_id is not None:
        pieces.append((patient_id, start, stop))
    for patient, low, high in pieces:
        connection.execute(
            "INSERT INTO assignments (device_id, patient_id, during) VALUES (%s, %s, tstzrange(%s, %s))",
            (device_id, patient, low, high),
        )
    return moved_stretches(device_id, patient_id, start, stop, sorted(before, key=lambda row: row[1]))
