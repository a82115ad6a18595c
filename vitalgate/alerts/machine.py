"""One condition of a rule as a state machine over the ordered samples of one metric.

A state is None (nothing going on) or a small immutable tuple, and is the *same object* as long as nothing changes, so
that ``is`` tells cheaply whether a sample mattered, and one object can be shared by hundreds of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vitalgate.alerts.rule import Condition, Event, Rule, Threshold, Trend

RUN = 1
ALARM = 2
#: (RUN, first) while bad for not yet long enough; (ALARM, onset, detected, well_since or NEVER) afterwards; for
#: events (ALARM, onset, first_sample_time, last_end).
State = tuple[int, ...] | None
NEVER = -(1 << 62)

_INF = math.inf


@dataclass(frozen=True, slots=True)
class Term:
    """A condition, compiled: samples are bad when ``sign * value > limit`` and well when ``sign * value <= clear``.

    Times are microseconds.
    """

    rule: str
    number: int
    """Position among the rule's conditions."""
    key: str
    """What it listens to: `reading/spo2`, `feature/event.pause`."""
    kind: Literal["threshold", "trend", "event"]
    sign: int
    limit: float
    clear: float
    for_us: int
    clear_us: int
    gap_us: int
    within_us: int
    quiet_us: int
    shown_limit: float | None
    unit: str


def compile_terms(rule: Rule) -> tuple[Term, ...]:
    """The machine's view of a rule's conditions."""
    return tuple(_compile(rule.id, k, condition) for k, condition in enumerate(rule.when))


def fingerprint(term: Term) -> str:
    """Text that two terms share only if they judge alike."""
    return repr(
        (term.rule, term.number, term.kind, term.sign, term.limit, term.clear, term.for_us, term.clear_us, term.gap_us,
         term.within_us, term.quiet_us)
    )  # fmt: skip


def _compile(rule: str, number: int, condition: Condition) -> Term:
    if isinstance(condition, Threshold):
        sign = -1 if condition.low else 1
        edge = sign * condition.limit
        limit = edge if condition.strict else math.nextafter(edge, -_INF)
        clear = limit if condition.clear is None else sign * condition.clear
        return Term(
            rule, number, f"{condition.source}/{condition.metric}", "threshold", sign, limit, clear,
            _us(condition.for_s), _us(condition.clear_for_s), _us(condition.max_gap_s), 0, 0, condition.limit,
            condition.unit,
        )  # fmt: skip
    if isinstance(condition, Trend):
        sign = 1 if condition.rise is not None else -1
        limit = math.nextafter(condition.limit - 1e-9, -_INF)
        clear = limit if condition.clear is None else condition.clear + 1e-9
        return Term(
            rule, number, f"{condition.source}/{condition.metric}", "trend", sign, limit, clear, 0, 0, 0,
            _us(condition.within_s), 0, condition.limit, condition.unit,
        )  # fmt: skip
    assert isinstance(condition, Event)
    sign = -1 if condition.at_most is not None else 1
    limit = -_INF if condition.limit is None else math.nextafter(sign * condition.limit, -_INF)
    return Term(
        rule, number, f"feature/{condition.event}", "event", sign, limit, -_INF, 0, 0, 0, 0, _us(condition.quiet_s),
        condition.limit, condition.unit,
    )  # fmt: skip


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def step(term: Term, state: State, previous: int, time: int, x: float) -> State:
    """The state after one more sample.

    Parameters
    ----------
    term, state
        A threshold or trend term and its state so far.
    previous
        Time of the sample before (NEVER for the first), us.
    time
        Time of this sample, not before ``previous``, us.
    x
        ``sign * value`` of it; for a trend, the difference.
    """
    if state is None or state[0] == RUN:
        if not x > term.limit:
            return None
        if state is None or time - previous > term.gap_us:
            return (RUN, time) if term.for_us else (ALARM, time, time, NEVER)
        if time - state[1] >= term.for_us:
            return (ALARM, state[1], time, NEVER)
        return state
    well = state[3]
    if x <= term.clear:
        if well == NEVER or time - previous > term.gap_us:
            if not term.clear_us:
                return None
            return (ALARM, state[1], state[2], time)
        return None if time - well >= term.clear_us else state
    return state if well == NEVER else (ALARM, state[1], state[2], NEVER)


def step_event(term: Term, state: State, time: int, end: int, x: float) -> State:
    """The state after one more event that lasted from ``time`` to ``end``."""
    if not x > term.limit:
        return state
    if state is not None and time <= state[3] + term.quiet_us:
        return state if end <= state[3] else (ALARM, state[1], state[2], end)
    return (ALARM, time, time, end)
