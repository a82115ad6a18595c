"""Atrial fibrillation of a line: a verdict on each block, episodes from verdicts, and the burden. Pure.

The verdict on a block is that of the 30 beats about its middle (``signal.episodes``), so it needs AFTER blocks behind
it; an episode needs three blocks, and the EPISODE verdicts on either side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal import episodes as blocks
from vitalgate.signal.episodes import HALF_BEATS, episodes, middle_window
from vitalgate.signal.quality import Grade
from vitalgate.signal.rhythm import heart_rate, known_intervals
from vitalgate.stream.analysis_block import Block
from vitalgate.stream.analysis_clock import BlockClock
from vitalgate.stream.analysis_features import FeatureResult, timeline_of
from vitalgate.stream.analysis_grid import blocks_in, start_of
from vitalgate.stream.analysis_line import Key
from vitalgate.stream.analysis_models import FIBRILLATION_AFTER_S, FIBRILLATION_BEFORE_S, fibrillating_windows

#: Verdicts on either side that an episode hangs on.
EPISODE = blocks.AROUND
#: Blocks that a verdict looks at: from the middle of its block.
BEFORE, AFTER = blocks_in(FIBRILLATION_BEFORE_S - 5.0), blocks_in(FIBRILLATION_AFTER_S - 5.0)
#: Episodes of a block hang on blocks from REACH_BEFORE before it to REACH_AFTER after it.
REACH_BEFORE, REACH_AFTER = BEFORE + EPISODE, AFTER + EPISODE
#: Share of a window that must be analysable for its burden to be told.
LEAST_COVERAGE = 0.5
NAME, VERDICT = "event.af", "af.window"
BURDEN = ("af.burden", "af.coverage")


@dataclass(frozen=True)
class Verdict:
    """On one block: ``withheld`` when it cannot be told."""

    positive: bool
    withheld: bool


@dataclass(frozen=True, eq=False)
class Question:
    """The window about the middle of a block: all beats that may be looked at, and the first of the 30."""

    beats: NDArray[np.int64]
    kinds: NDArray[np.str_]
    forms: NDArray[Any]
    first: int


def question(number: int, near: Mapping[int, Block], fs: float) -> Question | None:
    """The window that decides on a block; None when it cannot be told."""
    block = near.get(number)
    if block is None or not block.believed or block.quality == Grade.BAD.value:
        return None
    timeline = timeline_of(near, range(number - BEFORE, number + AFTER + 1), fs)
    middle = (start_of(number, fs) + start_of(number + 1, fs)) // 2
    first = middle_window(timeline.beats, fs, middle)
    if first is None:
        return None
    window = timeline.beats[first : first + 2 * HALF_BEATS + 1]
    if any(wave.onset < window[-1] and wave.offset > window[0] for wave in timeline.fibrillating):
        return None
    if not known_intervals(window, fs, timeline.present).all():
        return None
    numbers = range(number - BEFORE, number + AFTER + 1)
    shapes = [near[k].forms for k in numbers if k in near and near[k].believed and len(near[k].beats)]
    cut = np.concatenate([shape for shape in shapes if shape is not None])
    return Question(timeline.beats, timeline.kinds, cut, first)


def answerable(number: int, near: Mapping[int, Block]) -> bool:
    """Whether the forms of all beats that a verdict looks at are there."""
    blocks = (near[k] for k in range(number - BEFORE, number + AFTER + 1) if k in near)
    return all(block.forms is not None or not len(block.beats) for block in blocks)


def verdicts(questions: Sequence[Question | None], fs: float) -> list[Verdict]:
    """Answer many at once."""
    asked = [(q.beats, q.kinds, q.forms, q.first) for q in questions if q is not None]
    said = iter(fibrillating_windows(asked, fs).tolist())
    return [Verdict(False, True) if q is None else Verdict(next(said), False) for q in questions]


def verdict_features(key: Key, known: Mapping[int, Verdict], clock: BlockClock, revision: int) -> list[FeatureResult]:
    """af.window of each block: 1 or 0, None when it is withheld. After a restart verdicts are read back from these."""
    found = []
    for number, verdict in known.items():
        start, stop = start_of(number, key.fs), start_of(number + 1, key.fs)
        value = None if verdict.withheld else float(verdict.positive)
        times = clock(start), clock.end(stop)
        found.append(FeatureResult(key, VERDICT, start, stop, *times, value, "1", revision=revision))
    return found


def in_episode(wanted: range, known: Mapping[int, Verdict]) -> dict[int, bool]:
    """Which blocks of a range belong to an episode; a block that is not known yet is none."""
    numbers = range(wanted.start - EPISODE, wanted.stop + EPISODE)
    unknown = Verdict(False, True)
    found = [known.get(number, unknown) for number in numbers]
    said = episodes([v.positive for v in found], [v.withheld for v in found])
    return {number: bool(said[number - numbers.start]) for number in wanted}


def episode_features(
    key: Key, inside: Mapping[int, bool], near: Mapping[int, Block], clock: BlockClock, revision: int
) -> list[FeatureResult]:
    """A piece of event.af for each block inside; value: the mean rate over the block and its neighbours."""
    fs = key.fs
    found = []
    for number in (number for number, within in inside.items() if within and number in near):
        timeline = timeline_of(near, range(number - 1, number + 2), fs)
        rate = heart_rate(timeline.beats, fs)
        start, stop = start_of(number, fs), start_of(number + 1, fs)
        value = None if math.isnan(rate) else round(rate, 1)
        found.append(
            FeatureResult(key, NAME, start, stop, clock(start), clock.end(stop), value, "/min", revision=revision)
        )
    return found


def burden_features(
    key: Key, members: range, known: Mapping[int, Verdict], clock: BlockClock, revision: int
) -> list[FeatureResult]:
    """af.burden (share of the analysable blocks of a window that are in an episode) and af.coverage, both %."""
    told = [number for number in members if number in known and not known[number].withheld]
    if not any(number in known for number in members):
        return []
    inside = in_episode(members, known)
    start, stop = start_of(members.start, key.fs), start_of(members.stop, key.fs)
    times = clock(start), clock.end(stop)
    coverage = len(told) / len(members)
    found = [FeatureResult(key, "af.coverage", start, stop, *times, round(100 * coverage, 1), "%", revision=revision)]
    if coverage >= LEAST_COVERAGE:
        burden = sum(inside[number] for number in told) / len(told)
        found.append(
            FeatureResult(key, "af.burden", start, stop, *times, round(100 * burden, 1), "%", revision=revision)
        )
    return found
