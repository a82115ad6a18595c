"""One condition of a rule as a state machine over the ordered samples of one metric.

A state is None (nothing going on) or a small immutable tuple, and is the *same object* as long as nothing changes, so
that ``is`` tells cheaply whether a sample mattered, and one object can be shared by hundreds of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vitalgate.alerts import news2

RUN = 1
ALARM = 2
BAND = 3
#: (RUN, first) while bad for not yet long enough; (ALARM, onset, detected, well_since or NEVER) afterwards; for
#: events (ALARM, onset, first_sample_time, last_end); for inputs of a score (BAND, since, number); for totals of a day
#: (RUN, total, day_end) and (ALARM, onset, detected, day_end), the total in millionths.
State = tuple[int, ...] | None
NEVER = -(1 << 62)

_INF = math.inf

TermKind = Literal["threshold", "trend", "event", "band", "day", "silent"]


@dataclass(frozen=True, slots=True)
class Term:
    """A condition, compiled: samples are bad when ``sign * value > limit`` and well when ``sign * value <= clear``.

    Times are microseconds. Of the band of a score's input ``limit`` is what is taken off the value before.
    """

    rule: str
    number: int
    """Position among the rule's conditions (of a score, among its inputs)."""
    key: str
    """What it listens to: `reading/spo2`, `feature/event.pause`, `flag/sensor_off`, `device/ecg-patch`."""
    kind: TermKind
    sign: int
    limit: float
    clear: float
    for_us: int = 0
    clear_us: int = 0
    gap_us: int = 0
    within_us: int = 0
    quiet_us: int = 0
    shown_limit: float | None = None
    unit: str = ""
    hold_us: int = 0
    """A value counts for so long when nothing newer comes; 0: until something does."""
    parameter: str = ""
    """Of a band: the NEWS2 parameter."""
    facts: tuple[tuple[int, float], ...] | None = None
    """(from, value) of the patient's fact that values are divided by; None: they are not."""
    day: str = ""
    """count or sum."""
    zones: tuple[tuple[int, str], ...] = ()
    """(from, IANA name) of the patient's time zones, for days."""

    @property
    def timed(self) -> bool:
        """True when time alone can change what it says."""
        return bool(self.hold_us) or self.kind in ("event", "silent", "day")


def fingerprint(term: Term) -> str:
    """Text that two terms share only if they judge alike."""
    return repr(
        (term.rule, term.number, term.kind, term.sign, term.limit, term.clear, term.for_us, term.clear_us, term.gap_us,
         term.within_us, term.quiet_us, term.hold_us, term.parameter, term.facts, term.day, term.zones)
    )  # fmt: skip


def fact_at(facts: tuple[tuple[int, float], ...], time: int) -> float | None:
    """What is known of a patient at an event time."""
    found = None
    for since, value in facts:
        if since > time:
            break
        found = value
    return found


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
    if term.hold_us and state is not None and time - previous > term.hold_us:
        state = None
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


def step_band(term: Term, state: State, previous: int, time: int, value: float) -> State:
    """The state after one more value of a score's input."""
    number = news2.band(term.parameter, value - term.limit)
    if state is not None and state[2] == number and time - previous <= term.hold_us:
        return state
    return (BAND, time, number)


def step_day(term: Term, state: State, time: int, value: float, day_end: int) -> State:
    """The state after one more value in the local day that ends at ``day_end``."""
    if state is not None and state[-1] != day_end:
        state = None
    if state is not None and state[0] == ALARM:
        return state
    total = 0 if state is None else state[1]
    if term.sign * value > term.clear:
        total += 1_000_000 if term.day == "count" else round(value * 1_000_000)
    if total >= round(term.limit * 1_000_000):
        return (ALARM, time, time, day_end)
    return (RUN, total, day_end)


def end_of(term: Term, state: State, previous: int) -> int | None:
    """When the interval of an alarm (or band) is over though nothing more comes; None when it is not.

    ``previous`` is the time of the newest value so far.
    """
    assert state is not None
    if term.kind == "event":
        return state[3] + term.quiet_us
    if term.kind == "day":
        return state[3]
    return previous + term.hold_us if term.hold_us else None


def counts(state: State) -> bool:
    """True for a state that makes an interval."""
    return state is not None and state[0] >= ALARM
