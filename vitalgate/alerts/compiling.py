"""Conditions of rule files as terms that the machine can step."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from vitalgate.alerts.conditions import AnyCondition, Day, Event, Flagged, Score, Silent, Threshold, Trend
from vitalgate.alerts.machine import NEVER, Term
from vitalgate.alerts.rule import Rule
from vitalgate.devices import catalogue

_INF = math.inf
#: Facts of a patient by name: (from, value), oldest first.
Facts = Mapping[str, tuple[tuple[int, float], ...]]
Zones = tuple[tuple[int, str], ...]

#: Inputs of NEWS2: (parameter, key, how long a value counts in hours). Engineering judgement (the RCP gives none for a
#: home): twice the chart's longest interval of observation for what is measured by hand, half an hour for what is
#: measured all the time. Of two sources of one parameter the first that is fresh counts.
NEWS2_INPUTS: tuple[tuple[str, str, float], ...] = (
    ("respiration_rate", "reading/respiration_rate", 12.0),
    ("spo2", "reading/spo2", 12.0),
    ("oxygen", "reading/oxygen", 24.0),
    ("oxygen", "reading/oxygen_flow", 24.0),
    ("oxygen", "reading/oxygen_concentration", 24.0),
    ("bp_systolic", "reading/bp_systolic", 24.0),
    ("pulse", "feature/heart_rate", 0.5),
    ("pulse", "reading/pulse_rate", 12.0),
    ("pulse", "reading/heart_rate", 12.0),
    ("consciousness", "reading/consciousness", 24.0),
    ("temperature", "reading/temperature", 24.0),
)
#: What an input shows of somebody who breathes air: more than that is oxygen.
_ON_AIR = {"reading/oxygen_concentration": 21.0}
#: A continuous input counts with the median of this stretch, so that one sample does not move the score; breath and
#: heart rate with that of a quarter of an hour, since the chart means somebody at rest and people at home climb stairs.
NEWS2_MEDIAN_S = 60.0
NEWS2_REST_S = 900.0
_AT_REST = frozenset({"reading/respiration_rate", "feature/heart_rate", "reading/heart_rate"})
NEWS2 = "(news2)"


def news2_terms() -> tuple[Term, ...]:
    """Inputs of the score; the same for every rule that uses it."""
    return tuple(
        Term(
            NEWS2, n, key, "band", 1, _ON_AIR.get(key, 0.0), 0.0, hold_us=us(hours * 3600), parameter=parameter,
            within_us=us(NEWS2_REST_S if key in _AT_REST else NEWS2_MEDIAN_S),
        )
        for n, (parameter, key, hours) in enumerate(NEWS2_INPUTS)
    )  # fmt: skip


@functools.cache
def cadences() -> Mapping[str, float]:
    """Quickest cadence of each kind of device that has one, seconds; a kind with channels sends all the time."""
    found: dict[str, float] = {}
    for kind in catalogue.load().kinds.values():
        given = [metric.cadence_s for metric in kind.metrics.values() if metric.cadence_s]
        if given:
            found[kind.name] = min(given)
    return found


def silence_s(condition: Silent) -> float:
    """After how long a device of a kind counts as silent, seconds."""
    return max(condition.missed * cadences().get(condition.silent, 0.0), condition.at_least_s)


def compile_terms(rule: Rule, facts: Facts | None = None, zones: Zones = ()) -> tuple[Term, ...]:
    """The machine's view of a rule's conditions, for a patient with these facts and time zones."""
    if isinstance(rule.when[0], Score):
        return news2_terms()
    return tuple(
        _COMPILERS[type(condition)](rule.id, n, condition, facts or {}, zones) for n, condition in enumerate(rule.when)
    )


def _threshold(rule: str, n: int, condition: Threshold, facts: Facts, zones: Zones) -> Term:
    sign = -1 if condition.low else 1
    edge = sign * condition.limit
    limit = edge if condition.strict else math.nextafter(edge, -_INF)
    clear = limit if condition.clear is None else sign * condition.clear
    shown: float | None = condition.limit
    known = facts.get(condition.share_of, ()) if condition.share_of else None
    if known is not None:
        shown = condition.limit * known[-1][1] if known else None
    return Term(
        rule, n, f"{condition.source}/{condition.metric}", "threshold", sign, limit, clear,
        for_us=us(condition.for_s), clear_us=us(condition.clear_for_s), gap_us=us(condition.max_gap_s),
        shown_limit=shown, unit=condition.unit, hold_us=us(condition.holds_s), facts=known,
    )  # fmt: skip


def _trend(rule: str, n: int, condition: Trend, facts: Facts, zones: Zones) -> Term:
    sign = 1 if condition.rise is not None else -1
    limit = math.nextafter(condition.limit - 1e-9, -_INF)
    clear = limit if condition.clear is None else condition.clear + 1e-9
    return Term(
        rule, n, f"{condition.source}/{condition.metric}", "trend", sign, limit, clear,
        within_us=us(condition.within_s), shown_limit=condition.limit, unit=condition.unit,
        hold_us=us(condition.holds_s),
    )  # fmt: skip


def _event(rule: str, n: int, condition: Event, facts: Facts, zones: Zones) -> Term:
    sign = -1 if condition.at_most is not None else 1
    limit = -_INF if condition.limit is None else math.nextafter(sign * condition.limit, -_INF)
    return Term(
        rule, n, f"feature/{condition.event}", "event", sign, limit, -_INF, quiet_us=us(condition.quiet_s),
        shown_limit=condition.limit, unit=condition.unit,
    )  # fmt: skip


def _flagged(rule: str, n: int, condition: Flagged, facts: Facts, zones: Zones) -> Term:
    return Term(
        rule, n, "flag/" + " ".join(sorted(condition.flags)), "threshold", 1, 0.0, 0.0, for_us=us(condition.for_s),
        gap_us=us(condition.max_gap_s), hold_us=us(condition.holds_s),
    )  # fmt: skip


def _silent(rule: str, n: int, condition: Silent, facts: Facts, zones: Zones) -> Term:
    seconds = silence_s(condition)
    return Term(
        rule, n, f"device/{condition.silent}", "silent", 1, 0.0, 0.0, gap_us=us(seconds), shown_limit=seconds, unit="s"
    )


def _day(rule: str, n: int, condition: Day, facts: Facts, zones: Zones) -> Term:
    sign = -1 if condition.below is not None else 1
    floor = sign * condition.below if condition.below is not None else condition.above
    return Term(
        rule, n, f"{condition.source}/{condition.metric}", "day", sign, condition.at_least,
        -_INF if floor is None else floor, shown_limit=condition.at_least, unit=condition.unit, day=condition.day,
        zones=zones or ((NEVER, "UTC"),),
    )  # fmt: skip


_COMPILERS: dict[type[AnyCondition], Callable[[str, int, Any, Facts, Zones], Term]] = {
    Threshold: _threshold,
    Trend: _trend,
    Event: _event,
    Flagged: _flagged,
    Silent: _silent,
    Day: _day,
}


def us(seconds: float) -> int:
    """Seconds as microseconds."""
    return round(seconds * 1_000_000)
