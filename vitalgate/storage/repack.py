"""Waveform rows at rest: contiguous blocks of a recording joined into long rows, and taken apart again when need be."""

from __future__ import annotations

from datetime import datetime

from vitalgate.storage import blocks
from vitalgate.storage.connect import Connection
from vitalgate.storage.packing import pack, unpack
from vitalgate.storage.publics import moment

_TAKE = """
    DELETE FROM waveforms WHERE device_id = %s AND channel = %s AND recording = %s AND time = %s AND first_sample = %s
        AND items IS NOT NULL
    RETURNING count, codec, samples, items, rate_num, rate_den, gain, baseline, unit, flags, epoch, skew_s
"""
_PUT = """
    INSERT INTO waveforms (device_id, channel, recording, time, first_sample, count, epoch_no, ord, item, rate_num, rate_den,
        gain, baseline, unit, codec, samples, flags, epoch, seq, received_at, skew_s, message_id, raw_partition, raw_offset)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


def take_apart(connection: Connection, line: tuple[str, str, str], time: datetime, first_sample: int) -> None:
    """Replace one repacked row by a row for each of its items, so that late data can be merged with them."""
    row = connection.execute(_TAKE, (*line, time, first_sample), binary=True).fetchone()
    if row is None:
        return
    count, codec, packed, items, num, den, gain, baseline, unit, flags, epoch, skew = row
    samples = unpack(codec, packed, count)
    for part in blocks.decode(items):
        low = part.first_sample - first_sample
        part_codec, part_packed = pack(samples[low : low + part.count])
        connection.execute(
            _PUT,
            (
                *line, moment(part.start_us), part.first_sample, part.count, part.epoch_no, part.ord, part.item, num, den,
                gain, baseline, unit, part_codec, part_packed, flags, epoch, part.seq if part.seq >= 0 else None,
                moment(part.received_us), skew, "", part.raw_partition, part.raw_offset,
            ),
        )  # fmt: skip
