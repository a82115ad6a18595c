"""The table of device statuses: births, last wills, periodic reports."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from vitalgate.devices.records import Status
from vitalgate.storage import binary, rows
from vitalgate.storage.connect import Connection

if TYPE_CHECKING:
    from vitalgate.storage.work import Work


def digest(status: Status) -> bytes:
    """What the status says, as eight bytes; the same status at the same time is a duplicate."""
    fields = (
        status.state,
        status.time_us,
        status.battery,
        status.firmware,
        status.serial,
        sorted((status.detail or {}).items()),
    )
    return hashlib.blake2b(msgspec.msgpack.encode(fields), digest_size=8).digest()


def write(connection: Connection, work: Work) -> None:
    """Insert the statuses of a batch."""
    encoded = [
        rows.status(work.origin(message), message.status, digest(message.status))
        for message in work.messages
        if message.status is not None
    ]
    if not encoded:
        return
    cursor = connection.cursor()
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS status_in (LIKE device_status); TRUNCATE status_in")
    with cursor.copy(f"COPY status_in ({rows.STATUS_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(binary.HEADER + b"".join(encoded) + binary.TRAILER)
    cursor.execute(
        f"INSERT INTO device_status ({rows.STATUS_COLUMNS})"  # noqa: S608  constants only
        f" SELECT {rows.STATUS_COLUMNS} FROM status_in ON CONFLICT DO NOTHING"
    )
    work.applied.stored += cursor.rowcount
    work.applied.duplicate += len(encoded) - cursor.rowcount
