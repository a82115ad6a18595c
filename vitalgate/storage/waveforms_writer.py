"""Writes the waveform blocks of a batch.

A block that begins where its recording ends, or later, overlaps nothing; that is nearly every block. The others are
compared with what is stored of their stretch of samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vitalgate.devices import overlap
from vitalgate.devices.reasons import Reason
from vitalgate.devices.records import Message, Waveform
from vitalgate.devices.versions import Outcome, flat
from vitalgate.storage import binary, publics, repack, rows, stretches
from vitalgate.storage.connect import Connection
from vitalgate.storage.packing import array
from vitalgate.storage.times import moment
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
        late: dict[Line, list[tuple[Message, Waveform]]] = {}
        for message, w in slow:
            late.setdefault(_line(message, w), []).append((message, w))
        for line, coming in late.items():
            for w in self._merge(connection, work, line, coming):
                added.setdefault(line, []).append(w)
                self._reach(line, w)
        self._save(connection, added)

    def _copy(self, connection: Connection, fresh: list[bytes]) -> None:
        if fresh:
            with connection.cursor().copy(
                f"COPY waveforms ({rows.WAVEFORM_COLUMNS}) FROM STDIN (FORMAT BINARY)"
            ) as copy:
                copy.write(binary.HEADER + b"".join(fresh) + binary.TRAILER)

    def _merge(
        self, connection: Connection, work: Work, line: Line, coming: list[tuple[Message, Waveform]]
    ) -> list[Waveform]:
        """Merge blocks that may overlap stored ones; returns those of which something was stored."""
        extent = self._extents[line]
        row = connection.execute(repack.LOCK, line).fetchone()
        if row is not None:  # rows may have been joined since the extent was read
            extent.longest = max(extent.longest, row[0])
        whole_extent = extent.longest, (extent.first_us, extent.last_us)
        spans = [(w.first_sample, w.first_sample + w.count) for _, w in coming]
        wanted = min(start for start, _ in spans), max(stop for _, stop in spans)
        stored = stretches.load(connection, line, *wanted, *whole_extent)
        reach = overlap.reach((piece.piece for piece in stored), spans)
        if reach != wanted:
            stored = stretches.load(connection, line, *reach, *whole_extent)
        known = {key for piece in stored for key in piece.piece.seen}
        blocks: list[overlap.Block] = []
        makers: list[tuple[Message, Waveform]] = []
        for message, w in coming:
            key = (message.epoch_no, message.order, w.item)
            if message.repeat and key not in known:
                before = stretches.sent_as(connection, line[0], line[1], key)
                if before is not None:
                    if np.array_equal(before, array(w.samples)):
                        work.applied.duplicate += 1
                    else:
                        _refuse_reused(work, message, w)
                    continue
            blocks.append(overlap.Block(key, w.first_sample, w.samples, overlap.scale_of(w)))
            makers.append((message, w))
        placed = overlap.place([piece.piece for piece in stored], blocks)
        work.applied.stored += placed.stored
        work.applied.duplicate += placed.duplicates
        for (message, w), outcome in zip(makers, placed.outcomes, strict=True):
            if outcome is Outcome.SEQUENCE_REUSED:
                _refuse_reused(work, message, w)
        stretches.rewrite(connection, line, stored, placed.pieces)
        fresh = []
        versioned = set()
        for piece in placed.pieces:
            if piece.block is None:
                continue
            message, whole = makers[piece.block]
            w = stretches.cut(whole, piece)
            several = None if len(piece.seen) == 1 else flat(piece.seen)
            fresh.append(
                rows.waveform(
                    work.origin(message),
                    w,
                    version=piece.version,
                    current=piece.current,
                    n_items=piece.items,
                    sightings=several,
                )
            )
            work.applied.public_waveforms.append(publics.waveform(message, work.message_id(message), w, piece.version))
            if piece.version > 1:
                versioned.add(piece.block)
        self._copy(connection, fresh)
        work.applied.versions += len(versioned)
        return [w for (_, w), outcome in zip(makers, placed.outcomes, strict=True) if outcome is Outcome.STORED]

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
        end_us = w.start_us + stretches.shift_us(w.count, w.rate_num, w.rate_den)
        if not extent.known:
            self._extents[line] = Extent(
                w.first_sample, stop, w.start_us, end_us, w.count, w.start_us, w.first_sample, True
            )
            return
        extent.first_sample = min(extent.first_sample, w.first_sample)
        extent.stop_sample = max(extent.stop_sample, stop)
        extent.first_us = min(extent.first_us, w.start_us)
        extent.last_us = max(extent.last_us, end_us)
        extent.longest = max(extent.longest, w.count)

    def _save(self, connection: Connection, added: dict[Line, list[Waveform]]) -> None:
        """Widen the recordings, and add to the sums over which start time against sample number is fitted."""
        if not added:
            return
        columns: list[list[object]] = [[] for _ in range(18)]
        for line in sorted(added):
            blocks, extent = added[line], self._extents[line]
            x = np.array([w.first_sample - extent.anchor_sample for w in blocks], dtype=np.float64)
            y = np.array([w.start_us - extent.anchor_us for w in blocks], dtype=np.float64) / 1e6
            values = (
                *line, extent.first_sample, extent.stop_sample, moment(extent.first_us), moment(extent.last_us),
                extent.longest, blocks[-1].rate_num, blocks[-1].rate_den, len(blocks), moment(extent.anchor_us),
                extent.anchor_sample, float(x.sum()), float(y.sum()), float((x * x).sum()), float((x * y).sum()),
                min(w.first_sample for w in blocks),
            )  # fmt: skip
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        connection.execute(
            """
            INSERT INTO recordings AS r (device_id, channel, recording, first_sample, stop_sample,
                first_time, last_time, longest, rate_num, rate_den, blocks, anchor_time, anchor_sample, sum_x, sum_y,
                sum_xx, sum_xy, packed_through)
            SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::timestamptz[],
                %s::timestamptz[], %s::integer[], %s::integer[], %s::integer[], %s::bigint[], %s::timestamptz[],
                %s::bigint[], %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::bigint[])
            ON CONFLICT (device_id, channel, recording) DO UPDATE SET
                first_sample = least(r.first_sample, excluded.first_sample),
                stop_sample = greatest(r.stop_sample, excluded.stop_sample),
                first_time = least(r.first_time, excluded.first_time),
                last_time = greatest(r.last_time, excluded.last_time),
                longest = greatest(r.longest, excluded.longest), blocks = r.blocks + excluded.blocks,
                sum_x = r.sum_x + excluded.sum_x, sum_y = r.sum_y + excluded.sum_y,
                packed_through = least(r.packed_through, excluded.packed_through),
                sum_xx = r.sum_xx + excluded.sum_xx, sum_xy = r.sum_xy + excluded.sum_xy
            """,
            columns,
        )


def _line(message: Message, w: Waveform) -> Line:
    return message.device, w.channel, w.recording


def _refuse_reused(work: Work, message: Message, w: Waveform) -> None:
    work.refuse(
        message,
        w.item,
        Reason.SEQUENCE_REUSED,
        f"epoch {message.epoch!r} seq {message.seq} item {w.item} was stored before with other samples; "
        "count up by one for every message and start a new epoch when the counter starts over",
    )
