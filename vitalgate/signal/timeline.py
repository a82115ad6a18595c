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
from vitalgate.signal.pieces import RhythmEvent, by_stretch
from vitalgate.signal.quality import Grade, Reason, Stretch, signal_quality
from vitalgate.signal.rhythm import AFTER_S as RATES_S
from vitalgate.signal.rhythm import Baseline, known_intervals, rate_pieces
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
        Where there is signal that is believed; its first element is absolute sample ``first``.
    baseline
        Cells of the baseline; None when they are not known, and every silence is believed.
    fibrillating
        Stretches of ventricular fibrillation.
    """

    beats: NDArray[np.int64]
    kinds: NDArray[np.str_]
    present: NDArray[np.bool_]
    first: int
    baseline: Baseline | None
    fibrillating: Sequence[Fibrillating]


def rhythm_pieces(timeline: Timeline, fs: float, edges: Sequence[int]) -> list[list[RhythmEvent]]:
    """The events of successive stretches, between each two neighbours of ``edges``, by onset."""
    at, kinds, present = timeline.beats, timeline.kinds, timeline.present
    if timeline.fibrillating:
        present = present.copy()
        for wave in timeline.fibrillating:
            present[max(0, wave.onset - timeline.first) : max(0, wave.offset - timeline.first)] = False
        inside = np.clip(at - timeline.first, 0, max(0, len(present) - 1))
        outside = present[inside] if len(present) else np.zeros(len(at), np.bool_)
        at, kinds = at[outside], kinds[outside]
    rates = rate_pieces(at, fs, edges, present=present, first=timeline.first, baseline=timeline.baseline)
    known = known_intervals(at, fs, present, timeline.first)
    ectopy = ectopy_pieces(at, kinds, fs, edges, known)
    found = [RhythmEvent("vf", wave.onset, wave.offset, wave.per_min, "/min") for wave in timeline.fibrillating]
    waves = by_stretch(found, edges, fs)
    return [sorted([*a, *b, *c], key=lambda e: (e.onset, e.kind)) for a, b, c in zip(rates, ectopy, waves, strict=True)]


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
    timeline = Timeline(at, classes, present, 0, baseline, waves)
    return rhythm_pieces(timeline, fs, [0, len(samples)])[0]
