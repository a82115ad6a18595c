"""Find and mend wrong RR intervals: Lipponen and Tarvainen (2019), J Med Eng Technol 43:173.

Differences of intervals, and distances of intervals from the median of eleven, are measured against a threshold that
follows the person: 5.2 times the quartile deviation over 91 beats. Ectopic beats show as a negative-positive-negative
(or the reverse) pattern, missed and extra beats as one interval that two or half a one would explain. Extra beats are
taken out, missed ones put in midway, ectopic and long or short ones moved to where the intervals beside them would have
them. It repeats while that leaves fewer wrong ones.

Thresholds are taken over 91 beats, and the order of mending is that of the list, so this is for a stretch as a whole
(5 minutes, 24 hours), not a stream; ``hrv.normal_intervals`` is the local rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NAME = "vg-rr-correction"
VERSION = "1"

_C1, _C2 = 0.13, 0.17
_ALPHA, _WINDOW, _MEDIAN = 5.2, 91, 11
_ROUNDS = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Artefacts:
    """Positions of beats: ``ectopic``, ``missed`` (before that beat one is missing), ``extra``, ``longshort``."""

    ectopic: tuple[int, ...]
    missed: tuple[int, ...]
    extra: tuple[int, ...]
    longshort: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many in all."""
        return len(self.ectopic) + len(self.missed) + len(self.extra) + len(self.longshort)


@dataclass(frozen=True, eq=False)
class Corrected:
    """Beats after mending, in seconds; what was found at first, and the share of beats that were wrong."""

    beats_s: Floats
    artefacts: Artefacts
    share: float


def correct_beats(beats_s: ArrayLike) -> Corrected:
    """Mend a series of beats.

    Parameters
    ----------
    beats_s
        Times of beats, seconds, increasing.
    """
    beats = np.array(beats_s, np.float64).ravel()
    found = find_artefacts(beats)
    first, before = found, found.count + 1
    for _ in range(_ROUNDS):
        if not found.count or found.count >= before:
            break
        before = found.count
        mended = _mend(beats, found)
        again = find_artefacts(mended)
        if again.count < before:
            beats = mended
        found = again
    return Corrected(beats, first, first.count / max(1, len(np.ravel(beats_s))))


def find_artefacts(beats_s: ArrayLike) -> Artefacts:
    """Which beats are wrong, and how (fewer than four beats: none)."""
    beats = np.asarray(beats_s, np.float64).ravel()
    if len(beats) < 4:
        return Artefacts((), (), (), ())
    rr = np.diff(beats, prepend=0.0)
    rr[0] = rr[1:].mean()
    step = np.diff(rr, prepend=0.0)
    step[0] = step[1:].mean()
    step = step / _threshold(step)
    apart = rr - _median(rr, _MEDIAN)
    apart = np.where(apart < 0, apart * 2, apart)
    apart = apart / _threshold(apart)
    return _sort_out(rr, step, apart, _median(rr, _MEDIAN))


def _sort_out(rr: Floats, step: Floats, apart: Floats, middle: Floats) -> Artefacts:
    n = len(rr)
    around = np.pad(step, 2, mode="reflect")[1:]
    largest, smallest = np.maximum(around[:n], around[2 : n + 2]), np.minimum(around[:n], around[2 : n + 2])
    s12 = np.where(step > 0, largest, np.where(step < 0, smallest, 0.0))
    ahead = np.pad(step, 2, mode="reflect")[2:]
    further_most, further_least = np.maximum(ahead[1 : n + 1], ahead[2:]), np.minimum(ahead[1 : n + 1], ahead[2:])
    s22 = np.where(step >= 0, further_least, further_most)
    ectopic, missed, extra, longshort = [], [], [], []
    k = 0
    while k < n - 2:
        if abs(step[k]) <= 1:
            k += 1
            continue
        up = step[k] > 1 and s12[k] < -_C1 * step[k] - _C2
        down = step[k] < -1 and s12[k] > -_C1 * step[k] + _C2
        if up or down:
            ectopic.append(k)
            k += 1
            continue
        if abs(step[k]) <= 1 and abs(apart[k]) <= 3:
            k += 1
            continue
        candidates = [k]
        if abs(step[k + 1]) < abs(step[k + 2]):
            candidates.append(k + 1)
        for j in candidates:
            long, short = step[j] > 1 and s22[j] < -1, step[j] < -1 and s22[j] > 1
            if not (long or short or abs(apart[j]) > 3):
                continue
            tolerance = abs(_limit(rr, j))
            if (short or apart[j] < -3) and j + 1 < n and abs(rr[j] + rr[j + 1] - middle[j]) < tolerance:
                extra.append(j)
            elif (long or apart[j] > 3) and abs(rr[j] / 2 - middle[j]) < tolerance:
                missed.append(j)
            else:
                longshort.append(j)
        k += len(candidates)
    unique = [tuple(sorted(set(kind))) for kind in (ectopic, missed, extra, longshort)]
    return Artefacts(*unique)


def _limit(rr: Floats, at: int) -> float:
    """Threshold of distance from the median at one beat, in seconds."""
    apart = rr - _median(rr, _MEDIAN)
    return float(_threshold(np.where(apart < 0, 2 * apart, apart))[at])


def _threshold(values: Floats) -> Floats:
    """5.2 times the quartile deviation of the sizes over 91 beats, centred; never nothing."""
    size = np.abs(values)
    half = _WINDOW // 2
    padded = np.full(len(size) + 2 * half, np.nan)
    padded[half : half + len(size)] = size
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)
    low, high = np.nanpercentile(windows, [25, 75], axis=1)
    return np.asarray(np.maximum(_ALPHA * (high - low) / 2, 1e-9))


def _median(values: Floats, width: int) -> Floats:
    half = width // 2
    padded = np.full(len(values) + 2 * half, np.nan)
    padded[half : half + len(values)] = values
    return np.asarray(np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1))


def _mend(beats: Floats, found: Artefacts) -> Floats:
    out = beats.copy()
    moved = -2
    for at in sorted((*found.ectopic, *found.longshort)):
        # One misplaced beat spoils two intervals: the second is right once the first is. The next round sees.
        if 0 < at < len(out) - 1 and at - 1 != moved:
            out[at] = 0.5 * (out[at - 1] + out[at + 1])
            moved = at
    keep = np.ones(len(out), np.bool_)
    keep[[at for at in found.extra if 0 < at < len(out)]] = False
    added = [0.5 * (out[at - 1] + out[at]) for at in found.missed if 0 < at < len(out)]
    return np.unique(np.concatenate([out[keep], added]))
