"""Joining the intervals of a rule's terms: any of them, or all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vitalgate.alerts.columns import Ref
from vitalgate.alerts.machine import Term
from vitalgate.alerts.stepping import Interval

FOREVER = 1 << 62


class Span(NamedTuple):
    """A stretch over which a rule holds: what one alert is about."""

    onset: int
    detected: int
    end: int | None
    value: float
    term: Term
    evidence: tuple[Ref, ...]
    times: int = 1
    """How often the cause came: more than one where it came again within the settle time."""
    note: str = ""


def spans(term: Term, found: Sequence[Interval]) -> list[Span]:
    """Intervals of one term as spans."""
    return [Span(i.onset, i.detected, i.end, i.value, term, i.evidence) for i in found]


def any_of(parts: Sequence[list[Span]]) -> list[Span]:
    """Union: spans that overlap or touch become one, told by the earliest."""
    joined: list[Span] = []
    for span in sorted((s for part in parts for s in part), key=lambda s: (s.onset, s.detected, s.term.number)):
        last = joined[-1] if joined else None
        if last is None or span.onset > _end(last):
            joined.append(span)
        else:
            end = max(_end(last), _end(span))
            joined[-1] = last._replace(end=None if end == FOREVER else end, detected=min(last.detected, span.detected))
    return joined


def all_of(parts: Sequence[list[Span]]) -> list[Span]:
    """Intersection: while every term holds, told by the one that came last."""
    merged = [any_of([part]) for part in parts]
    joined = merged[0]
    for part in merged[1:]:
        both: list[Span] = []
        for a in joined:
            for b in part:
                onset, end = max(a.onset, b.onset), min(_end(a), _end(b))
                if onset < end or (onset == end and a.onset == b.onset):
                    later = a if a.onset > b.onset else b
                    both.append(
                        later._replace(
                            onset=onset,
                            detected=max(a.detected, b.detected, onset),
                            end=None if end == FOREVER else end,
                            evidence=a.evidence + b.evidence,
                        )
                    )
        joined = both
    return joined


def settled(found: list[Span], settle_us: int) -> list[Span]:
    """Spans that come again within the settle time are one."""
    joined: list[Span] = []
    for span in found:
        last = joined[-1] if joined else None
        if last is None or last.end is None or span.onset > last.end + settle_us:
            joined.append(span)
        else:
            joined[-1] = last._replace(end=span.end, times=last.times + span.times)
    return joined


def clipped(found: Sequence[Span], windows: Sequence[tuple[int, int]], now: int) -> list[Span]:
    """The parts of spans within windows [from, to); what begins or ends in the future has not yet."""
    parts: list[Span] = []
    for span in found:
        for begin, stop in windows:
            onset, end = max(span.onset, begin), min(_end(span), stop)
            if onset > end or (onset == end and span.onset != span.end) or onset > max(now, span.detected):
                continue
            over = None if end == FOREVER or (end != span.end and end > now) else end
            parts.append(span._replace(onset=onset, detected=max(span.detected, onset), end=over))
    return parts


def _end(span: Span) -> int:
    return FOREVER if span.end is None else span.end
