"""Urgent events (asystole, ventricular fibrillation and tachycardia) before their block is final. Pure.

What is told here is provisional: beats near the end of the samples are found with less behind them than the detector
looks at in the end. It is replaced, or taken back, when the block is final.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal.apart import Piece, baseline_apart, fibrillating_apart, find_beats_apart
from vitalgate.signal.ectopy import VT_PER_MIN
from vitalgate.signal.grid import average
from vitalgate.signal.qrs import plan_for, qrs_energy
from vitalgate.signal.quality import STRETCH_S, Stretch, signal_quality
from vitalgate.signal.rhythm import ASYSTOLE_S
from vitalgate.signal.timeline import believed
from vitalgate.signal.ventricular import Fibrillating
from vitalgate.stream.analysis_block import CONTEXT, Block, present_runs
from vitalgate.stream.analysis_clock import BlockClock
from vitalgate.stream.analysis_features import URGENT, FeatureResult, event_features, revision_of
from vitalgate.stream.analysis_grid import block_of, start_of
from vitalgate.stream.analysis_models import cut_forms, kinds_of
from vitalgate.stream.analysis_state import State

#: A line is looked at when so much has come since the last time, seconds.
STEP_S = 1.5
#: What is not final goes back 18 s at most; the detector is given so much before it.
WANTED_S, BEFORE_S = 18.0, 8.0
#: The first look is at so many seconds, of which three in a row are quiet, or the last ones filled.
CELLS, FILLED_CELLS = 8, 4
_QUIET, _FILLED = 0.35, 0.28
_NAMES = tuple(f"event.{kind}" for kind in sorted(URGENT))


@dataclass(frozen=True, eq=False)
class _Look:
    """What the newest samples of a line show."""

    state: State
    piece: Piece
    beats: NDArray[np.int64]
    waves: list[Fibrillating]
    kinds: NDArray[np.str_]

    @property
    def suspect(self) -> bool:
        """Whether there may be something to tell: only then quality and baseline are asked for."""
        odd = self.kinds == "V"
        return (
            bool(self.waves)
            or _silent(self.piece.start, self.state.line.high, self.beats, self.state.key.fs)
            or bool((odd[2:] & odd[1:-1] & odd[:-2]).any())
        )


def urgent(states: Sequence[State], fs: float) -> list[FeatureResult]:
    """Look at lines of one rate; gives what changed."""
    for state in states:
        state.live_high = state.line.high
    looks = _look([state for state, worth in zip(states, _worth(states, fs), strict=True) if worth], fs)
    suspects = [look for look in looks if look.suspect]
    believed = dict(zip(map(id, suspects), _believed(suspects, fs), strict=True))
    found: list[FeatureResult] = []
    for look in looks:
        state = look.state
        fresh: dict[tuple[str, int], FeatureResult] = {}
        wanted = range(max(0, state.last_ready() + 1), block_of(state.line.high - 1, fs) + 1)
        revision = revision_of(state.offset, provisional=True)
        state.live = {}
        if id(look) in believed:
            state.live = _blocks(look, wanted, believed[id(look)])
            near = {**state.live, **state.blocks}
            clock = BlockClock(state.line, state.anchors)
            events = event_features(state.key, wanted, near, clock, revision, URGENT, provisional=True)
            fresh = {feature.identity: feature for feature in events}
        found += state.differing(fresh)
        if any(feature.provisional for feature in state.features.values()):
            inside = range(start_of(wanted.start, fs), state.line.high).__contains__
            found += state.withdrawn(fresh, inside, _NAMES, revision, provisional=True)
    return found


def _worth(states: Sequence[State], fs: float) -> list[bool]:
    """Whether lines are worth a look: seconds without a complex, a filled trace, or something was told before.

    That costs a fraction of finding beats. A rhythm that is fast and wide fills its time with QRS energy: its mean is
    0.28 of its largest value or more in runs of ventricular tachycardia of the given MIT-BIH records that last.
    """
    plan = plan_for(fs)
    cell, halo = plan.bins(1.0), plan.bins(0.3)
    size = (CELLS * cell + 2 * halo) * plan.factor
    rows = np.full((len(states), size), np.nan, np.float32)
    for row, state in zip(rows, states, strict=True):
        high = state.line.high
        first = max(0, high - size)
        row[size - (high - first) :] = state.line.window(first, high)
    energy, _ = qrs_energy(average(rows, 0, 0, size, plan.factor)[0], plan)
    cells = energy[:, halo : halo + CELLS * cell].reshape(len(states), CELLS, cell)
    largest = cells.max(axis=2)
    quiet = largest < _QUIET * largest.max(axis=1, keepdims=True)
    silent = (quiet[:, 2:] & quiet[:, 1:-1] & quiet[:, :-2]).any(axis=1)
    recent = slice(CELLS - FILLED_CELLS, CELLS)
    filled = cells[:, recent].mean(axis=(1, 2)) >= _FILLED * largest[:, recent].max(axis=1)
    return [
        bool(told) or bool(state.live) or any(feature.provisional for feature in state.features.values())
        for state, told in zip(states, silent | filled, strict=True)
    ]


def _look(states: Sequence[State], fs: float) -> list[_Look]:
    """Beats and fibrillation of all, and classes where beats are fast."""
    pieces = [_piece(state) for state in states]
    beats = find_beats_apart(pieces, fs)
    fast = [k for k, at in enumerate(beats) if _fast(at, fs)]
    classed = dict(zip(fast, _kinds([(states[k], pieces[k], beats[k]) for k in fast], fs), strict=True))
    return [
        _Look(state, piece, at, waves, classed.get(k, np.full(len(at), "N")))
        for k, (state, piece, at, waves) in enumerate(
            zip(states, pieces, beats, fibrillating_apart(pieces, fs), strict=True)
        )
    ]


def _believed(looks: Sequence[_Look], fs: float) -> list[tuple[Stretch, bool]]:
    """Grade of the newest 10 s of each, and whether they are believed."""
    size = round(STRETCH_S * fs)
    rows = np.full((len(looks), size), np.nan, np.float32)
    for row, look in zip(rows, looks, strict=True):
        recent = look.piece.samples[: look.state.line.high - look.piece.first][-size:]
        row[size - len(recent) :] = recent
    graded = [own[0] for own in signal_quality(rows, fs)] if looks else []
    return [
        (grade, bool(look.waves) or believed(grade, int((look.beats >= look.state.line.high - size).sum())))
        for look, grade in zip(looks, graded, strict=True)
    ]


def _piece(state: State) -> Piece:
    """The newest samples, to the next whole second, so that many lines can be looked at together."""
    fs, high = state.key.fs, state.line.high
    stop = round(math.ceil(high / fs) * fs)
    first, start = (max(0, stop - round(seconds * fs)) for seconds in (WANTED_S + BEFORE_S, WANTED_S))
    return Piece(state.line.window(first, stop), first, start, stop)


def _silent(start: int, high: int, beats: NDArray[np.int64], fs: float) -> bool:
    edges = np.concatenate([[start], beats, [high]])
    return bool(np.diff(edges).max() >= ASYSTOLE_S * fs - 1)


def _fast(beats: NDArray[np.int64], fs: float) -> bool:
    """Four beats at the rate of a ventricular tachycardia, in what is not final: classes cost most of all."""
    return len(beats) >= 4 and bool((beats[3:] - beats[:-3] <= 3 * 60 / VT_PER_MIN * fs).any())


def _blocks(look: _Look, wanted: range, trust: tuple[Stretch, bool]) -> dict[int, Block]:
    """The blocks that are not final, as far as there are samples."""
    fs, piece, beats = look.state.key.fs, look.piece, look.beats
    grade, trusted = trust
    pieces = [Piece(piece.samples, piece.first, start_of(number, fs), start_of(number + 1, fs)) for number in wanted]
    found = {}
    for number, own, cells in zip(wanted, pieces, baseline_apart(pieces, fs), strict=True):
        low, high = own.start, own.stop
        inside = (beats >= low) & (beats < high)
        samples = np.full(high - low, np.nan, np.float32)
        begin, end = max(low, piece.first), min(high, piece.first + len(piece.samples))
        if begin < end:
            samples[begin - low : end - low] = piece.samples[begin - piece.first : end - piece.first]
        waves = tuple(
            Fibrillating(max(wave.onset, low), min(wave.offset, high), wave.per_min)
            for wave in look.waves
            if wave.onset < high and wave.offset > low
        )
        found[number] = Block(
            beats[inside], look.kinds[inside], present_runs(samples), str(grade.grade.value), None, trusted, waves,
            cells, None,
        )  # fmt: skip
    return found


def _kinds(lines: Sequence[tuple[State, Piece, NDArray[np.int64]]], fs: float) -> list[NDArray[np.str_]]:
    """Classes, by the beats of the final blocks before; N in these, which is not looked at."""
    asked = []
    for state, piece, beats in lines:
        first = state.last_ready() + 1
        own = beats[beats >= start_of(first, fs)]
        context = [state.blocks[k] for k in range(first - CONTEXT, first) if k in state.blocks]
        context = [block for block in context if block.forms is not None]
        before = sum(len(block.beats) for block in context)
        shapes = [block.forms for block in context if block.forms is not None]
        asked.append(
            (
                np.concatenate([*(block.beats for block in context), own]),
                np.concatenate([*shapes, cut_forms(piece.samples, fs, own, piece.first)]),
                slice(before, before + len(own)),
            )
        )
    return [
        np.concatenate([np.full(len(beats) - len(kinds), "N"), kinds])
        for (_, _, beats), kinds in zip(lines, kinds_of(asked, fs), strict=True)
    ]
