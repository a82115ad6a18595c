"""Writes the waveform blocks of a batch.

A block that begins where its recording ends, or later, overlaps nothing; that is nearly every block. The others are
compared with what is stored of their stretch of samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vitalgate.devices.records import Message, Waveform
from vitalgate.storage import binary, publics, rows, stretches
from vitalgate.storage.connect import Connection
from vitalgate.storage.known import flatten
from vitalgate.storage.packing import array
from vitalgate.storage.publics import moment
from vitalgate.storage.work import Work

Line = tuple[str, str, str]
"""device, channel, recording."""
MAX_REMEMBERED = 200_000


@dataclass(slots=True)
class Extent:
    """How far a recording reaches, and the sums from which its true rate is fitted."""

    first_sample: int
    stop_sample: int
    first_us: int
    last_us: int
    longest: int
    anchor_us: int
    anchor_sample: int
    known: bool
    """False when nothing of it is stored."""


class WaveformsWriter:
    """Remembers where each recording ends; `forget` when that may be stale."""

    def __init__(self) -> None:
        self._extents: dict[Line, Extent] = {}

    def forget(self) -> None:
        """Drop what is remembered: somebody else may have written, or a transaction failed."""
        self._extents.clear()

    def write(self, connection: Connection, work: Work) -> None:
        """Write the blocks of all messages of a batch and count what became of each."""
        todo = [(message, w) for message in work.messages for w in message.waveforms]
        if not todo:
            return
        self._load(connection, {_line(message, w) for message, w in todo})
        fresh: list[bytes] = []
        added: dict[Line, list[Waveform]] = {}
        slow: list[tuple[Message, Waveform]] = []
        for message, w in todo:
            line = _line(message, w)
            extent = self._extents[line]
            if message.repeat or (extent.known and w.first_sample < extent.stop_sample):
                slow.append((message, w))
                continue
            self._reach(line, w)
            fresh.append(rows.waveform(work.origin(message), w))
            added.setdefault(line, []).append(w)
            work.applied.stored += 1
            work.applied.public_waveforms.append(publics.waveform(message, work.message_id(message), w, 1))
        self._copy(connection, fresh)
        for message, w in slow:
            line = _line(message, w)
            if self._overlapping(connection, work, message, w):
                added.setdefault(line, []).append(w)
                self._reach(line, w)
        self._save(connection, added)

    def _copy(self, connection: Connection, fresh: list[bytes]) -> None:
        if fresh:
            with connection.cursor().copy(
                f"COPY waveforms ({rows.WAVEFORM_COLUMNS}) FROM STDIN (FORMAT BINARY)"
            ) as copy:
                copy.write(binary.HEADER + b"".join(fresh) + binary.TRAILER)

    def _overlapping(self, connection: Connection, work: Work, message: Message, w: Waveform) -> bool:
        """Write one block that may overlap stored ones; False when nothing new was stored."""
        line = _line(message, w)
        sighting = rows.order(message, w.item)
        if message.repeat:
            before = stretches.sent_as(connection, message.device, w.channel, sighting)
            if before is not None:
                if np.array_equal(before, array(w.samples)):
                    work.applied.duplicate += 1
                else:
                    work.refuse(
                        message, w.item, "sequence_reused",
                        f"epoch {message.epoch!r} seq {message.seq} item {w.item} was stored before with other samples; "
                        "count up by one for every message and start a new epoch when the counter starts over",
                    )  # fmt: skip
                return False
        extent = self._extents[line]
        stored = stretches.overlapping(connection, line, w, extent.longest, extent.first_us, extent.last_us)
        verdict = stretches.judge(stored, stretches.block_of(message, w))
        if verdict.duplicate:
            work.applied.duplicate += 1
            for block in verdict.seen_again:
                stretches.see(connection, line, block, flatten(sorted({*block.sightings, sighting})))
            return False
        for block, version in verdict.raised:
            stretches.raise_version(connection, line, block, version)
        self._copy(connection, [rows.waveform(work.origin(message), w, version=verdict.version)])
        work.applied.stored += 1
        work.applied.versions += verdict.version > 1
        work.applied.public_waveforms.append(publics.waveform(message, work.message_id(message), w, verdict.version))
        return True

    def _load(self, connection: Connection, lines: Iterable[Line]) -> None:
        if len(self._extents) > MAX_REMEMBERED:
            self._extents.clear()
        cold = [line for line in lines if line not in self._extents]
        if not cold:
            return
        for n, first, stop, first_time, last_time, longest, anchor_time, anchor in connection.execute(
            """
            SELECT k.n, first_sample, stop_sample, first_time, last_time, longest, anchor_time, anchor_sample
            FROM unnest(%s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS k (device, channel, recording, n)
            JOIN recordings r
              ON r.device_id = k.device AND r.channel = k.channel AND r.recording = k.recording
            """,
            ([line[0] for line in cold], [line[1] for line in cold], [line[2] for line in cold]),
        ):
            self._extents[cold[n - 1]] = Extent(
                first, stop, publics.micros(first_time), publics.micros(last_time), longest,
                publics.micros(anchor_time), anchor, True,
            )  # fmt: skip
        for line in cold:
            self._extents.setdefault(line, Extent(0, 0, 0, 0, 0, 0, 0, False))

    def _reach(self, line: Line, w: Waveform) -> None:
        extent = self._extents[line]
        stop = w.first_sample + w.count
        if not extent.known:
            self._extents[line] = Extent(
                w.first_sample, stop, w.start_us, w.start_us, w.count, w.start_us, w.first_sample, True
            )
            return
        extent.first_sample = min(extent.first_sample, w.first_sample)
        extent.stop_sample = max(extent.stop_sample, stop)
        extent.first_us = min(extent.first_us, w.start_us)
        extent.last_us = max(extent.last_us, w.start_us)
        extent.longest = max(extent.longest, w.count)

    def _save(self, connection: Connection, added: dict[Line, list[Waveform]]) -> None:
        """Widen the recordings, and add to the sums over which start time against sample number is fitted."""
        if not added:
            return
        columns: list[list[object]] = [[] for _ in range(17)]
        for line in sorted(added):
            blocks, extent = added[line], self._extents[line]
            x = np.array([w.first_sample - extent.anchor_sample for w in blocks], dtype=np.float64)
            y = np.array([w.start_us - extent.anchor_us for w in blocks], dtype=np.float64) / 1e6
            values = (
                *line, extent.first_sample, extent.stop_sample, moment(extent.first_us), moment(extent.last_us),
                extent.longest, blocks[-1].rate_num, blocks[-1].rate_den, len(blocks), moment(extent.anchor_us),
                extent.anchor_sample, float(x.sum()), float(y.sum()), float((x * x).sum()), float((x * y).sum()),
            )  # fmt: skip
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        connection.execute(
            """
            INSERT INTO recordings AS r (device_id, channel, recording, first_sample, stop_sample,
                first_time, last_time, longest, rate_num, rate_den, blocks, anchor_time, anchor_sample, sum_x, sum_y,
                sum_xx, sum_xy)
            SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::timestamptz[],
                %s::timestamptz[], %s::integer[], %s::integer[], %s::integer[], %s::bigint[], %s::timestamptz[],
                %s::bigint[], %s::float8[], %s::float8[], %s::float8[], %s::float8[])
            ON CONFLICT (device_id, channel, recording) DO UPDATE SET
                first_sample = least(r.first_sample, excluded.first_sample),
                stop_sample = greatest(r.stop_sample, excluded.stop_sample),
                first_time = least(r.first_time, excluded.first_time),
                last_time = greatest(r.last_time, excluded.last_time),
                longest = greatest(r.longest, excluded.longest), blocks = r.blocks + excluded.blocks,
                sum_x = r.sum_x + excluded.sum_x, sum_y = r.sum_y + excluded.sum_y,
                sum_xx = r.sum_xx + excluded.sum_xx, sum_xy = r.sum_xy + excluded.sum_xy
            """,
            columns,
        )


def _line(message: Message, w: Waveform) -> Line:
    return message.device, w.channel, w.recording
