"""What is found in one block of one line, and how it is worked out from samples, many lines at once. Pure.

The evidence of a block (beats, their forms, quality, fibrillation, baseline) depends on samples from BEFORE_S before it
to AFTER_S after it and on nothing else. The classes of its beats depend on that evidence, on beats and forms of the
CONTEXT blocks before it, and on the beats *ahead*: those that samples up to AFTER_S behind the block show, which is why
the classes are final when the beats are. Every block is worked out by itself, so that it does not matter what else
was there to be worked out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal import beats as detector
from vitalgate.signal.apart import Piece, baseline_apart, fibrillating_apart, find_beats_apart, quality_apart
from vitalgate.signal.baseline import CELL_S
from vitalgate.signal.grid import true_runs
from vitalgate.signal.quality import Stretch
from vitalgate.signal.timeline import believed
from vitalgate.signal.ventricular import Fibrillating
from vitalgate.stream.analysis_grid import blocks_in, start_of
from vitalgate.stream.analysis_models import CONTEXT_S, REACH_S, cut_forms, kinds_of

BEFORE_S, AFTER_S = detector.BEFORE_S, detector.AFTER_S
#: Blocks before a block whose beats the classes of its own hang on.
CONTEXT = blocks_in(CONTEXT_S)
#: Cells of the baseline in a block.
CELLS = round(detector.BLOCK_S / CELL_S)

Floats = NDArray[np.float32]
_NO_KINDS: NDArray[np.str_] = np.empty(0, "<U1")


@dataclass(frozen=True, eq=False)
class Block:
    """The result of one block.

    Attributes
    ----------
    beats
        (n,) absolute samples.
    kinds
        (n,) class of each beat: N, S, V or F.
    runs
        Where samples were present: [from, to) counted from the block's first.
    quality, reason
        Grade of the signal, and why it is not good.
    believed
        False when the signal is too bad for rhythm and intervals, which are then withheld.
    waves
        Stretches of ventricular fibrillation, absolute samples.
    baseline
        (40,) cells of the baseline in 0.01 mV; -32768 where not known.
    forms
        (n, points) of the beats; None when it was taken over from what was published: then it can be worked out again.
    """

    beats: NDArray[np.int64]
    kinds: NDArray[np.str_]
    runs: tuple[tuple[int, int], ...]
    quality: str
    reason: str | None
    believed: bool
    waves: tuple[Fibrillating, ...]
    baseline: NDArray[np.int16]
    forms: NDArray[Any] | None

    @property
    def present(self) -> int:
        """Samples that were there."""
        return sum(high - low for low, high in self.runs)

    def without_forms(self) -> Block:
        """The same, smaller."""
        return replace(self, forms=None) if self.forms is not None else self


@dataclass(frozen=True, eq=False)
class Task:
    """Blocks of one line to be worked out.

    Attributes
    ----------
    blocks
        Their numbers.
    first, samples
        Samples from BEFORE_S before the first block (less at the begin of a recording) to AFTER_S after the last; the
        absolute index of the first of them.
    before
        Blocks before them: of those of CONTEXT the ones that have forms count.
    """

    blocks: range
    first: int
    samples: Floats
    before: Mapping[int, Block]


def work_out(tasks: Sequence[Task], fs: float) -> list[dict[int, Block]]:
    """The blocks of each task, all at once, and each block as if by itself (see the module)."""
    pieces = [_piece(task, block, fs) for task in tasks for block in task.blocks]
    listed = iter([_evidence(piece, parts, fs) for piece, parts in zip(pieces, _parts(pieces, fs), strict=True)])
    found = [{block: next(listed) for block in task.blocks} for task in tasks]
    kinds = iter(kinds_of([line for task, own in zip(tasks, found, strict=True) for line in _lines(task, own)], fs))
    return [{number: replace(block, kinds=next(kinds)) for number, (block, _, _) in own.items()} for own in found]


def _piece(task: Task, block: int, fs: float) -> Piece:
    """What a block depends on, no sample more."""
    low = max(task.first, start_of(block, fs) - int(BEFORE_S * fs))
    high = start_of(block + 1, fs) + int(AFTER_S * fs)
    return Piece(task.samples[low - task.first : high - task.first], low, start_of(block, fs), high)


@dataclass(frozen=True, eq=False)
class _Parts:
    own: Piece
    beats: NDArray[np.int64]
    grade: Stretch
    waves: list[Fibrillating]
    baseline: NDArray[np.int16]


def _parts(pieces: Sequence[Piece], fs: float) -> list[_Parts]:
    own = [replace(piece, stop=piece.stop - int(AFTER_S * fs)) for piece in pieces]
    graded = quality_apart([(piece.start, _samples(piece)) for piece in own], fs)
    rest = zip(find_beats_apart(pieces, fs), graded, fibrillating_apart(own, fs), baseline_apart(own, fs), strict=True)
    return [_Parts(piece, *found) for piece, found in zip(own, rest, strict=True)]


def _samples(piece: Piece) -> Floats:
    """Samples of a piece from start to stop; NaN where it has none."""
    out = np.full(piece.stop - piece.start, np.nan, np.float32)
    have = piece.samples[piece.start - piece.first : piece.stop - piece.first]
    out[: len(have)] = have
    return out


Found = tuple[Block, NDArray[np.int64], NDArray[Any]]


def _evidence(piece: Piece, parts: _Parts, fs: float) -> Found:
    """The block without classes, and the beats ahead of it with their forms."""
    own, at, grade = parts.own, parts.beats, parts.grade
    low = max(0, own.start - piece.first - int(REACH_S * fs))
    cut = cut_forms(piece.samples[low:], fs, at, piece.first + low)
    inside = int(np.searchsorted(at, own.stop))
    block = Block(
        at[:inside], _NO_KINDS, present_runs(_samples(own)), str(grade.grade.value),
        str(grade.reason.value) if grade.reason is not None else None, believed(grade, inside) or bool(parts.waves),
        tuple(parts.waves), parts.baseline, cut[:inside],
    )  # fmt: skip
    return block, at[inside:], cut[inside:]


def _lines(task: Task, found: Mapping[int, Found]) -> list[tuple[NDArray[np.int64], NDArray[Any], slice]]:
    """For each block its beats among those before and ahead, with their forms, and which of them are its own."""
    lines = []
    for number, (block, ahead, ahead_forms) in found.items():
        beats, shapes = [], []
        for near in range(number - CONTEXT, number):
            other = found[near][0] if near in found else task.before.get(near)
            if other is not None and other.forms is not None:
                beats.append(other.beats)
                shapes.append(other.forms)
        before = sum(map(len, beats))
        assert block.forms is not None
        lines.append(
            (
                np.concatenate([*beats, block.beats, ahead]), np.concatenate([*shapes, block.forms, ahead_forms]),
                slice(before, before + len(block.beats)),
            )
        )  # fmt: skip
    return lines


def present_runs(samples: Floats) -> tuple[tuple[int, int], ...]:
    """Where samples are there: [from, to)."""
    return tuple((low, high) for low, high in true_runs(~np.isnan(samples)).tolist())
