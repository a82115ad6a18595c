"""Beat detection scored as ANSI/AAMI EC57 describes.

A detection and a reference beat no further apart than 150 ms make a pair, one to one. A reference beat without a
detection is a false negative, a detection without a reference beat a false positive. Segments of ventricular flutter or
fibrillation are left out on both sides. *Gross* statistics pool all beats of all records; *average* statistics are
means over records. The default here is the whole record; EC57 leaves out the first five minutes, which is ``exclude``
too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: EC57's match window.
WINDOW_S = 0.150


@dataclass(frozen=True, eq=False)
class Match:
    """What was paired and what was left over.

    Attributes
    ----------
    tp, fn, fp
        Numbers of pairs, of missed reference beats and of false detections.
    pairs
        (tp, 2) positions in the given arrays: reference, detected.
    missed, false
        Positions of the unpaired in the given reference and detected arrays (those in excluded segments are nowhere).
    """

    tp: int
    fn: int
    fp: int
    pairs: NDArray[np.int64]
    missed: NDArray[np.int64]
    false: NDArray[np.int64]

    @property
    def score(self) -> BeatScore:
        """The counts alone."""
        return BeatScore(self.tp, self.fn, self.fp)


@dataclass(frozen=True)
class BeatScore:
    """Counts, and the shares (0 to 1, NaN when undefined) that follow from them."""

    tp: int
    fn: int
    fp: int

    @property
    def se(self) -> float:
        """Sensitivity, TP / (TP + FN)."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def ppv(self) -> float:
        """Positive predictivity (+P), TP / (TP + FP)."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two, 2 TP / (2 TP + FN + FP)."""
        return _share(2 * self.tp, 2 * self.tp + self.fn + self.fp)


@dataclass(frozen=True)
class AverageScore:
    """Means over records of sensitivity, positive predictivity and F1, each over the records where it is defined."""

    se: float
    ppv: float
    f1: float
    records: int


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def gross(scores: Iterable[BeatScore]) -> BeatScore:
    """Pool the counts of many records."""
    all_scores = list(scores)
    return BeatScore(sum(s.tp for s in all_scores), sum(s.fn for s in all_scores), sum(s.fp for s in all_scores))


def average(scores: Iterable[BeatScore]) -> AverageScore:
    """Mean over records, each record counting alike."""
    all_scores = list(scores)

    def mean(values: Sequence[float]) -> float:
        defined = [value for value in values if not math.isnan(value)]
        return sum(defined) / len(defined) if defined else float("nan")

    return AverageScore(
        mean([s.se for s in all_scores]),
        mean([s.ppv for s in all_scores]),
        mean([s.f1 for s in all_scores]),
        len(all_scores),
    )


def match_beats(
    reference: ArrayLike,
    detected: ArrayLike,
    fs: float,
    window_s: float = WINDOW_S,
    exclude: Sequence[tuple[int, int]] = (),
) -> Match:
    """Pair detections with reference beats, one to one.

    Beats are taken in order of time. A beat that could be paired with two is paired with the nearer, unless the nearer
    is nearer still to the beat after it. (The rule of WFDB's ``bxb``.)

    Parameters
    ----------
    reference, detected
        Sample indices, increasing.
    fs
        Sampling rate, Hz.
    window_s
        Largest distance of a pair, seconds, inclusive.
    exclude
        Segments (first sample, last sample), both inclusive; beats of either kind in them are left out.

    Raises
    ------
    ValueError
        If the indices do not increase.
    """
    ref, det = _increasing(reference, "reference"), _increasing(detected, "detected")
    ref_at, det_at = _outside(ref, exclude), _outside(det, exclude)
    r, d = ref[ref_at].tolist(), det[det_at].tolist()
    window = int(window_s * fs + 1e-9)
    pairs: list[tuple[int, int]] = []
    missed: list[int] = []
    false: list[int] = []
    i = j = 0
    while i < len(r) and j < len(d):
        apart = d[j] - r[i]
        if apart < -window:
            false.append(j)
            j += 1
        elif apart > window:
            missed.append(i)
            i += 1
        elif apart < 0 and j + 1 < len(d) and _nearer(r[i], d[j], d[j + 1], r[i + 1] if i + 1 < len(r) else None):
            false.append(j)
            j += 1
        elif apart > 0 and i + 1 < len(r) and _nearer(d[j], r[i], r[i + 1], d[j + 1] if j + 1 < len(d) else None):
            missed.append(i)
            i += 1
        else:
            pairs.append((i, j))
            i += 1
            j += 1
    missed.extend(range(i, len(r)))
    false.extend(range(j, len(d)))
    paired = np.array(pairs, np.int64).reshape(-1, 2)
    return Match(
        tp=len(pairs), fn=len(missed), fp=len(false),
        pairs=np.column_stack([ref_at[paired[:, 0]], det_at[paired[:, 1]]]),
        missed=ref_at[np.array(missed, np.int64)], false=det_at[np.array(false, np.int64)],
    )  # fmt: skip


def _nearer(here: int, one: int, other: int, next_here: int | None) -> bool:
    """Whether ``other`` is nearer to ``here`` than ``one`` is, and belongs to here rather than to the beat after it."""
    if abs(other - here) >= abs(one - here):
        return False
    return next_here is None or abs(other - here) <= abs(other - next_here)


def _increasing(beats: ArrayLike, what: str) -> NDArray[np.int64]:
    array = np.asarray(beats, dtype=np.int64).ravel()
    if np.any(array[1:] < array[:-1]):
        raise ValueError(f"{what} beats must be sorted by time")
    return array


def _outside(beats: NDArray[np.int64], exclude: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    keep = np.ones(len(beats), np.bool_)
    for begin, end in exclude:
        keep &= (beats < begin) | (beats > end)
    return np.flatnonzero(keep)
