"""The rhythm of a signal over time: every event of successive stretches, from beats, their classes and the signal.

Rates and pauses (``rhythm``), ventricular rhythms (``ectopy``) and ventricular fibrillation (``ventricular``) put
together: in fibrillation there are no beats to speak of, so nothing else is told there. Atrial fibrillation comes in
blocks (``episodes``) and is the caller's to add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal import baseline as cells
from vitalgate.signal.classes import classify_beats
from vitalgate.signal.ectopy import AFTER_S as ECTOPY_S
from vitalgate.signal.ectopy import ectopy_pieces
from vitalgate.signal.grid import true_runs
from vitalgate.signal.pieces import RhythmEvent, by_stretch
from vitalgate.signal.quality import Grade, Reason, Stretch, signal_quality
from vitalgate.signal.rhythm import AFTER_S as RATES_S
from vitalgate.signal.rhythm import (
    BRADYCARDIA_PER_MIN,
    TACHYCARDIA_PER_MIN,
    Baseline,
    known_intervals,
    rate_pieces,
)
from vitalgate.signal.ventricular import Fibrillating, fibrillating

#: Events of a stretch depend on what is known of the signal within this of it.
AROUND_S = max(ECTOPY_S, RATES_S)


@dataclass(frozen=True, eq=False)
class Timeline:
    """What is known of one signal.

    Attributes
    ----------
    beats, kinds
        (n,) absolute samples of R peaks and their classes.
    present
        (n, 2) stretches [from, to) of absolute samples where there is signal that is believed; none touch.
    baseline
        Cells of the baseline; None when they are not known, and every silence is believed.
    fibrillating
        Stretches of ventricular fibrillation.
    """

    beats: NDArray[np.int64]
    kinds: NDArray[np.str_]
    present: NDArray[np.int64]
    baseline: Baseline | None
    fibrillating: Sequence[Fibrillating]


def rhythm_pieces(timeline: Timeline, fs: float, edges: Sequence[int]) -> list[list[RhythmEvent]]:
    """The events of successive stretches, between each two neighbours of ``edges``, by onset."""
    at, kinds, present = timeline.beats, timeline.kinds, timeline.present
    if _uneventful(timeline, fs, edges):
        return [[] for _ in edges[1:]]
    if timeline.fibrillating:
        waves = np.array([(wave.onset, wave.offset) for wave in timeline.fibrillating], np.int64)
        present = without(present, waves)
        inside = np.searchsorted(waves[:, 0], at, side="right") - 1
        outside = (inside < 0) | (at >= waves[np.maximum(inside, 0), 1])
        at, kinds = at[outside], kinds[outside]
    rates = rate_pieces(at, fs, edges, present=present, baseline=timeline.baseline)
    known = known_intervals(at, fs, present)
    ectopy = ectopy_pieces(at, kinds, fs, edges, known)
    found = [RhythmEvent("vf", wave.onset, wave.offset, wave.per_min, "/min") for wave in timeline.fibrillating]
    whole = by_stretch(found, edges, fs)
    return [sorted([*a, *b, *c], key=lambda e: (e.onset, e.kind)) for a, b, c in zip(rates, ectopy, whole, strict=True)]


def _uneventful(timeline: Timeline, fs: float, edges: Sequence[int]) -> bool:
    """Whether nothing can be found, told cheaply: unbroken signal, no beat out of order, no interval too long or short.

    Most hearts are like that most of the time.
    """
    at = timeline.beats
    if timeline.fibrillating or len(timeline.present) != 1 or len(at) < 2 or (timeline.kinds == "V").any():
        return False
    [[begin, end]] = timeline.present.tolist()
    if begin > edges[0] or end < edges[-1]:
        return False
    rr = np.diff(at)
    longest = max(int(rr.max()), int(at[0]) - begin, end - int(at[-1]))
    return longest <= 60 * fs / BRADYCARDIA_PER_MIN and int(rr.min()) >= 60 * fs / TACHYCARDIA_PER_MIN


def without(runs: NDArray[np.int64], holes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stretches less others; both (n, 2), in order, none of either overlapping its like."""
    found = []
    for begin, end in runs.tolist():
        for low, high in holes.tolist():
            if low < end and high > begin:
                if low > begin:
                    found.append((begin, low))
                begin = max(begin, high)
        if begin < end:
            found.append((begin, end))
    return np.array(found, np.int64).reshape(-1, 2)


def believed(stretch: Stretch, beats: int) -> bool:
    """Whether rate and rhythm are told from a stretch: not where it is clipped, nor where an electrode is off.

    A long pause makes a stretch look flat or noisy, so with beats in it, it is believed; its quality is given with it.
    Without beats it is believed when it is good, or silent: a heart that stands still leaves a line that moves a
    little, a loose electrode one that does not, or jumps to the rail.
    """
    if stretch.grade is not Grade.BAD or stretch.reason is Reason.SILENT:
        return True
    return stretch.reason is not Reason.SATURATED and beats > 0


def rhythm_of_signal(
    signal: ArrayLike, fs: float, beats: ArrayLike, kinds: ArrayLike | None = None
) -> list[RhythmEvent]:
    """Every event of a whole recording, each in one piece.

    Parameters
    ----------
    signal
        (n_samples,) mV, NaN where missing.
    beats
        Samples of its R peaks, increasing.
    kinds
        Their classes; by default those of ``classify_beats``.
    """
    samples = np.asarray(signal).ravel()
    at = np.asarray(beats, np.int64).ravel()
    if not len(samples):
        return []
    present = ~np.isnan(samples)
    waves = fibrillating(samples, fs)[0]
    in_wave = np.zeros(len(samples), np.bool_)
    for wave in waves:
        in_wave[wave.onset : wave.offset] = True
    for stretch in signal_quality(samples, fs)[0]:
        inside = int(np.searchsorted(at, stretch.offset) - np.searchsorted(at, stretch.onset))
        if not believed(stretch, inside) and not in_wave[stretch.onset : stretch.offset].any():
            present[stretch.onset : stretch.offset] = False
    classes = classify_beats(samples, fs, at).kinds if kinds is None else np.asarray(kinds, np.str_)
    count = int(len(samples) // (cells.CELL_S * fs))
    baseline = Baseline(cells.baseline_cells(samples[np.newaxis], fs, 0, 0, count)[0], 0)
    timeline = Timeline(at, classes, true_runs(present), baseline, waves)
    return rhythm_pieces(timeline, fs, [0, len(samples)])[0]
