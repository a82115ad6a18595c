"""Features of finished blocks: heart rate, quality and the pieces of rhythm events. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from vitalgate.signal import rhythm
from vitalgate.signal.apart import UNKNOWN
from vitalgate.signal.quality import Grade
from vitalgate.signal.rhythm import Baseline
from vitalgate.signal.timeline import AROUND_S, Timeline, rhythm_pieces
from vitalgate.stream.analysis_block import CELLS, Block
from vitalgate.stream.analysis_clock import BlockClock
from vitalgate.stream.analysis_grid import blocks_in, start_of
from vitalgate.stream.analysis_line import Key

ALGORITHM = "vg-rhythm"
ALGORITHM_VERSION = "3"

#: Events of a block hang on so many blocks on either side.
AROUND = blocks_in(AROUND_S)
#: Quality as a number: what `quality` has for a value.
QUALITY = {Grade.GOOD.value: 1.0, Grade.USABLE.value: 0.5, Grade.BAD.value: 0.0}
#: Events that hang on the classes of single beats: not told of bad signal, on which a class says nothing. In the noise
#: of NSTDB all but a few are false. What endangers life is told all the same: it looks like bad signal by itself.
CLASSED = frozenset({"couplet", "v_run", "vt", "bigeminy", "trigeminy"})
#: Events that are given before their block is final.
URGENT = frozenset({"asystole", "vf", "vt", "vt_sustained"})


@dataclass(frozen=True)
class FeatureResult:
    """One feature to be published; replaces what was published under the same identity."""

    key: Key
    name: str
    first_sample: int
    stop_sample: int
    start_us: int
    end_us: int
    value: float | None
    unit: str
    withdrawn: bool = False
    revision: int = field(default=0, compare=False)
    reason: str | None = None
    """Why the signal is not good; of `quality` only."""
    provisional: bool = False
    """True: given before its block was final; not stored, and replaced or taken back."""

    @property
    def identity(self) -> tuple[str, int]:
        """Name and first sample: within its line there is one such feature."""
        return self.name, self.first_sample

    def withdraw(self, revision: int) -> FeatureResult:
        """The same feature, taken back."""
        return replace(self, withdrawn=True, value=None, revision=revision)


def revision_of(offset: int, provisional: bool = False) -> int:
    """What is final stands above what was provisional by the same input."""
    return 2 * offset + (not provisional)


def timeline_of(near: Mapping[int, Block], numbers: range, fs: float) -> Timeline:
    """What is known of successive blocks; of those that are not there or not believed nothing is present."""
    present: list[tuple[int, int]] = []
    cells = np.full(len(numbers) * CELLS, UNKNOWN, np.int16)
    blocks = [(number, near[number]) for number in numbers if number in near and near[number].believed]
    for number, block in blocks:
        low = start_of(number, fs)
        for begin, end in block.runs:
            if present and present[-1][1] == low + begin:
                present[-1] = (present[-1][0], low + end)
            else:
                present.append((low + begin, low + end))
        at = (number - numbers.start) * CELLS
        cells[at : at + CELLS] = block.baseline
    baseline = np.where(cells == UNKNOWN, np.nan, cells / np.float32(100)).astype(np.float32)
    return Timeline(
        beats=np.concatenate([np.empty(0, np.int64), *(block.beats for _, block in blocks)]),
        kinds=np.concatenate([np.empty(0, "<U1"), *(block.kinds for _, block in blocks)]),
        present=np.array(present, np.int64).reshape(-1, 2),
        baseline=Baseline(baseline, numbers.start * CELLS),
        fibrillating=[wave for _, block in blocks for wave in block.waves],
    )


def block_features(
    key: Key, wanted: range, near: Mapping[int, Block], clock: BlockClock, revision: int
) -> list[FeatureResult]:
    """Quality and heart rate of the blocks of a range that are there, and the pieces of rhythm events in them.

    Parameters
    ----------
    near
        These blocks and what is known of AROUND blocks on either side.

    Returns
    -------
    Of a block whose signal is not believed only the quality: rate and rhythm are withheld.
    """
    found = []
    for number in wanted:
        if number in near:
            found += _plain(key, number, near[number], clock, revision)
    return found + event_features(key, wanted, near, clock, revision)


def _plain(key: Key, number: int, block: Block, clock: BlockClock, revision: int) -> list[FeatureResult]:
    start, stop = start_of(number, key.fs), start_of(number + 1, key.fs)
    if not block.present:
        return []
    times = clock(start), clock.end(stop)
    grade = FeatureResult(
        key, "quality", start, stop, *times, QUALITY[block.quality], "1", revision=revision, reason=block.reason
    )
    rate = rhythm.heart_rate(block.beats, key.fs) if block.believed and not block.waves else math.nan
    if math.isnan(rate):
        return [grade]
    return [grade, FeatureResult(key, "heart_rate", start, stop, *times, round(rate, 2), "/min", revision=revision)]


def event_features(
    key: Key,
    wanted: range,
    near: Mapping[int, Block],
    clock: BlockClock,
    revision: int,
    kinds: frozenset[str] | None = None,
    provisional: bool = False,
) -> list[FeatureResult]:
    """The pieces of rhythm events in the blocks of a range that are there and believed; of these ``kinds`` if given."""
    fs = key.fs
    timeline = timeline_of(near, range(wanted.start - AROUND, wanted.stop + AROUND), fs)
    edges = [start_of(number, fs) for number in range(wanted.start, wanted.stop + 1)]
    found = []
    for number, events in zip(wanted, rhythm_pieces(timeline, fs, edges), strict=True):
        if number not in near or not near[number].believed:
            continue
        bad = near[number].quality == Grade.BAD.value
        found += [
            FeatureResult(
                key, f"event.{event.kind}", event.onset, event.offset, clock(event.onset), clock.end(event.offset),
                round(event.value, 3), event.unit, revision=revision, provisional=provisional,
            )
            for event in events
            if (kinds is None or event.kind in kinds) and not (bad and event.kind in CLASSED)
        ]  # fmt: skip
    return found
