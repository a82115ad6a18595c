"""Corrections that came before the reading they correct: kept until it comes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vitalgate.devices.records import Corrects, Message, Reading
from vitalgate.storage.connect import Connection
from vitalgate.storage.deadletters import trace
from vitalgate.storage.measurements import Name
from vitalgate.storage.publics import number
from vitalgate.storage.rows import content_bytes, content_number
from vitalgate.storage.times import micros, moment
from vitalgate.storage.work import Work

Target = tuple[str, str, int, int]
"""(device, epoch, seq, item) of the reading that is corrected."""


@dataclass(frozen=True, slots=True)
class Pending:
    """One kept correction, as a message with one reading again."""

    target: Target
    derived: bool
    """False: the correction is a retraction and this row is where its item is stored. True: its own value is stored."""
    name: Name
    """The measurement that the correcting reading itself is of."""
    message: Message
    reading: Reading
    partition: int
    message_id: str


def of_devices(connection: Connection, devices: Iterable[str]) -> dict[Target, list[Pending]]:
    """What waits for readings of these devices."""
    found: dict[Target, list[Pending]] = {}
    for row in connection.execute(
        """
        SELECT device_id, target_epoch, target_seq, target_item, derived, metric, site, time, idx, epoch, seq, epoch_no,
               ord, item, received_at, skew_s, coalesce(replace(trace::text, '-', ''), ''), message_id, content,
               raw_partition, raw_offset
        FROM pending_corrections WHERE device_id = ANY(%s) ORDER BY epoch_no, ord, item
        """,
        (list(devices),),
    ):
        (device, t_epoch, t_seq, t_item, derived, metric, site, time, idx, epoch, seq, epoch_no, order, item, received,
         skew, trace, message_id, content, partition, offset) = row  # fmt: skip
        target = (device, t_epoch, t_seq, t_item)
        us = micros(time)
        message = Message(
            device,
            "readings",
            offset,
            micros(received),
            trace,
            epoch,
            seq,
            epoch_no,
            order,
            False,
            skew,
            b"",
            content_bytes(content),
        )
        reading = Reading(
            item, metric, site, us, idx, None, None, "", "", "", None, "", us, None,
            corrects=Corrects(t_epoch, t_seq, t_item, retract=True),
        )  # fmt: skip
        found.setdefault(target, []).append(
            Pending(target, derived, (device, metric, site, us, idx), message, reading, partition, message_id)
        )
    return found


def keep(connection: Connection, work: Work, message: Message, r: Reading, derived: bool) -> bool:
    """Keep a correction; False when it is kept already."""
    assert r.corrects is not None
    done = connection.execute(
        """
        INSERT INTO pending_corrections (device_id, target_epoch, target_seq, target_item, derived, metric,
            site, time, idx, epoch, seq, epoch_no, ord, item, received_at, skew_s, trace, message_id, content,
            raw_partition, raw_offset)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT DO NOTHING
        """,
        (
            message.device, r.corrects.epoch or message.epoch, r.corrects.seq, r.corrects.index, derived, r.metric,
            r.site,
            moment(r.time_us), r.index, message.epoch, number(message) or 0, message.epoch_no, message.order, r.item,
            moment(message.received_us), message.skew_s, trace(message),
            work.message_id(message), content_number(message.content_hash), work.applied.partition, message.offset,
        ),
    )  # fmt: skip
    return done.rowcount == 1


def drop(connection: Connection, kept: Pending) -> None:
    """Forget a correction whose target has come."""
    connection.execute(
        "DELETE FROM pending_corrections WHERE device_id = %s AND target_epoch = %s AND target_seq = %s"
        " AND target_item = %s AND epoch_no = %s AND ord = %s AND item = %s",
        (*kept.target, kept.message.epoch_no, kept.message.order, kept.reading.item),
    )
