"""Devices and clinicians are users of one broker: a name belongs to one of them only."""

from __future__ import annotations

from collections.abc import Sequence

from vitalgate.storage.connect import Connection
from vitalgate.storage.errors import StorageError


def check_names_free(connection: Connection, devices: Sequence[str]) -> None:
    """Refuse a device that would be named as a clinician is, past ones included. Raises StorageError."""
    row = connection.execute(
        "SELECT clinician_id FROM clinicians WHERE clinician_id = ANY(%s) LIMIT 1", (list(devices),)
    ).fetchone()
    if row is not None:
        raise StorageError(f"{row[0]!r} is the user name of a clinician; give the device another id")


def check_name_free(connection: Connection, clinician: str) -> None:
    """The other way round. Raises StorageError."""
    if connection.execute("SELECT FROM devices WHERE device_id = %s", (clinician,)).rowcount:
        raise StorageError(f"{clinician!r} is the user name of a device; give the clinician another one")
