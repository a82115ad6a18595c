"""Rhythm events, and how they are cut at the edges of stretches and put together again.

A rule finds *windows*: a few beats that meet a definition. Windows of one kind that overlap are one event. An event may
last for hours, so it is given in pieces, one for each stretch (block) that it touches, and a piece depends only on the
windows that reach into its stretch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal[
    "pause", "asystole", "bradycardia", "tachycardia", "couplet", "v_run", "vt", "vt_sustained", "bigeminy",
    "trigeminy", "vf", "af",
]  # fmt: skip

#: Given whole, in the stretch where they begin.
WHOLE: frozenset[Kind] = frozenset({"pause", "couplet"})


@dataclass(frozen=True)
class RhythmEvent:
    """Something that the heart did between two absolute samples.

    Attributes
    ----------
    kind
        What it was.
    onset, offset
        Absolute samples, [onset, offset): from a beat (asystole: the sample after it) to a beat, or as far as there was
        signal, or to where the piece was cut.
    value, unit
        Length in ``s``, or rate in ``/min``: of several windows the lowest in bradycardia, the highest elsewhere.
    """

    kind: Kind
    onset: int
    offset: int
    value: float
    unit: str


def by_stretch(events: Iterable[RhythmEvent], edges: Sequence[int], fs: float) -> list[list[RhythmEvent]]:
    """For each two neighbours of ``edges`` the events between them, cut there, those that touch joined; by onset."""
    found: list[list[RhythmEvent]] = [[] for _ in range(len(edges) - 1)]
    for event in events:
        k = bisect_right(edges, event.onset) - 1
        if event.kind in WHOLE:
            if 0 <= k < len(found):
                found[k].append(event)
            continue
        for stretch in range(max(k, 0), len(found)):
            onset, offset = max(event.onset, edges[stretch]), min(event.offset, edges[stretch + 1])
            if onset < offset:
                whole = onset == event.onset and offset == event.offset
                found[stretch].append(
                    event if whole else RhythmEvent(event.kind, onset, offset, event.value, event.unit)
                )
            if event.offset <= edges[stretch + 1]:
                break
    return [join_events(own, fs) for own in found]


def join_events(pieces: Iterable[RhythmEvent], fs: float) -> list[RhythmEvent]:
    """Put together what was cut at the edges of touching stretches.

    The events of stretches that together cover [a, b), joined, are those of [a, b) in one.
    """
    joined: list[RhythmEvent] = []
    for event in sorted(pieces, key=lambda e: (e.kind, e.onset, e.offset)):
        last = joined[-1] if joined else None
        if last is None or last.kind != event.kind or event.kind in WHOLE or event.onset > last.offset:
            joined.append(event)
            continue
        offset = max(last.offset, event.offset)
        value = min(last.value, event.value) if event.kind == "bradycardia" else max(last.value, event.value)
        if offset != last.offset or value != last.value:
            joined[-1] = RhythmEvent(last.kind, last.onset, offset, value, last.unit)
    joined = [replace(e, value=(e.offset - e.onset) / fs) if e.kind == "asystole" else e for e in joined]
    return sorted(joined, key=lambda e: (e.onset, e.kind))
