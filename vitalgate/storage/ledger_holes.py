"""Offsets that never reached the recorder: kept as ranges until they come, or for ever."""

from __future__ import annotations

from vitalgate.storage.connect import Connection


def fill(connection: Connection, topic: str, partition: int, first: int, last: int) -> None:
    """Take [first, last] out of the hole that holds it."""
    row = connection.execute(
        "DELETE FROM ledger_holes WHERE topic = %s AND partition = %s AND first_offset <= %s AND last_offset >= %s"
        " RETURNING first_offset, last_offset, found_at",
        (topic, partition, first, last),
    ).fetchone()
    if row is None:
        return
    for start, stop in ((row[0], first - 1), (last + 1, row[1])):
        if start <= stop:
            connection.execute(
                "INSERT INTO ledger_holes (topic, partition, first_offset, last_offset, found_at)"
                " VALUES (%s, %s, %s, %s, %s)",
                (topic, partition, start, stop, row[2]),
            )
