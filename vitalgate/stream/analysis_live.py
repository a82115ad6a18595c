"""Urgent events (asystole, ventricular fibrillation and tachycardia) before their block is final. Pure.

What is told here is provisional: beats near the end of the samples are found with less behind them than the detector
looks at in the end. It is replaced, or taken back, when the block is final.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal.apart import Piece, baseline_apart, fibrillating_apart, find_beats_apart
from vitalgate.signal.ectopy import VT_PER_MIN
from vitalgate.signal.quality import STRETCH_S, signal_quality
from vitalgate.signal.rhythm import ASYSTOLE_S
from vitalgate.signal.timeline import believed
from vitalgate.signal.ventricular import Fibrillating
from vitalgate.stream.analysis_block import CONTEXT, Block, true_runs
from vitalgate.stream.analysis_clock import BlockClock
from vitalgate.stream.analysis_features import URGENT, FeatureResult, event_features, revision_of
from vitalgate.stream.analysis_grid import block_of, start_of
from vitalgate.stream.analysis_models import cut_forms, kinds_of
from vitalgate.stream.analysis_state import State

#: A line is looked at when so much has come since the last time, seconds.
STEP_S = 1.5
#: What is not final goes back 18 s at most; the detector is given so much before it.
WANTED_S, BEFORE_S = 18.0, 8.0
_NAMES = tuple(f"event.{kind}" for kind in sorted(URGENT))


def urgent(states: Sequence[State], fs: float) -> list[FeatureResult]:
    """Look at lines of one rate; gives what changed."""
    pieces = [_piece(state) for state in states]
    found = []
    for state, piece, beats, waves in zip(
        states, pieces, find_beats_apart(pieces, fs), fibrillating_apart(pieces, fs), strict=True
    ):
        state.live_high = state.line.high
        wanted = range(max(0, state.last_ready() + 1), block_of(state.line.high - 1, fs) + 1)
        suspect = bool(waves) or _silent(piece, beats, fs) or _fast(beats, fs)
        if suspect:
            state.live = _blocks(state, piece, wanted, beats, waves)
            near = {**state.live, **state.blocks}
            clock = BlockClock(state.line, state.anchors)
            revision = revision_of(state.offset, provisional=True)
            events = event_features(state.key, wanted, near, clock, revision, URGENT, provisional=True)
            fresh = {feature.identity: feature for feature in events}
        else:
            state.live, fresh = {}, {}
        found += state.differing(fresh)
        if any(feature.provisional for feature in state.features.values()):
            inside = range(start_of(wanted.start, fs), state.line.high).__contains__
            revision = revision_of(state.offset, provisional=True)
            found += state.withdrawn(fresh, inside, _NAMES, revision, provisional=True)
    return found


def _piece(state: State) -> Piece:
    fs, high = state.key.fs, state.line.high
    first, start = (max(0, high - round(seconds * fs)) for seconds in (WANTED_S + BEFORE_S, WANTED_S))
    return Piece(state.line.window(first, high), first, start, high)


def _silent(piece: Piece, beats: NDArray[np.int64], fs: float) -> bool:
    edges = np.concatenate([[piece.start], beats, [piece.stop]])
    return bool(np.diff(edges).max() >= ASYSTOLE_S * fs - 1)


def _fast(beats: NDArray[np.int64], fs: float) -> bool:
    """Three beats at the rate of a ventricular tachycardia."""
    return len(beats) >= 3 and bool((beats[2:] - beats[:-2] <= 2 * 60 / VT_PER_MIN * fs).any())


def _blocks(
    state: State, piece: Piece, wanted: range, beats: NDArray[np.int64], waves: list[Fibrillating]
) -> dict[int, Block]:
    """The blocks that are not final, as far as there are samples."""
    fs = state.key.fs
    recent = piece.samples[-round(STRETCH_S * fs) :]
    graded = signal_quality(recent, fs)[0]
    trusted = bool(graded) and believed(graded[0], int((beats >= piece.stop - len(recent)).sum()))
    kinds = _kinds(state, piece, beats) if _fast(beats, fs) else np.full(len(beats), "N")
    there = ~np.isnan(piece.samples)
    found = {}
    for number in wanted:
        low, high = start_of(number, fs), start_of(number + 1, fs)
        inside = (beats >= low) & (beats < high)
        present = np.zeros(high - low, np.bool_)
        begin, end = max(low, piece.first), min(high, piece.stop)
        present[begin - low : max(begin, end) - low] = there[begin - piece.first : max(begin, end) - piece.first]
        own = tuple(
            Fibrillating(max(w.onset, low), min(w.offset, high), w.per_min)
            for w in waves
            if w.onset < high and w.offset > low
        )
        [cells] = baseline_apart([Piece(piece.samples, piece.first, low, high)], fs)
        found[number] = Block(
            beats[inside], kinds[inside], true_runs(present), graded[0].grade.value if graded else "bad", None,
            trusted or bool(own), own, cells, None,
        )  # fmt: skip
    return found


def _kinds(state: State, piece: Piece, beats: NDArray[np.int64]) -> NDArray[np.str_]:
    """Classes by the beats of the final blocks before; the first of what is not final begins a block."""
    fs, first = state.key.fs, state.last_ready() + 1
    own = beats[beats >= start_of(first, fs)]
    context = [state.blocks[k] for k in range(first - CONTEXT, first) if k in state.blocks]
    context = [block for block in context if block.forms is not None]
    before = sum(len(block.beats) for block in context)
    shapes = [block.forms for block in context if block.forms is not None]
    [kinds] = kinds_of(
        [
            (
                np.concatenate([*(block.beats for block in context), own]),
                np.concatenate([*shapes, cut_forms(piece.samples, fs, own, piece.first)]),
                slice(before, before + len(own)),
            )
        ],
        fs,
    )
    return np.concatenate([np.full(len(beats) - len(own), "N"), kinds])
