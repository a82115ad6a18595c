"""Heart rate and rate events (pause, asystole, brady- and tachycardia) from beats.

Definitions (PhysioNet/CinC Challenge 2015 for the numbers of beats, with the home-monitoring limits of rate):

=============  ==========================================================================================
pause          an RR interval of 2 s or more, up to 16 s; value: its length, s
asystole       4 s or more without a beat, with signal present all the while; value: its length, s
bradycardia    less than 50/min over 5 beats (four intervals, 16 s at most); value: the lowest such rate
tachycardia    more than 100/min over 17 beats (sixteen intervals); value: the highest such rate
=============  ==========================================================================================

A long pause lowers the mean rate of the beats round it, and so may count as bradycardia too.

No interval counts across a gap: where more than 0.1 s of signal is missing a beat may be hidden, and a gap is no pause.

A long silence in which the baseline runs away is an electrode's, not the heart's (``baseline``): it is neither pause
nor asystole, and no rate is told across it. Nor is anything told of ventricular fibrillation here: a caller marks it as
not present, for what looks like a beat there is none, and a gap there is no pause.

Finite support: events in [start, stop) depend on beats and presence in [start - BEFORE_S*fs, stop + AFTER_S*fs) only.
Because a tachycardia may last for hours, events are given in *pieces*: every event but a pause is cut at ``start`` and
``stop``, so that consecutive stretches can be stored as separate blocks, and ``join_events`` puts the pieces of
touching stretches together again. A pause is given whole, in the stretch where it begins (``pieces``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.baseline import steady, steady_parts
from vitalgate.signal.grid import Float
from vitalgate.signal.pieces import Kind, RhythmEvent, by_stretch, join_events

NAME = "vg-rate"
VERSION = "2"

__all__ = ["RhythmEvent", "heart_rate", "join_events", "known_intervals", "rate_events", "rate_pieces", "rr_intervals"]

#: Four intervals of just under 4 s, the slowest bradycardia that is not asystole, span 16 s.
BEFORE_S = 16.0
AFTER_S = 16.0

PAUSE_S = 2.0
ASYSTOLE_S = 4.0
BRADYCARDIA_PER_MIN, BRADYCARDIA_BEATS = 50.0, 5
TACHYCARDIA_PER_MIN, TACHYCARDIA_BEATS = 100.0, 17
#: More than this missing between two beats, and the interval is unknown.
MISSING_S = 0.1
#: Intervals that ``heart_rate`` believes, seconds: 300/min to 15/min.
SHORTEST_RR_S, LONGEST_RR_S = 0.2, 4.0
#: Intervals of this length and more are looked at for a baseline that runs away.
_LOOK_S = 1.5


def rr_intervals(beats: ArrayLike, fs: float) -> NDArray[np.float64]:
    """Intervals between successive beats, in seconds: one fewer than there are beats.

    Parameters
    ----------
    beats
        Sample indices, increasing.
    fs
        Sampling rate, Hz.
    """
    at = np.asarray(beats, dtype=np.int64).ravel()
    return np.diff(at) / float(fs)


def heart_rate(beats: ArrayLike, fs: float) -> float:
    """Mean heart rate, per minute: 60 divided by the mean of the valid RR intervals (0.2 to 4 s).

    NaN when there are fewer than three beats, or no valid interval.
    """
    rr = rr_intervals(beats, fs)
    if len(rr) < 2:
        return float("nan")
    valid = rr[(rr >= SHORTEST_RR_S) & (rr <= LONGEST_RR_S)]
    return 60.0 / float(valid.mean()) if len(valid) else float("nan")


@dataclass(frozen=True, eq=False)
class Baseline:
    """Cells of the baseline of one signal (``baseline.baseline_cells``); ``first`` is the number of the first."""

    cells: Float
    first: int


def rate_events(
    beats: ArrayLike,
    fs: float,
    start: int,
    stop: int,
    *,
    present: ArrayLike | None = None,
    first: int = 0,
    baseline: Baseline | None = None,
    slow_per_min: float = BRADYCARDIA_PER_MIN,
    fast_per_min: float = TACHYCARDIA_PER_MIN,
) -> list[RhythmEvent]:
    """Pauses, asystole, brady- and tachycardia in [start, stop).

    Parameters
    ----------
    beats
        Absolute sample indices of R peaks of one signal, increasing; those beyond the support are ignored.
    fs
        Sampling rate, Hz.
    start, stop
        Absolute samples.
    present
        What there was: a boolean array (True where there was signal), or the signal itself with NaN where there was
        not; its first element is absolute sample ``first``, and outside it nothing is present. Or stretches [from, to)
        of absolute samples, (n, 2) integers that neither overlap nor touch. Without it, signal is taken to be present
        between any two beats up to 16 s apart. A caller that does not believe a stretch of signal leaves it out.
    baseline
        Where the baseline was, to tell an electrode's silence from the heart's. Without it every silence is believed.
    slow_per_min, fast_per_min
        Limits of rate.

    Returns
    -------
    Events sorted by onset.
    """
    limits = slow_per_min, fast_per_min
    [events] = rate_pieces(beats, fs, [start, stop], present=present, first=first, baseline=baseline, limits=limits)
    return events


def rate_pieces(
    beats: ArrayLike,
    fs: float,
    edges: Sequence[int],
    *,
    present: ArrayLike | None = None,
    first: int = 0,
    baseline: Baseline | None = None,
    limits: tuple[float, float] = (BRADYCARDIA_PER_MIN, TACHYCARDIA_PER_MIN),
) -> list[list[RhythmEvent]]:
    """The events of successive stretches: ``rate_events`` between each two neighbours of ``edges``, in one pass."""
    low, high = edges[0] - round(BEFORE_S * fs), edges[-1] + round(AFTER_S * fs)
    at = np.asarray(beats, dtype=np.int64).ravel()
    at = at[(at >= low) & (at < high)]
    lengths = np.diff(at)
    if present is None:
        known = lengths <= AFTER_S * fs
        runs = np.column_stack([at[:-1], at[1:]])[known]
    else:
        runs = _present_runs(present, first, low, high)
        known = _missing(at, runs) <= MISSING_S * fs
    if baseline is not None:
        for k in np.flatnonzero(known & (lengths >= _LOOK_S * fs)):
            known[k] = steady(baseline.cells, baseline.first, int(at[k]), int(at[k + 1]), fs)
    events = [
        RhythmEvent("pause", int(at[k]), int(at[k + 1]), float(lengths[k] / fs), "s")
        for k in np.flatnonzero(known & (lengths >= PAUSE_S * fs) & (lengths <= AFTER_S * fs))
    ]
    events += _silences(at, runs, fs, baseline)
    events += _rates(at, known, fs, BRADYCARDIA_BEATS, "bradycardia", limits[0])
    events += _rates(at, known, fs, TACHYCARDIA_BEATS, "tachycardia", limits[1])
    return by_stretch(events, edges, fs)


def known_intervals(beats: ArrayLike, fs: float, present: ArrayLike, first: int = 0) -> NDArray[np.bool_]:
    """(n - 1,) whether at most MISSING_S of signal is missing between each beat and the next.

    Parameters
    ----------
    beats
        (n,) absolute samples, increasing.
    present, first
        As in ``rate_events``.
    """
    at = np.asarray(beats, np.int64).ravel()
    if len(at) < 2:
        return np.ones(0, np.bool_)
    return np.asarray(_missing(at, _present_runs(present, first, int(at[0]), int(at[-1]) + 1)) <= MISSING_S * fs)


def _present_runs(present: ArrayLike, first: int, low: int, high: int) -> NDArray[np.int64]:
    """Runs [begin, end) of presence in absolute samples, cut to [low, high); gaps too short to matter stay gaps."""
    array = np.asarray(present)
    if array.ndim == 2:
        cut = np.clip(array.astype(np.int64), low, high)
        return cut[cut[:, 0] < cut[:, 1]]
    mask = array if array.dtype == np.bool_ else np.isfinite(array)
    begin, end = max(low, first), min(high, first + len(mask))
    if end <= begin:
        return np.empty((0, 2), np.int64)
    edges = np.diff(np.concatenate([[False], mask[begin - first : end - first], [False]]).astype(np.int8))
    return np.column_stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)]).astype(np.int64) + begin


def _missing(at: NDArray[np.int64], runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Samples missing between each beat and the next."""
    if len(at) < 2 or not len(runs):
        return np.asarray(np.diff(at))
    # Samples present before each beat: exact, in integers.
    total = np.concatenate([[0], np.cumsum(runs[:, 1] - runs[:, 0])])
    run = np.searchsorted(runs[:, 0], at, side="right") - 1
    into = np.where(run >= 0, np.minimum(at, runs[np.maximum(run, 0), 1]) - runs[np.maximum(run, 0), 0], 0)
    before = np.where(run >= 0, total[np.maximum(run, 0)] + into, 0)
    missing: NDArray[np.int64] = np.diff(at) - np.diff(before)
    return missing


def _silences(
    at: NDArray[np.int64], runs: NDArray[np.int64], fs: float, baseline: Baseline | None
) -> list[RhythmEvent]:
    """Stretches of present signal without a beat, 4 s or longer."""
    if not len(runs):
        return []
    # Gaps of up to MISSING_S do not end a stretch: nothing could hide in them.
    wide = np.flatnonzero(runs[1:, 0] - runs[:-1, 1] > MISSING_S * fs)
    begins = runs[np.concatenate([[0], wide + 1]), 0]
    ends = runs[np.concatenate([wide, [len(runs) - 1]]), 1]
    # Silence begins after a beat, so that two silences with a beat between them do not touch.
    edges = np.unique(np.concatenate([at, at + 1, begins, ends]))
    onset, offset = edges[:-1], edges[1:]
    inside = np.searchsorted(begins, onset, side="right") > np.searchsorted(ends, onset, side="right")
    long = np.flatnonzero(inside & (offset - onset >= ASYSTOLE_S * fs - 1))
    found = []
    for k in long.tolist():
        whole = int(onset[k]), int(offset[k])
        for begin, end in [whole] if baseline is None else steady_parts(baseline.cells, baseline.first, *whole, fs):
            if end - begin >= ASYSTOLE_S * fs - 1:
                found.append(RhythmEvent("asystole", begin, end, float((end - begin) / fs), "s"))
    return found


def _rates(
    at: NDArray[np.int64], known: NDArray[np.bool_], fs: float, beats: int, kind: Kind, limit: float
) -> list[RhythmEvent]:
    """Stretches over which ``beats`` successive beats were too slow or too fast: one event a window, not yet joined."""
    if len(at) < beats:
        return []
    span: NDArray[Any] = at[beats - 1 :] - at[: -(beats - 1)]
    whole = np.lib.stride_tricks.sliding_window_view(known, beats - 1).all(axis=1)
    rate = 60.0 * (beats - 1) * fs / np.maximum(span, 1)
    off = rate < limit if kind == "bradycardia" else rate > limit
    chosen = np.flatnonzero(whole & off & (span <= AFTER_S * fs))
    return [RhythmEvent(kind, int(at[k]), int(at[k + beats - 1]), float(rate[k]), "/min") for k in chosen]
