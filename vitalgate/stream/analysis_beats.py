"""The beats of one block as they are published. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitalgate.signal.rhythm import known_intervals
from vitalgate.stream.analysis_block import Block
from vitalgate.stream.analysis_clock import BlockClock
from vitalgate.stream.analysis_grid import start_of
from vitalgate.stream.analysis_line import Key

Listed = tuple[int, int, float | None, str]
"""(sample, time in us, RR in ms or None, class)."""


@dataclass(frozen=True)
class BeatsResult:
    """Beats of one block to be published; replaces what was published of it before."""

    key: Key
    number: int
    first_sample: int
    stop_sample: int
    start_us: int
    revision: int
    block: Block
    beats: tuple[Listed, ...]

    @property
    def digest(self) -> tuple[object, ...]:
        """What makes two results of one block the same."""
        return digest_of(self.block, self.beats)


def digest_of(block: Block, beats: tuple[Listed, ...]) -> tuple[object, ...]:
    """What makes two results of one block the same."""
    return (block.runs, block.quality, block.reason, block.believed, block.waves, block.baseline.tobytes(), beats)


def block_beats(
    key: Key, number: int, block: Block, before: Block | None, clock: BlockClock, revision: int
) -> BeatsResult:
    """The beats of a block with their times, classes and the intervals that they end."""
    rr = _intervals(key.fs, number, block, before)
    first = start_of(number, key.fs)
    listed = tuple(
        (sample, clock.packet_time(sample), interval, kind)
        for sample, interval, kind in zip(block.beats.tolist(), rr, block.kinds.tolist(), strict=True)
    )
    return BeatsResult(
        key, number, first, start_of(number + 1, key.fs), clock.packet_time(first), revision, block, listed
    )


def _intervals(fs: float, number: int, block: Block, before: Block | None) -> list[float | None]:
    """RR in ms that each beat of a block ends; None where signal is missing in between, or no beat is before."""
    if not len(block.beats):
        return []
    present: list[tuple[int, int]] = []
    for at, other in ((number - 1, before), (number, block)):
        low = start_of(at, fs)
        for begin, end in other.runs if other is not None else ():
            if present and present[-1][1] == low + begin:
                present[-1] = (present[-1][0], low + end)
            else:
                present.append((low + begin, low + end))
    beats = block.beats
    if before is not None and len(before.beats):
        beats = np.concatenate([before.beats[-1:], beats])
    known = known_intervals(beats, fs, np.array(present, np.int64).reshape(-1, 2))
    rr: list[float | None] = [
        round(float(length) * 1000 / fs, 3) if there else None
        for length, there in zip(np.diff(beats), known, strict=True)
    ]
    return rr if len(rr) == len(block.beats) else [None, *rr]
