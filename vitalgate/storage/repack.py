"""Waveform rows at rest: contiguous blocks of a recording joined into long rows, and taken apart again when need be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from vitalgate.storage import blocks
from vitalgate.storage.connect import Connection
from vitalgate.storage.packing import pack, unpack
from vitalgate.storage.times import micros, moment

_TAKE = """
    DELETE FROM waveforms WHERE device_id = %s AND channel = %s AND recording = %s AND time = %s AND first_sample = %s
        AND items IS NOT NULL
    RETURNING count, codec, samples, items, rate_num, rate_den, gain, baseline, unit, flags, epoch, skew_s
"""
_PUT = """
    INSERT INTO waveforms (device_id, channel, recording, time, first_sample, count, epoch_no, ord, item, rate_num,
    rate_den,
        gain, baseline, unit, codec, samples, flags, epoch, seq, received_at, skew_s, message_id, raw_partition,
        raw_offset)
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
                *line, moment(part.start_us), part.first_sample, part.count, part.epoch_no, part.ord, part.item, num,
                den,
                gain, baseline, unit, part_codec, part_packed, flags, epoch, part.seq if part.seq >= 0 else None,
                moment(part.received_us), skew, "", part.raw_partition, part.raw_offset,
            ),
        )  # fmt: skip


MAX_SAMPLES = 131_072
"""Samples in one repacked row: below a megabyte, and some minutes of ECG."""
MAX_DURATION = timedelta(minutes=30)
JUMP_US = 500_000
"""A start that is this far from where the samples say begins a row of its own."""

_AT_ONCE = 1024
#: The recorder takes the same lock before it touches stored blocks of a recording.
LOCK = "SELECT longest FROM recordings WHERE device_id = %s AND channel = %s AND recording = %s FOR UPDATE"
_RECORDINGS = """
    SELECT device_id, channel, recording, coalesce(packed_through, first_sample), first_time, last_time, stop_sample
    FROM recordings
    WHERE stop_sample > coalesce(packed_through, first_sample) AND first_time < %s
    ORDER BY device_id, channel, recording
"""
_HOT = """
    SELECT time, first_sample, count, epoch_no, ord, item, rate_num, rate_den, gain, baseline, unit, codec, samples,
    flags,
           epoch, coalesce(seq, -1), received_at, skew_s, raw_partition, raw_offset,
           version = 1 AND current AND n_items = 1 AND sightings IS NULL AND missing IS NULL AND items IS NULL
    FROM waveforms
    WHERE device_id = %s AND channel = %s AND recording = %s AND first_sample >= %s AND received_at < %s
      AND time BETWEEN %s AND %s
    ORDER BY first_sample LIMIT %s
"""
_JOIN = """
    INSERT INTO waveforms (device_id, channel, recording, time, first_sample, count, epoch_no, ord, item, n_items,
    rate_num,
        rate_den, gain, baseline, unit, codec, samples, items, flags, epoch, seq, received_at, skew_s, message_id,
        raw_partition, raw_offset)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_REMOVE = """
    DELETE FROM waveforms w USING unnest(%s::timestamptz[], %s::bigint[], %s::integer[], %s::bigint[], %s::integer[])
        AS u (time, first_sample, epoch_no, ord, item)
    WHERE w.device_id = %s AND w.channel = %s AND w.recording = %s AND w.time = u.time
      AND w.first_sample = u.first_sample AND w.epoch_no = u.epoch_no AND w.ord = u.ord AND w.item = u.item
"""
_LONGEST = """
    UPDATE recordings SET longest = greatest(longest, %s), packed_through = %s
    WHERE device_id = %s AND channel = %s AND recording = %s
"""


@dataclass(frozen=True)
class Repacked:
    """What a run did."""

    rows_before: int
    rows_after: int
    samples: int


def run(connection: Connection, older_than: datetime, *, idle_before: datetime) -> Repacked:
    """Join blocks that arrived before `older_than`; short remainders only of recordings silent since `idle_before`.

    Only blocks whose public records are out are taken, so that nothing has to be made again from joined rows. One
    transaction a row; a recorder that works on the same recording waits for it.
    """
    before = after = samples = 0
    published = _published(connection)
    for *line, through, first_time, last_time, _ in connection.execute(_RECORDINGS, (older_than,)).fetchall():
        device, channel, recording = line
        at = through
        while True:
            with connection.transaction():
                step = _join_next(
                    connection, (device, channel, recording), at, (first_time, last_time), older_than,
                    last_time < idle_before, published,
                )  # fmt: skip
            if step is None:
                break
            at, joined, count = step
            if joined > 1:
                before, after, samples = before + joined, after + 1, samples + count
    return Repacked(before, after, samples)


def _published(connection: Connection) -> dict[int, int]:
    """Partition -> raw offsets below this are published."""
    return dict(
        connection.execute(
            "SELECT partition, coalesce(min(first_offset) FILTER (WHERE NOT published), max(last_offset) + 1)"
            " FROM ledger GROUP BY partition"
        ).fetchall()
    )


def _join_next(
    connection: Connection,
    line: tuple[str, str, str],
    at: int,
    between: tuple[datetime, datetime],
    older_than: datetime,
    idle: bool,
    published: dict[int, int],
) -> tuple[int, int, int] | None:
    """Join the next run of blocks from sample `at`: (where it ends, rows joined, samples), None when there is none."""
    connection.execute(LOCK, line)
    rows = connection.execute(_HOT, (*line, at, older_than, *between, _AT_ONCE), binary=True).fetchall()
    run_: list[tuple[Any, ...]] = []
    end = at
    complete = len(rows) == _AT_ONCE
    for row in rows:
        fit = row[20] and row[19] < published.get(row[18], 0)
        if run_ and not (fit and _follows(run_, row)):
            complete = True
            break
        if not fit:  # a version, a piece, a row joined before: stays as it is
            if row[19] >= published.get(row[18], 0):
                return None
            _done(connection, line, row[1] + row[2], 0)
            return row[1] + row[2], 0, 0
        run_.append(row)
        end = row[1] + row[2]
    if not run_ or not (complete or idle or end - run_[0][1] >= MAX_SAMPLES):
        return None
    if len(run_) > 1:
        _join(connection, line, run_)
    _done(connection, line, end, end - run_[0][1])
    return end, len(run_), end - run_[0][1]


def _follows(run_: Sequence[tuple[Any, ...]], row: tuple[Any, ...]) -> bool:
    """Whether a block goes on where the run ends, in every respect that a joined row holds once."""
    first, last = run_[0], run_[-1]
    if row[1] != last[1] + last[2] or row[1] + row[2] - first[1] > MAX_SAMPLES:
        return False
    if row[6:11] != first[6:11] or row[13:15] != first[13:15] or row[17] != first[17]:
        return False
    if row[0] - first[0] > MAX_DURATION:
        return False
    expected = first[0] + timedelta(microseconds=(row[1] - first[1]) * first[7] * 1_000_000 // first[6])
    return bool(abs((row[0] - expected) / timedelta(microseconds=1)) < JUMP_US)


def _join(connection: Connection, line: tuple[str, str, str], rows: Sequence[tuple[Any, ...]]) -> None:
    samples = np.concatenate([unpack(row[11], row[12], row[2]) for row in rows])
    parts = [
        blocks.Part(row[1], row[2], micros(row[0]), row[3], row[4], row[5], row[15], micros(row[16]), row[18], row[19])
        for row in rows
    ]
    codec, packed = pack(samples, at_rest=True)
    first = rows[0]
    connection.execute(
        _REMOVE,
        (
            [r[0] for r in rows],
            [r[1] for r in rows],
            [r[3] for r in rows],
            [r[4] for r in rows],
            [r[5] for r in rows],
            *line,
        ),
    )
    connection.execute(
        _JOIN,
        (
            *line, first[0], first[1], len(samples), first[3], first[4], first[5], len(rows), *first[6:11], codec,
            packed,
            blocks.encode(parts), first[13], first[14], first[15] if first[15] >= 0 else None, first[16], first[17], "",
            first[18], first[19],
        ),
    )  # fmt: skip


def _done(connection: Connection, line: tuple[str, str, str], through: int, longest: int) -> None:
    connection.execute(_LONGEST, (longest, through, *line))
