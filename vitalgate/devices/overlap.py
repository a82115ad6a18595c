"""Overlapping waveform blocks: what is a repeat, what a correction, by sample number and never by time.

All blocks are of one device, channel and recording. Every sample is a small measurement of its own, and its versions
are those of `versions.py`: runs of equal content in the device's order, the last current. Stretches that share their
history form a *piece*; each piece is a stored row. So an identical overlap is a duplicate (it is remembered, not
stored), a different one a version of just that stretch, and any order of arrival ends in the same samples.

Content is the samples together with the scale that gives them meaning (rate, gain, offset, unit): the same integers
under another gain are a correction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from vitalgate.devices import versions
from vitalgate.devices.records import Waveform
from vitalgate.devices.versions import Key, Outcome, Sighting

WIDTH: Final = 4
"""Bytes a sample (int32 little-endian)."""


class Scale(NamedTuple):
    """What makes integers into physical values."""

    rate_num: int
    rate_den: int
    gain: float
    offset: float
    unit: str


class Piece(NamedTuple):
    """A stored stretch of one version: samples first to first + count."""

    first: int
    samples: bytes
    scale: Scale
    version: int
    current: bool
    seen: tuple[Key, ...]
    """Keys of the blocks that said this, rising."""
    items: int
    """Items it accounts for in the ledger: 1 for the first piece of a block, 0 for its others."""
    origin: int | None = None
    """Position among the pieces given to `place` whose data (times, trace) it keeps; None for a new one."""
    block: int | None = None
    """Position among the new blocks of the one whose data it has; None when it has an origin."""

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.samples) // WIDTH

    @property
    def stop(self) -> int:
        """Number of the sample after the last."""
        return self.first + self.size


class Block(NamedTuple):
    """A block that came in."""

    key: Key
    first: int
    samples: bytes
    scale: Scale

    @property
    def stop(self) -> int:
        """Number of the sample after the last."""
        return self.first + len(self.samples) // WIDTH


class Placed(NamedTuple):
    """The outcome of `place`."""

    pieces: list[Piece]
    """All pieces, by version and first sample."""
    outcomes: list[Outcome]
    """One for each new block: STORED when any sample of it is a new version."""
    stored: int
    duplicates: int


def scale_of(waveform: Waveform) -> Scale:
    """The scale of a block."""
    return Scale(waveform.rate_num, waveform.rate_den, waveform.gain, waveform.offset, waveform.unit)


def reach(pieces: Iterable[Piece], spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Samples [first, stop) in which new blocks of these spans may change something: theirs, and those of the pieces
    they overlap.

    A block's edge cuts the pieces across it, and both sides are told apart anew.
    """
    touched = [
        (piece.first, piece.stop)
        for piece in pieces
        if any(start < piece.stop and piece.first < stop for start, stop in spans)
    ]
    every = [*spans, *touched]
    return min(start for start, _ in every), max(stop for _, stop in every)


def place(pieces: Sequence[Piece], blocks: Sequence[Block]) -> Placed:
    """The pieces after more blocks.

    Parameters
    ----------
    pieces
        Every known piece that overlaps the blocks' `reach` (others may be among them).
    blocks
        New blocks in order of arrival. A block whose key is known with other content, anywhere it overlaps, is
        refused as a whole.

    Returns
    -------
    Placed
        Blocks accepted = stored + duplicates, and the sum of the pieces' `items` grows by `stored`.
    """
    outcomes = [Outcome.DUPLICATE] * len(blocks)
    accepted = _accepted(pieces, blocks, outcomes)
    if not accepted:
        return Placed(list(pieces), outcomes, 0, 0)
    edges = sorted(
        {edge for piece in pieces for edge in (piece.first, piece.stop)}
        | {edge for n in accepted for edge in (blocks[n].first, blocks[n].stop)}
    )
    first, last = reach(pieces, [(blocks[n].first, blocks[n].stop) for n in accepted])
    cuts: list[Piece] = []
    for start, stop in pairwise(edges):
        if first <= start and stop <= last:
            cuts.extend(_stretch(start, stop, pieces, blocks, accepted))
        else:  # not all that is said of it was given, so nothing may be concluded
            cuts.extend(_part(piece, start, stop, n) for n, piece in enumerate(pieces) if _holds(piece, start, stop))
    joined = _joined(cuts)
    fresh = {piece.block for piece in joined if piece.block is not None}
    for number in fresh:
        outcomes[number] = Outcome.STORED
    counted: set[tuple[bool, int]] = set()
    out = []
    for piece in joined:
        mark = (piece.origin is None, piece.block if piece.origin is None else piece.origin)
        assert mark[1] is not None
        if (mark[0], mark[1]) in counted:
            items = 0
        else:
            counted.add((mark[0], mark[1]))
            items = 1 if piece.origin is None else pieces[piece.origin].items
        out.append(piece._replace(items=items))
    out.sort(key=lambda piece: (piece.first, piece.version))
    return Placed(out, outcomes, len(fresh), len(accepted) - len(fresh))


def _accepted(pieces: Sequence[Piece], blocks: Sequence[Block], outcomes: list[Outcome]) -> list[int]:
    """Numbers of the blocks that contradict nothing known under their own key; marks the others in `outcomes`."""
    accepted: list[int] = []
    for number, block in enumerate(blocks):
        rivals = [(piece.first, piece.samples, piece.scale) for piece in pieces if block.key in piece.seen]
        rivals += [
            (blocks[n].first, blocks[n].samples, blocks[n].scale) for n in accepted if blocks[n].key == block.key
        ]
        clash = False
        for first, samples, scale in rivals:
            start, end = max(first, block.first), min(first + len(samples) // WIDTH, block.stop)
            if start < end and (
                scale != block.scale
                or samples[(start - first) * WIDTH : (end - first) * WIDTH]
                != block.samples[(start - block.first) * WIDTH : (end - block.first) * WIDTH]
            ):
                clash = True
        if clash:
            outcomes[number] = Outcome.SEQUENCE_REUSED
        else:
            accepted.append(number)
    return accepted


def _stretch(
    start: int, stop: int, pieces: Sequence[Piece], blocks: Sequence[Block], accepted: Sequence[int]
) -> list[Piece]:
    """The pieces of one elementary stretch: all who speak of it speak of all of it."""
    known = [n for n, piece in enumerate(pieces) if _holds(piece, start, stop)]
    new = [n for n in accepted if _holds(blocks[n], start, stop)]
    rows: list[versions.Row[tuple[bytes, Scale]]] = [
        versions.Row(pieces[n].version, (_cut(pieces[n].first, pieces[n].samples, start, stop), pieces[n].scale),
                     pieces[n].seen)
        for n in known
    ]  # fmt: skip
    sightings: list[Sighting[tuple[bytes, Scale]]] = [
        Sighting(blocks[n].key, (_cut(blocks[n].first, blocks[n].samples, start, stop), blocks[n].scale)) for n in new
    ]
    merged = versions.merge(rows, sightings)
    out = []
    for row in merged.rows:
        origin = known[row.origin] if row.origin is not None else None
        block = new[row.sighting] if row.sighting is not None else None
        out.append(Piece(start, row.value[0], row.value[1], row.version, row.current, row.seen, 0, origin, block))
    return out


def _holds(piece: Piece | Block, start: int, stop: int) -> bool:
    return piece.first <= start and stop <= piece.stop


def _part(piece: Piece, start: int, stop: int, origin: int) -> Piece:
    samples = _cut(piece.first, piece.samples, start, stop)
    return piece._replace(first=start, samples=samples, items=0, origin=origin, block=None)


def _cut(first: int, samples: bytes, start: int, stop: int) -> bytes:
    return samples[(start - first) * WIDTH : (stop - first) * WIDTH]


def _joined(cuts: list[Piece]) -> list[Piece]:
    """Neighbouring pieces of the same history as one."""
    open_pieces: dict[tuple[object, ...], list[Piece]] = {}
    for piece in cuts:  # rising by start
        history = (piece.version, piece.current, piece.scale, piece.seen, piece.origin, piece.block)
        row = open_pieces.setdefault(history, [])
        if row and row[-1].stop == piece.first:
            row[-1] = row[-1]._replace(samples=row[-1].samples + piece.samples)
        else:
            row.append(piece)
    return [piece for row in open_pieces.values() for piece in row]


def final(pieces: Sequence[Piece]) -> list[Piece]:
    """The current pieces by first sample: they do not overlap."""
    return sorted((piece for piece in pieces if piece.current), key=lambda piece: piece.first)
