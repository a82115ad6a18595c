"""NEWS2 over event time: from the bands of its inputs to the spans in which a rule on the score holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from vitalgate.alerts import news2
from vitalgate.alerts.columns import Ref
from vitalgate.alerts.conditions import Score
from vitalgate.alerts.intervals import FOREVER, Span
from vitalgate.alerts.machine import NEVER, Term, fact_at

SCALE = "spo2_scale"


class Point(NamedTuple):
    """The score from a moment on, until the next point."""

    time: int
    fresh: int
    """Total of the inputs that are fresh: a lower bound while some are missing."""
    red: bool
    standing: int
    """Total of the newest value of each input, however old: an input that only grew old takes no points away."""
    standing_red: bool
    missing: tuple[str, ...]
    term: Term
    evidence: tuple[Ref, ...]


def sweep(inputs: Sequence[tuple[Term, list[Span]]], scales: tuple[tuple[int, float], ...]) -> list[Point]:
    """The score as a step function.

    Parameters
    ----------
    inputs
        Each source of a parameter, preferred ones first, with the spans of its bands (``value`` is the band).
    scales
        (from, 1 or 2) of the patient's SpO2 scale.
    """
    moments: list[tuple[int, int, Span | None]] = []
    for n, (_, spans) in enumerate(inputs):
        for k, span in enumerate(spans):
            moments.append((span.onset, n, span))
            after = spans[k + 1].onset if k + 1 < len(spans) else FOREVER
            if span.end is not None and span.end < after:
                moments.append((span.end, n, None))
    moments += [(since, -1, None) for since, _ in scales if since != NEVER]
    moments.sort(key=lambda moment: moment[:2])
    by_parameter: dict[str, list[int]] = {}
    for n, (term, _) in enumerate(inputs):
        by_parameter.setdefault(term.parameter, []).append(n)
    fresh: dict[int, Span] = {}
    newest: dict[int, Span] = {}
    points: list[Point] = []
    for at, (time, n, band) in enumerate(moments):
        if n >= 0:
            if band is None:
                fresh.pop(n, None)
            else:
                fresh[n] = newest[n] = band
        if at + 1 < len(moments) and moments[at + 1][0] == time:
            continue
        scale = 2 if fact_at(scales, time) == 2 else 1
        now = _chosen(by_parameter, fresh, fresh)
        ever = _chosen(by_parameter, fresh, newest)
        a, b = _points(now, scale), _points(ever, scale)
        missing = tuple(name for name in news2.PARAMETERS if name not in a)
        refs = tuple(now[name].evidence[0] for name, value in a.items() if value and now[name].evidence)
        points.append(
            Point(
                time, sum(a.values()), 3 in a.values(), sum(b.values()), 3 in b.values(), missing,
                inputs[max(n, 0)][0], refs,
            )
        )  # fmt: skip
    return points


def _chosen(
    by_parameter: Mapping[str, list[int]], fresh: Mapping[int, Span], among: Mapping[int, Span]
) -> dict[str, Span]:
    """Of each parameter the first fresh source, else the newest there is among these."""
    found: dict[str, Span] = {}
    for parameter, sources in by_parameter.items():
        there = [n for n in sources if n in among]
        if there:
            best = next((n for n in there if n in fresh), None)
            found[parameter] = among[max(there, key=lambda n: among[n].onset) if best is None else best]
    return found


def _points(chosen: Mapping[str, Span], scale: int) -> dict[str, int]:
    oxygen = chosen.get("oxygen")
    on_oxygen = oxygen is not None and oxygen.value > 0
    return {name: news2.band_points(name, int(span.value), scale, on_oxygen) for name, span in chosen.items()}


def spans(condition: Score, points: Sequence[Point]) -> list[Span]:
    """Where a rule on the score holds. It begins with fresh inputs only, and ends only by better values."""
    found: list[Span] = []
    current: Span | None = None
    clear = condition.limit - 1 if condition.clear is None else condition.clear
    for point in points:
        bad = point.red if condition.red else point.fresh >= condition.limit
        bad = bad and len(news2.PARAMETERS) - len(point.missing) >= condition.inputs
        well = not point.standing_red if condition.red else point.standing <= clear
        if current is None and bad:
            names = ", ".join(news2.TITLES[name] for name in point.missing)
            current = Span(
                point.time, point.time, None, float(point.fresh), point.term, point.evidence, 1,
                f"incomplete, without {names}" if names else "complete",
            )  # fmt: skip
        elif current is not None and well and not bad:
            found.append(current._replace(end=point.time))
            current = None
    if current is not None:
        found.append(current)
    return found


def _most(parameter: str, scales: tuple[int, ...]) -> list[int]:
    """By band: the most points on any of these scales."""
    found: list[int] = []
    try:
        while True:
            band = len(found)
            found.append(max(news2.band_points(parameter, band, scale, on) for scale in scales for on in (False, True)))
    except IndexError:
        return found


_MOST: dict[int, dict[str, list[int]]] = {
    last: {str(name): _most(name, tuple(range(1, last + 1))) for name in news2.PARAMETERS} for last in (1, 2)
}


def most_points(bands: Iterable[tuple[str, int]], scales: tuple[tuple[int, float], ...]) -> dict[str, int]:
    """The most points that each parameter can have in these bands, on the patient's saturation scales and any gas."""
    table = _MOST[2 if scales else 1]
    found: dict[str, int] = {}
    for parameter, band in bands:
        found[parameter] = max(table[parameter][band], found.get(parameter, 0))
    return found


def quiet(condition: Score, most: Mapping[str, int]) -> bool:
    """Whether a rule on the score surely does not hold with no more than these points."""
    if len(most) < condition.inputs:
        return True
    return 3 not in most.values() if condition.red else sum(most.values()) < condition.limit
