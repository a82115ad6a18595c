"""PR, QRS duration, QT and QTc of each beat, and as one figure for a stretch.

An interval is measured over all leads: from the earliest onset to the latest offset, the outermost fifth of the leads
set aside, so that one bad lead decides nothing. (In many leads a wave begins or ends on the isoelectric line and looks
shorter than it is; Kligfield et al. 2007, J Am Coll Cardiol 49:1109, ask for measurement over all leads.) With one or
two leads it is their earliest and latest.

====  ==================  =================================================
pr    onset P to onset QRS
qrs   onset to offset QRS
qt    onset QRS to offset T
qtc   QT for a rate of 60/min, of QT and RR in s and rate HR in 1/min:
      Bazett              QT / RR^(1/2)         (1920, Heart 7:353)
      Fridericia          QT / RR^(1/3)         (1920, Acta Med Scand 53:469)
      Framingham          QT + 0.154 (1 - RR)   (Sagie 1992, Am J Cardiol 70:797)
      Hodges              QT + 0.00175 (HR-60)  (1983, J Am Coll Cardiol 1:694)
====  ==================  =================================================

Bazett's overcorrects above 100/min and undercorrects below 60/min. A QRS of 120 ms or more lengthens QT by itself;
nothing is taken off here for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.complexes import LONGEST_RR_S
from vitalgate.signal.delineation import Delineation
from vitalgate.signal.quality import Grade, Stretch

NAME = "vg-intervals"
VERSION = "1"

#: A stretch's figure is the median of at least so many beats.
FEWEST_BEATS = 3
#: A figure of less confidence is withheld.
LEAST_CONFIDENCE = 0.2
#: Outermost share of the leads that is set aside on either side.
ASIDE = 0.2
#: Beats that vary more than this (distance between quartiles, ms) have no common figure.
WIDEST_SPREAD_MS = {"pr": 60.0, "qrs": 40.0, "qt": 80.0, "qtc": 80.0}
CORRECTIONS = ("bazett", "fridericia", "framingham", "hodges")
NAMES = ("pr", "qrs", "qt", *(f"qtc.{name}" for name in CORRECTIONS))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """One figure for a stretch.

    Attributes
    ----------
    ms
        Median over the beats, None when withheld; then ``reason`` says why.
    spread_ms
        Distance between the quartiles of the beats.
    beats
        Of how many beats.
    confidence
        0 to 1: share of the stretch's beats that could be measured, times how narrowly their boundaries are determined.
    """

    ms: float | None
    spread_ms: float | None
    beats: int
    confidence: float
    reason: str | None = None


def corrected(qt_s: ArrayLike, rr_s: ArrayLike, formula: str) -> Floats:
    """QTc in s.

    Parameters
    ----------
    qt_s, rr_s
        QT, and the RR interval before it (or the mean RR of the stretch), s.
    formula
        One of CORRECTIONS.

    Raises
    ------
    ValueError
        For another formula.
    """
    qt, rr = np.asarray(qt_s, np.float64), np.asarray(rr_s, np.float64)
    rr = np.where(rr > 0, rr, np.nan)
    match formula:
        case "bazett":
            return np.asarray(qt / np.sqrt(rr))
        case "fridericia":
            return np.asarray(qt / np.cbrt(rr))
        case "framingham":
            return np.asarray(qt + 0.154 * (1 - rr))
        case "hodges":
            return np.asarray(qt + 0.00175 * (60 / rr - 60))
    raise ValueError(f"no correction {formula!r}; there are: {', '.join(CORRECTIONS)}")


def beat_intervals(found: Delineation, fs: float) -> dict[str, Floats]:
    """Every interval of every beat, ms, by name; NaN where it cannot be measured. Also ``rr``, to the beat before."""
    p_on, qrs_on = (_outermost(found.mark(name), latest=False) for name in ("p_on", "qrs_on"))
    qrs_off, t_off = (_outermost(found.mark(name), latest=True) for name in ("qrs_off", "t_off"))
    rr = np.full(len(found.beats), np.nan)
    rr[1:] = np.diff(found.beats) / fs
    rr[rr > LONGEST_RR_S] = np.nan
    qt = (t_off - qrs_on) / fs
    out = {"rr": 1000 * rr, "pr": 1000 * (qrs_on - p_on) / fs, "qrs": 1000 * (qrs_off - qrs_on) / fs, "qt": 1000 * qt}
    return out | {f"qtc.{name}": 1000 * corrected(qt, rr, name) for name in CORRECTIONS}


def stretch_intervals(
    found: Delineation, fs: float, quality: Sequence[Sequence[Stretch]], kinds: ArrayLike | None = None
) -> dict[str, Interval]:
    """The intervals of a stretch, by name.

    Parameters
    ----------
    found
        Of its beats.
    quality
        Of ``signal_quality``, for each lead. Beats count in the leads that are good or usable there; a beat that is in
        no such lead counts not at all.
    kinds
        Class of each beat, N, S, V, F or Q; only N and S count. All count when not given.
    """
    marks = np.where(believed(found, quality)[:, :, np.newaxis], found.marks, np.nan)
    sure = np.where(np.isnan(marks), np.nan, found.sure)
    usable = np.isfinite(marks[:, :, 4]).any(axis=1) if marks.size else np.zeros(len(found.beats), np.bool_)
    reason = "no beats" if not len(found.beats) else "the signal is bad" if not usable.any() else "no normal beats"
    if kinds is not None:
        usable &= np.isin(np.asarray(kinds), ["N", "S"])
    judged = Delineation(found.beats, marks, sure, found.p_share, found.t_share)
    each = beat_intervals(judged, fs)
    if not usable.any():
        return {name: Interval(None, None, 0, 0.0, reason) for name in NAMES}
    needed = {"pr": (0, 3), "qrs": (3, 5), "qt": (3, 8)}
    certainty = {name: _certainty(sure[:, :, list(ends)]) for name, ends in needed.items()}
    return {
        name: _figure(name, each[name][usable], certainty[name if name in needed else "qt"][usable]) for name in NAMES
    }


def _figure(name: str, values: Floats, certainty: Floats) -> Interval:
    there = ~np.isnan(values)
    count = int(there.sum())
    share = count / len(values)
    confidence = round(float(share * certainty[there].mean()), 3) if count else 0.0
    if count < FEWEST_BEATS or share < 0.5:
        wave = {"pr": "P wave", "qrs": "QRS"}.get(name, "end of T")
        return Interval(None, None, count, confidence, f"{wave} seen in {count} of {len(values)} beats")
    low, middle, high = (float(value) for value in np.quantile(values[there], (0.25, 0.5, 0.75)))
    spread = high - low
    if spread > WIDEST_SPREAD_MS[name.partition(".")[0]]:
        reason = f"varies too much: {low:.0f} to {high:.0f} ms"
        return Interval(None, round(spread, 1), count, confidence, reason)
    if confidence < LEAST_CONFIDENCE:
        return Interval(None, round(spread, 1), count, confidence, f"confidence of {100 * confidence:.0f} % only")
    return Interval(round(middle, 1), round(spread, 1), count, confidence)


def _outermost(marks: Floats, *, latest: bool) -> Floats:
    """The earliest or latest mark of each beat over its leads, the outermost ASIDE of them set aside."""
    ordered = np.sort(marks, axis=1)
    if not ordered.shape[1]:
        return np.full(len(marks), np.nan)
    size = np.count_nonzero(~np.isnan(ordered), axis=1)
    aside = np.floor(ASIDE * size).astype(np.int64)
    at = np.where(size > 0, np.where(latest, size - 1 - aside, aside), 0)
    return np.asarray(ordered[np.arange(len(marks)), at])


def believed(found: Delineation, quality: Sequence[Sequence[Stretch]]) -> NDArray[np.bool_]:
    """Which beats lie where a lead is good or usable, (n_beats, n_leads)."""
    good = np.zeros(found.marks.shape[:2], np.bool_)
    for lead, stretches in enumerate(quality):
        for stretch in stretches:
            if stretch.grade is not Grade.BAD:
                good[(found.beats >= stretch.onset) & (found.beats < stretch.offset), lead] = True
    return good


def _certainty(sure: Floats) -> Floats:
    """Mean over the leads of the lesser certainty of the two ends, for each beat."""
    least = np.minimum(sure[:, :, 0], sure[:, :, 1])
    there = ~np.isnan(least)
    return np.asarray(np.where(there, least, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1))
