"""What the models are trained and scored on: features with their reference labels, made from the databases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitalgate.scoring import databases
from vitalgate.scoring.databases import AAMI, Recording, Rhythm
from vitalgate.signal.beats import find_beats
from vitalgate.signal.scoring import Match, match_beats

AF, FLUTTER = "AFIB", "AFL"
WINDOW_BEATS = 30


@dataclass(frozen=True, eq=False)
class FoundBeats:
    """Our own beats of one lead, and the reference class of each.

    Attributes
    ----------
    beats
        Absolute samples.
    classes
        Reference class of each: N, S, V, F, Q; O where the reference has no beat, X in flutter, which is left out.
    missed
        Classes of the reference beats that were not found.
    """

    beats: NDArray[np.int64]
    classes: NDArray[np.str_]
    missed: tuple[str, ...]
    match: Match


def found_beats(recording: Recording, lead: int = 0) -> FoundBeats:
    """Find the beats of a lead and give each its reference class."""
    beats = find_beats(recording.signals[lead], recording.fs)[0]
    match = match_beats(recording.beats, beats, recording.fs, exclude=recording.flutter)
    classes = np.full(len(beats), "O", dtype="<U1")
    for begin, end in recording.flutter:
        classes[(beats >= begin) & (beats <= end)] = "X"
    classes[match.pairs[:, 1]] = [AAMI[symbol] for symbol in recording.symbols[match.pairs[:, 0]]]
    missed = tuple(AAMI[symbol] for symbol in recording.symbols[match.missed])
    return FoundBeats(beats, classes, missed, match)


def rhythm_of(beats: NDArray[np.int64], rhythms: tuple[Rhythm, ...]) -> NDArray[np.str_]:
    """The annotated rhythm at each beat; empty before the first annotation."""
    if not rhythms:
        return np.full(len(beats), "", dtype="<U8")
    onsets = np.array([rhythm.onset for rhythm in rhythms])
    labels = np.array([rhythm.label for rhythm in rhythms], dtype="<U8")
    at = np.searchsorted(onsets, beats, side="right") - 1
    return np.where(at >= 0, labels[np.maximum(at, 0)], "")


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of exactly 30 beats, one after the other.

    Attributes
    ----------
    rr
        (n, 30): the interval that begins at each beat, seconds.
    af
        Whether at least half of the beats are annotated as atrial fibrillation.
    flutter
        Whether any beat is annotated as atrial flutter: such a window is left out, and counted.
    start, stop
        Samples of the first beat, and of the one after the last.
    """

    rr: NDArray[np.float64]
    af: NDArray[np.bool_]
    flutter: NDArray[np.bool_]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]


def windows(beats: NDArray[np.int64], fs: float, rhythms: tuple[Rhythm, ...]) -> Windows:
    """Cut beats into windows of 30; the rest at the end is left."""
    count = max(0, (len(beats) - 1) // WINDOW_BEATS)
    used = count * WINDOW_BEATS
    labels = rhythm_of(beats[:used], rhythms).reshape(count, WINDOW_BEATS)
    return Windows(
        rr=(np.diff(beats[: used + 1]) / fs).reshape(count, WINDOW_BEATS),
        af=np.asarray((labels == AF).mean(axis=1) >= 0.5) if count else np.zeros(0, np.bool_),
        flutter=np.asarray((labels == FLUTTER).any(axis=1)),
        start=beats[:used:WINDOW_BEATS],
        stop=beats[WINDOW_BEATS : used + 1 : WINDOW_BEATS],
    )


def recordings(folder: Path) -> list[Recording]:
    """All records of an MIT-BIH-like folder."""
    return [databases.read_recording(folder, name) for name in databases.names(folder)]
