"""Ventricular rhythms from classified beats: couplets, runs, tachycardia, bigeminy and trigeminy.

=============  =======================================================================================
couplet        exactly two ventricular beats in a row; value: their rate
v_run          three or more in a row, slower than 100/min; value: the highest rate over three beats
vt             three or more in a row at 100/min or faster (AHA/ACC/HRS 2017); value: as above
vt_sustained   a vt that goes on for 30 s or longer, given from its onset; value: as above
bigeminy       every second beat ventricular, three times or more; value: the highest rate over six beats
trigeminy      every third beat ventricular, three times or more; value: the highest rate over nine beats
=============  =======================================================================================

No pattern counts across an interval in which signal is missing or that is a pause of 2 s or more.

Every rule looks at a few successive beats (a *window*) of at most SPAN_S, but for ``vt_sustained``, which looks 30 s
either way: events in [start, stop) depend on beats in [start - BEFORE_S*fs, stop + AFTER_S*fs) only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.pieces import Kind, RhythmEvent, by_stretch, join_events

NAME = "vg-ectopy"
VERSION = "1"

VT_PER_MIN = 100.0
SUSTAINED_S = 30.0
SPAN_S = 16.0
BEFORE_S = AFTER_S = SUSTAINED_S + 5.0
#: An interval as long as this ends a pattern.
LONGEST_RR_S = 2.0


def ectopy_pieces(
    beats: ArrayLike, kinds: ArrayLike, fs: float, edges: Sequence[int], known: ArrayLike | None = None
) -> list[list[RhythmEvent]]:
    """The events of successive stretches, between each two neighbours of ``edges``.

    Parameters
    ----------
    beats
        (n,) absolute samples of R peaks of one signal, increasing.
    kinds
        (n,) their classes: ``V`` counts, and what is not.
    edges
        Absolute samples, increasing.
    known
        (n - 1,) False where an interval is not known, because signal is missing in it. By default all are.

    Raises
    ------
    ValueError
        If there are not as many classes as beats.
    """
    at = np.asarray(beats, np.int64).ravel()
    odd = np.asarray(kinds).ravel() == "V"
    if len(odd) != len(at):
        raise ValueError(f"{len(at)} beats with {len(odd)} classes; give a class for each beat")
    if not odd.any():
        return [[] for _ in range(len(edges) - 1)]
    rr = np.diff(at)
    linked = rr < LONGEST_RR_S * fs
    if known is not None:
        linked &= np.asarray(known, np.bool_)
    events = _couplets(at, odd, linked, fs) + _runs(at, odd, linked, fs)
    events += _sustained(events, fs)
    events += _patterned(at, odd, linked, fs, 2, "bigeminy")
    events += _patterned(at, odd, linked, fs, 3, "trigeminy")
    return by_stretch(events, edges, fs)


def ectopy_events(beats: ArrayLike, kinds: ArrayLike, fs: float) -> list[RhythmEvent]:
    """All events of a recording, each whole; the arguments are those of ``ectopy_pieces``."""
    at = np.asarray(beats, np.int64).ravel()
    if not len(at):
        return []
    [events] = ectopy_pieces(at, kinds, fs, [int(at[0]), int(at[-1]) + 1])
    return events


def _rate(at: NDArray[np.int64], first: int, last: int, fs: float) -> float:
    return 60.0 * (last - first) * fs / float(at[last] - at[first])


def _couplets(at: NDArray[np.int64], odd: NDArray[np.bool_], linked: NDArray[np.bool_], fs: float) -> list[RhythmEvent]:
    joined = odd[:-1] & odd[1:] & linked
    alone = joined.copy()
    alone[1:] &= ~joined[:-1]
    alone[:-1] &= ~joined[1:]
    return [
        RhythmEvent("couplet", int(at[k]), int(at[k + 1]), _rate(at, k, k + 1, fs), "/min")
        for k in np.flatnonzero(alone).tolist()
    ]


def _runs(at: NDArray[np.int64], odd: NDArray[np.bool_], linked: NDArray[np.bool_], fs: float) -> list[RhythmEvent]:
    joined = odd[:-1] & odd[1:] & linked
    found = []
    for k in np.flatnonzero(joined[:-1] & joined[1:]).tolist():
        rate = _rate(at, k, k + 2, fs)
        found.append(RhythmEvent("vt" if rate >= VT_PER_MIN else "v_run", int(at[k]), int(at[k + 2]), rate, "/min"))
    return found


def _sustained(windows: Iterable[RhythmEvent], fs: float) -> list[RhythmEvent]:
    """The windows of tachycardia that are part of a long one, so that each piece has the rate of its own windows."""
    fast = [event for event in windows if event.kind == "vt"]
    found = []
    for whole in join_events(fast, fs):
        if whole.offset - whole.onset >= SUSTAINED_S * fs:
            found += [
                RhythmEvent("vt_sustained", event.onset, event.offset, event.value, event.unit)
                for event in fast
                if whole.onset <= event.onset < whole.offset
            ]
    return found


def _patterned(
    at: NDArray[np.int64], odd: NDArray[np.bool_], linked: NDArray[np.bool_], fs: float, every: int, kind: Kind
) -> list[RhythmEvent]:
    """Windows of three cycles in which each ``every``-th beat is ventricular and no other."""
    size = 3 * every
    if len(at) < size:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(odd, size)
    whole = np.lib.stride_tricks.sliding_window_view(linked, size - 1).all(axis=1)
    like = np.zeros(len(windows), np.bool_)
    for phase in range(every):
        like |= (windows == (np.arange(size) % every == phase)).all(axis=1)
    chosen = np.flatnonzero(like & whole & (at[size - 1 :] - at[: 1 - size] <= SPAN_S * fs))
    return [
        RhythmEvent(kind, int(at[k]), int(at[k + size - 1]), _rate(at, k, k + size - 1, fs), "/min")
        for k in chosen.tolist()
    ]
