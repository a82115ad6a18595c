"""Stored waveform blocks of a stretch of samples: loaded as pieces, and brought to what merging made of them.

The rules are `vitalgate.devices.overlap`; this is rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import msgspec

from vitalgate.devices.overlap import Piece, Scale
from vitalgate.devices.records import Waveform
from vitalgate.devices.versions import Key, flat, unflat
from vitalgate.storage import blocks, repack
from vitalgate.storage.connect import Connection
from vitalgate.storage.packing import Samples, pack, unpack
from vitalgate.storage.times import moment

Line = tuple[str, str, str]
"""device, channel, recording."""

_KEY = (
    "device_id = %(device)s AND channel = %(channel)s AND recording = %(recording)s AND first_sample = %(first)s"
    " AND epoch_no = %(epoch_no)s AND ord = %(ord)s AND item = %(item)s AND time = %(time)s"
)
_LOAD = """
    SELECT time, first_sample, count, epoch_no, ord, item, sightings, version, current, n_items, rate_num, rate_den,
    gain,
           baseline, unit, codec, samples, missing, items IS NOT NULL
    FROM waveforms
    WHERE device_id = %s AND channel = %s AND recording = %s AND first_sample < %s AND first_sample > %s
      AND first_sample + count > %s AND time BETWEEN %s AND %s
    ORDER BY first_sample, version
"""
_KEPT = (
    "device_id", "channel", "recording", "rate_num", "rate_den", "gain", "baseline", "unit", "flags", "time_sent",
    "offset_min", "received_at", "skew_s", "trace", "message_id", "raw_partition", "raw_offset", "epoch", "seq",
)  # fmt: skip
"""Columns that every part of a row has from it."""
_CUT = (
    "epoch_no", "ord", "item", "time", "first_sample", "count", "codec", "samples", "missing", "version", "current",
    "sightings", "n_items",
)  # fmt: skip
_TAKE = f"DELETE FROM waveforms WHERE {_KEY} RETURNING {', '.join(_KEPT)}"  # noqa: S608  constants only
_PUT = f"""
    INSERT INTO waveforms ({", ".join(_KEPT + _CUT)})
    VALUES ({", ".join(f"%({name})s" for name in _KEPT + _CUT)})
"""  # noqa: S608  constants only
_SENT_AS = """
    SELECT first_sample, count, ord, item, codec, samples, items FROM waveforms
    WHERE device_id = %s AND channel = %s AND epoch_no = %s AND ord <= %s ORDER BY ord DESC, item DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A row and what it is to `overlap`."""

    piece: Piece
    time: datetime
    own: Key
    missing: list[int]


def load(
    connection: Connection, line: Line, first: int, stop: int, longest: int, between_us: tuple[int, int]
) -> list[Stored]:
    """Rows that overlap samples [first, stop); a repacked one among them is taken apart first.

    Parameters
    ----------
    longest
        Samples in the longest row of the recording.
    between_us
        Times of its first and last row, which bound the search to a few partitions.
    """
    asked = (*line, stop, first - max(longest, 1), first, moment(between_us[0]), moment(between_us[1]))
    rows = connection.execute(_LOAD, asked, binary=True).fetchall()
    if any(row[-1] for row in rows):
        for row in rows:
            if row[-1]:
                repack.take_apart(connection, line, row[0], row[1])
        rows = connection.execute(_LOAD, asked, binary=True).fetchall()
    return [_stored(row) for row in rows]


def _stored(row: tuple[Any, ...]) -> Stored:
    (time, first, count, epoch_no, ord_, item, seen, version, current, n_items, num, den, gain, baseline, unit, codec,
     packed, missing, _) = row  # fmt: skip
    own = (epoch_no, ord_, item)
    samples = unpack(codec, packed, count).astype("<i4").tobytes()
    keys = unflat(seen) if seen else (own,)
    piece = Piece(first, samples, Scale(num, den, gain, baseline, unit), version, current, keys, n_items)
    return Stored(piece, time, own, missing or [])


def rewrite(connection: Connection, line: Line, stored: Sequence[Stored], pieces: Sequence[Piece]) -> None:
    """Bring the stored rows to the pieces they have become; pieces of new blocks are the caller's.

    All rows that change are taken out before any is put back: a part of one row may be named as another row was until
    now.
    """
    by_origin: dict[int, list[Piece]] = {n: [] for n in range(len(stored))}
    for piece in pieces:
        if piece.origin is not None:
            by_origin[piece.origin].append(piece)
    changed = [(stored[n], parts) for n, parts in by_origin.items() if not _as_stored(stored[n], parts)]
    puts: list[dict[str, Any]] = []
    for row, parts in changed:
        taken = connection.execute(_TAKE, _named(line, row)).fetchone()
        assert taken is not None, f"{line}: no row at sample {row.piece.first} of {row.own}: it was there when read"
        kept = dict(zip(_KEPT, taken, strict=True))
        puts += [{**kept, **_columns(row, part, kept)} for part in parts]
    if puts:
        connection.cursor().executemany(_PUT, puts)


def _as_stored(row: Stored, parts: Sequence[Piece]) -> bool:
    return len(parts) == 1 and _said(parts[0]) == _said(row.piece)


def _said(piece: Piece) -> tuple[object, ...]:
    return piece.first, piece.samples, piece.version, piece.current, piece.seen, piece.items


def _named(line: Line, row: Stored) -> dict[str, Any]:
    return {
        "device": line[0], "channel": line[1], "recording": line[2], "first": row.piece.first, "epoch_no": row.own[0],
        "ord": row.own[1], "item": row.own[2], "time": row.time,
    }  # fmt: skip


def _columns(row: Stored, part: Piece, kept: Mapping[str, Any]) -> dict[str, Any]:
    """What a part has of its own. It is named by the row's item, or by the first that it was seen in."""
    own = row.own if row.own in part.seen else part.seen[0]
    codec, packed = pack(part.samples)
    cut_off = part.first - row.piece.first
    shift = timedelta(microseconds=shift_us(cut_off, part.scale.rate_num, part.scale.rate_den))
    return {
        "epoch_no": own[0],
        "ord": own[1],
        "item": own[2],
        "epoch": kept["epoch"] if own[0] == row.own[0] else None,
        "seq": kept["seq"] if own == row.own else own[1] if own[0] > 0 else None,
        "time": row.time + shift,
        "time_sent": kept["time_sent"] + shift if kept["time_sent"] is not None else None,
        "first_sample": part.first,
        "count": part.size,
        "codec": codec,
        "samples": packed,
        "missing": cut_missing(row.missing, cut_off, part.size) or None,
        "version": part.version,
        "current": part.current,
        "sightings": None if part.seen == (own,) else flat(part.seen),
        "n_items": part.items,
    }


def shift_us(samples: int, rate_num: int, rate_den: int) -> int:
    """Microseconds that so many samples take, rounded."""
    return round(Fraction(samples * rate_den * 1_000_000, rate_num))


def cut_missing(missing: Sequence[int], first: int, count: int) -> list[int]:
    """Unmeasured stretches (start, length, start, length, …) of a block, seen from [first, first + count) of it."""
    kept: list[int] = []
    for start, length in zip(missing[::2], missing[1::2], strict=True):
        low, high = max(start, first), min(start + length, first + count)
        if low < high:
            kept += [low - first, high - low]
    return kept


def cut(w: Waveform, piece: Piece) -> Waveform:
    """The part of a new block that one of its pieces holds."""
    if piece.size == w.count:
        return w
    skipped = piece.first - w.first_sample
    shift = shift_us(skipped, w.rate_num, w.rate_den)
    flat_missing = [bound for stretch in w.missing or [] for bound in stretch]
    kept = cut_missing(flat_missing, skipped, piece.size)
    return msgspec.structs.replace(
        w,
        first_sample=piece.first,
        count=piece.size,
        samples=piece.samples,
        start_us=w.start_us + shift,
        time_sent_us=w.time_sent_us + shift if w.time_sent_us else 0,
        missing=list(zip(kept[::2], kept[1::2], strict=True)) or None,
    )


def sent_as(connection: Connection, device: str, channel: str, key: Key) -> Samples | None:
    """The samples that were stored of one item, by its place in the device's order; None when it is not found."""
    row = connection.execute(_SENT_AS, (device, channel, key[0], key[1]), binary=True).fetchone()
    if row is None:
        return None
    first, count, ord_, item, codec, packed, items = row
    if items is None:
        return unpack(codec, packed, count) if (ord_, item) == key[1:] else None
    for part in blocks.decode(items):
        if part.order == key:
            low = part.first_sample - first
            return unpack(codec, packed, count)[low : low + part.count]
    return None
