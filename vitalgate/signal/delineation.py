"""P, QRS and T: onset, peak and offset of each beat in each lead.

1. Each beat is cut out with what is round it, and averaged with the beats like it (``complexes``).
2. All leads together say where the P and the T wave are, and whether there is a P wave (``waves``).
3. Each onset and offset is found lead by lead, by the lead's own signal and that of all leads (``boundaries``).
4. A peak is the largest deflection between the two: from the level before the QRS, for P and T from the line between
   their ends.

With a single lead the same steps see that lead alone. The boosted trees of steps 2 and 3 were trained on the
Lobachevsky University Database (``python -m vitalgate.scoring.train_delineation``), whose idea of where a wave begins
and ends they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal import boundaries, complexes, waves
from vitalgate.signal.beats import find_beats, find_beats_together
from vitalgate.signal.complexes import NEIGHBOURS, Complexes, Floats, cut_complexes
from vitalgate.signal.grid import Index, as_signals
from vitalgate.signal.trees import Boosted, model

NAME = "vg-delineation"
VERSION = "2"

#: Given the beats, the marks of a beat at sample t depend on samples in [t - BEFORE_S*fs, t + AFTER_S*fs) only.
BEFORE_S = 18.0
AFTER_S = 14.0

#: Order of the marks of a beat.
MARKS = ("p_on", "p_peak", "p_off", "qrs_on", "qrs_peak", "qrs_off", "t_on", "t_peak", "t_off")
MODELS = (waves.P.name, waves.T.name, *(edge.name for edge in boundaries.EDGES))

#: So many beats are worked on at once; and so many on either side of them are looked at.
_PASS = 64
_HALO = 3 * NEIGHBOURS + 2
_PEAK_SMOOTH_S = 0.006
_SHORTEST_S = {"p": 0.03, "qrs": 0.02, "t": 0.05}


@dataclass(frozen=True, eq=False)
class Delineation:
    """What was found.

    Attributes
    ----------
    beats
        (n_beats,) the R peaks, absolute samples.
    marks
        (n_beats, n_leads, 9) absolute samples, fractional, in the order of MARKS; NaN where there is no such wave, or
        no signal.
    sure
        The same shape: 0 to 1, how narrowly the boundary is determined; a peak has the lesser of its two ends.
    p_share, t_share
        (n_beats,) how likely there is a P wave before the beat and a T wave behind it.
    """

    beats: Index
    marks: Floats
    sure: Floats
    p_share: Floats
    t_share: Floats

    def mark(self, name: str) -> Floats:
        """One mark of MARKS: (n_beats, n_leads)."""
        return self.marks[:, :, MARKS.index(name)]


def delineate(
    signals: ArrayLike,
    fs: float,
    beats: ArrayLike | None = None,
    first: int = 0,
    start: int | None = None,
    stop: int | None = None,
    *,
    models: Mapping[str, Boosted] | None = None,
) -> Delineation:
    """Find the waves of one person's leads.

    Parameters
    ----------
    signals
        (n_leads, n_samples) recorded together, or (n_samples,) for one lead; mV; NaN where missing.
    fs
        Sampling rate, 100 to 1000 Hz.
    beats
        R peaks, absolute samples, increasing; found in the signals when not given.
    first
        Absolute index of the first column.
    start, stop
        Absolute samples: beats in [start, stop) are wanted, by default all of the array. Final results need BEFORE_S
        and AFTER_S of signal round them, and as much of beats.
    models
        Trees by name (MODELS) in place of those that come with the package.

    Raises
    ------
    ValueError
        If the rate is outside 100..1000 Hz, signals have more than two dimensions, or beats do not increase.
    """
    array = as_signals(signals)
    trees = models or {name: model(name) for name in MODELS}
    begin = first if start is None else start
    end = first + array.shape[1] if stop is None else stop
    if beats is None:
        reach = int(np.ceil(max(BEFORE_S, AFTER_S) * fs))
        low, high = max(first, begin - reach), min(first + array.shape[1], end + reach)
        find = find_beats_together if array.shape[0] > 1 else find_beats
        found = find(array, fs, first, low, high)
        at = found if isinstance(found, np.ndarray) else found[0] if found else np.empty(0, np.int64)
    else:
        at = np.asarray(beats, np.int64).ravel()
        if np.any(np.diff(at) <= 0):
            raise ValueError("beats must increase")
    wanted = np.flatnonzero((at >= begin) & (at < end))
    parts = []
    for low in range(wanted[0] if len(wanted) else 0, wanted[-1] + 1 if len(wanted) else 0, _PASS):
        high = min(low + _PASS, int(wanted[-1]) + 1)
        parts.append(_pass(array, fs, at, first, low, high, trees))
    shape = (0, array.shape[0], len(MARKS))
    return Delineation(
        at[wanted],
        np.concatenate([np.empty(shape), *(part[0] for part in parts)]),
        np.concatenate([np.empty(shape), *(part[1] for part in parts)]),
        np.concatenate([np.empty(0), *(part[2] for part in parts)]),
        np.concatenate([np.empty(0), *(part[3] for part in parts)]),
    )


def _pass(
    array: NDArray[np.floating], fs: float, beats: Index, first: int, low: int, high: int, trees: Mapping[str, Boosted]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Marks, sureness and the shares of P and T of beats low .. high - 1."""
    begin, end = max(0, low - _HALO), min(len(beats), high + _HALO)
    around = cut_complexes(array, fs, beats[begin:end], first)
    p, t = (waves.find_waves(around, search, trees[search.name]) for search in (waves.P, waves.T))
    p_share = waves.with_neighbours(around, p.share)[low - begin : high - begin]
    cut = slice(low - begin, high - begin)
    own = around.part(cut.start, cut.stop)
    nothing = np.zeros(high - low)
    centres = {
        "p": (p.centre_s[cut], p.width_s[cut]), "qrs": (nothing, nothing), "t": (t.centre_s[cut], t.width_s[cut]),
    }  # fmt: skip
    marks = np.full((high - low, array.shape[0], len(MARKS)), np.nan)
    sure = np.full(marks.shape, np.nan)
    for edge in boundaries.EDGES:
        column = MARKS.index(f"{edge.wave}_{'on' if edge.outward < 0 else 'off'}")
        marks[:, :, column], sure[:, :, column] = boundaries.find_edges(
            own, edge, *centres[edge.wave], trees[edge.name]
        )
    _in_order(marks)
    for k, wave in enumerate(("p", "qrs", "t")):
        marks[:, :, 3 * k + 1] = _peaks(own, marks[:, :, 3 * k], marks[:, :, 3 * k + 2], level=wave == "qrs")
        sure[:, :, 3 * k + 1] = np.minimum(sure[:, :, 3 * k], sure[:, :, 3 * k + 2])
        short = ~(marks[:, :, 3 * k + 2] - marks[:, :, 3 * k] >= _SHORTEST_S[wave])
        marks[short, 3 * k : 3 * k + 3] = np.nan
    marks[~own.valid] = np.nan
    marks[p_share < waves.P_PRESENT, :, :3] = np.nan
    marks[t.share[cut] < waves.T_PRESENT, :, 6:] = np.nan
    # An interval of less than a whole T wave: what is there is the next beat.
    marks[:, :, 6:][marks[:, :, 6:] > (own.after_s - 0.03)[:, np.newaxis, np.newaxis]] = np.nan
    marks[np.isnan(marks[:, :, 6]) | np.isnan(marks[:, :, 8]), 6:] = np.nan
    marks = own.middle[:, np.newaxis, np.newaxis] + marks * fs
    there = _present(array, marks, first)
    marks[~there] = np.nan
    sure[np.isnan(marks)] = np.nan
    return marks, sure, p_share, t.share[cut]


def _in_order(marks: Floats) -> None:
    """P ends before QRS begins, and T begins behind it."""
    marks[:, :, 2] = np.minimum(marks[:, :, 2], marks[:, :, 3])
    marks[:, :, 6] = np.maximum(marks[:, :, 6], marks[:, :, 5])


def _peaks(own: Complexes, onset: Floats, offset: Floats, *, level: bool) -> Floats:
    """The point of largest deflection between onset and offset, s; by the beat itself, a little smoothed."""
    cuts = complexes.smooth(own.own, _PEAK_SMOOTH_S)
    begin, end = (
        np.clip(np.nan_to_num((edge - complexes.FROM_S) * complexes.RATE), 0, complexes.POINTS - 1)
        for edge in (onset, offset)
    )
    at = np.arange(complexes.POINTS, dtype=np.float64)
    share = (at - begin[:, :, np.newaxis]) / np.maximum(end - begin, 1e-3)[:, :, np.newaxis]
    if level:
        deflection = np.abs(cuts).astype(np.float64)
    else:
        ends = [
            np.take_along_axis(cuts, np.round(edge).astype(np.int64)[:, :, np.newaxis], axis=2) for edge in (begin, end)
        ]
        deflection = np.abs(cuts - (ends[0] + (ends[1] - ends[0]) * np.clip(share, 0, 1)))
    deflection = np.where((share >= 0) & (share <= 1), deflection, -1.0)
    return np.asarray(complexes.TIMES_S[deflection.argmax(axis=2)])


def _present(array: NDArray[np.floating], marks: Floats, first: int) -> NDArray[np.bool_]:
    """Whether there is a sample where each mark is."""
    if not array.shape[1]:
        return np.zeros(marks.shape, np.bool_)
    at = np.round(np.nan_to_num(marks, nan=first - 1.0)).astype(np.int64) - first
    inside = (at >= 0) & (at < array.shape[1])
    lead = np.arange(array.shape[0])[np.newaxis, :, np.newaxis]
    return np.asarray(inside & np.isfinite(array[lead, np.clip(at, 0, array.shape[1] - 1)]))
