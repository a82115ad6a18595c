"""The whole analysis of many signals at once: quality, beats, classes, rhythm and variability.

What is done sample by sample is one pass over all signals. A signal's result does not depend on its neighbours in the
batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal import baseline as cells
from vitalgate.signal.beats import find_beats
from vitalgate.signal.classes import classify_forms
from vitalgate.signal.company import put_apart
from vitalgate.signal.forms import cut_forms
from vitalgate.signal.grid import Index, as_signals, true_runs
from vitalgate.signal.hrv import TimeDomain, time_domain
from vitalgate.signal.pieces import RhythmEvent
from vitalgate.signal.quality import Stretch, signal_quality
from vitalgate.signal.rhythm import Baseline, known_intervals
from vitalgate.signal.timeline import Timeline, believed, rhythm_pieces
from vitalgate.signal.ventricular import fibrillating

#: Passes over so many samples stay in the processor's cache.
_PASS_SAMPLES = 400_000
_PASS_BEATS = 2_000


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found in one signal.

    Attributes
    ----------
    beats, kinds
        (n,) samples of the R peaks, and their classes.
    quality
        The grade of each 10 s.
    events
        Rhythm events, each whole. (Atrial fibrillation is told by ``fibrillation`` and ``episodes``.)
    variability
        Of the intervals between normal beats, over the whole signal.
    """

    beats: Index
    kinds: NDArray[np.str_]
    quality: list[Stretch]
    events: list[RhythmEvent]
    variability: TimeDomain


def analyse(signals: ArrayLike, fs: float) -> list[Analysis]:
    """Analyse signals of one sampling rate.

    Parameters
    ----------
    signals
        (n_signals, n_samples) or (n_samples,) for one, mV; NaN where missing. Sample 0 begins the recording.
    fs
        Sampling rate, 100 to 1000 Hz.

    Raises
    ------
    ValueError
        If the rate is outside 100..1000 Hz, or signals have more than two dimensions.
    """
    array = as_signals(signals)
    beats = find_beats(array, fs)
    kinds = _kinds(array, fs, beats)
    found: list[Analysis] = []
    together = max(1, _PASS_SAMPLES // max(1, array.shape[1]))
    for low in range(0, array.shape[0], together):
        rows = array[low : low + together]
        count = int(rows.shape[1] // (cells.CELL_S * fs))
        level = cells.baseline_cells(rows, fs, 0, 0, count)
        for k, (quality, waves) in enumerate(zip(signal_quality(rows, fs), fibrillating(rows, fs), strict=True)):
            at, own = beats[low + k], kinds[low + k]
            present = ~np.isnan(rows[k])
            for stretch in quality:
                inside = int(np.searchsorted(at, stretch.offset) - np.searchsorted(at, stretch.onset))
                wave = any(w.onset < stretch.offset and w.offset > stretch.onset for w in waves)
                if not believed(stretch, inside) and not wave:
                    present[stretch.onset : stretch.offset] = False
            timeline = Timeline(at, own, true_runs(present), Baseline(level[k], 0), waves)
            events = rhythm_pieces(timeline, fs, [0, max(1, rows.shape[1])])[0]
            found.append(Analysis(at, own, quality, events, _variability(timeline, fs)))
    return found


def _kinds(array: NDArray[Any], fs: float, beats: list[Index]) -> list[NDArray[np.str_]]:
    """The classes of all beats, judged together as those of several people."""
    kinds: list[NDArray[np.str_]] = []
    while len(kinds) < len(beats):
        some = slice(len(kinds), len(kinds) + 1)
        while some.stop < len(beats) and sum(map(len, beats[some])) < _PASS_BEATS:
            some = slice(some.start, some.stop + 1)
        forms = np.concatenate([cut_forms(row, fs, at) for row, at in zip(array[some], beats[some], strict=True)])
        together = classify_forms(forms, put_apart(beats[some], fs), fs).kinds
        kinds += np.split(together, np.cumsum([len(at) for at in beats[some]])[:-1])
    return kinds


def _variability(timeline: Timeline, fs: float) -> TimeDomain:
    odd = np.isin(timeline.kinds, ("V", "F"))
    known = known_intervals(timeline.beats, fs, timeline.present) & ~(odd[1:] | odd[:-1])
    return time_domain(np.where(known, np.diff(timeline.beats) * 1000 / fs, np.nan))
