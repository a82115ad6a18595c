"""Stepping the terms of a metric over its samples, and reading off the intervals that come of it."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from vitalgate.alerts.columns import Columns, Ref, Sources
from vitalgate.alerts.days import day_end
from vitalgate.alerts.machine import (
    ALARM,
    BAND,
    NEVER,
    State,
    Term,
    counts,
    end_of,
    fact_at,
    step,
    step_band,
    step_day,
    step_event,
)


class Interval(msgspec.Struct, array_like=True, frozen=True):
    """A stretch of event time over which a term held."""

    onset: int
    detected: int
    """Event time of the sample that fulfilled it."""
    end: int | None
    """None while it lasts."""
    value: float
    """Value of the detecting sample."""
    evidence: tuple[Ref, ...]
    """First and detecting sample."""


class Stepped(Columns):
    """Samples in order with the states of every term after each of them, and what is left of those folded away."""

    def __init__(self, terms: tuple[Term, ...], sources: Sources, spans: bool, ceiling: int | None) -> None:
        super().__init__(sources, spans)
        self.terms = terms
        self.ceiling = ceiling
        """For a track of late samples: where the main track begins."""
        self.states: list[list[State]] = [[] for _ in terms]
        self.base: list[State] = [None] * len(terms)
        self.base_valid = NEVER
        self.last_valid = NEVER
        self.past: list[list[Interval]] = [[] for _ in terms]

    # --- stepping ---------------------------------------------------------------------------------------------------

    def _advance(self, time: int, value: float, end: int) -> int:
        """Step every term over the sample just appended."""
        alarm = 0
        last = len(self.times) - 1
        valid = value == value
        for k, term in enumerate(self.terms):
            states = self.states[k]
            state = states[-1] if states else self.base[k]
            new = self._step(term, state, self.last_valid, time, value, end, last) if valid else state
            states.append(new)
            if new is not state:
                if counts(new) or counts(state):
                    alarm |= 1 << k
            elif term.hold_us and valid and counts(new) and self.sources.now.us > self.last_valid + term.hold_us:
                # It was told that this is over, since nothing came; now something has, from before that.
                alarm |= 1 << k
        if valid:
            self.last_valid = time
        return alarm

    def _step(self, term: Term, state: State, previous: int, time: int, value: float, end: int, at: int) -> State:
        kind = term.kind
        if kind == "threshold":
            x = term.sign * value
            if term.facts is not None:
                fact = fact_at(term.facts, time)
                if not fact:
                    return state
                x /= fact
            return step(term, state, previous, time, x)
        if kind == "event":
            return step_event(term, state, time, end, term.sign * value)
        if kind == "band":
            return step_band(term, state, previous, time, self.median(time - term.within_us, at))
        if kind == "day":
            return step_day(term, state, time, value, day_end(term.zones, time))
        x = term.sign * value
        return step(term, state, previous, time, x - self.lowest(term.sign, time - term.within_us, at))

    def _bad(self, term: Term, time: int, value: float) -> bool:
        fact = 1.0 if term.facts is None else fact_at(term.facts, time)
        return bool(fact) and term.sign * value / (fact or 1.0) > term.limit

    def _again(self, at: int, changed: int, settled: int) -> int:
        """Step again from row ``at``; from row ``settled`` on, old states may be believed where they agree."""
        before = self.valid_before(at, self.base_valid)
        alarm = 0
        for k, term in enumerate(self.terms):
            if self._term_again(k, term, at, changed, settled, before):
                alarm |= 1 << k
        self.last_valid = self.valid_before(len(self.times), self.base_valid)
        return alarm

    def _term_again(self, k: int, term: Term, at: int, changed: int, settled: int, previous: int) -> bool:
        states = self.states[k]
        state = states[at - 1] if at else self.base[k]
        alarm = bool(term.hold_us) and counts(state)
        for j in range(at, len(self.times)):
            value, time = self.values[j], self.times[j]
            valid = value == value
            if valid:
                state = self._step(term, state, previous, time, value, self.ends[j] if self.spans else 0, j)
                previous = time
            old = states[j]
            if state == old:
                state = old
                if valid and j >= settled and (not term.within_us or time > changed + term.within_us):
                    return alarm
                continue
            states[j] = state
            alarm |= counts(state) or counts(old)
        return alarm

    def recompute(self) -> None:
        """Step over all samples from the base: after loading, or when the terms have changed."""
        self.states = [[None] * len(self.times) for _ in self.terms]
        self._again(0, NEVER, len(self.times))

    def natural_end(self, k: int) -> int | None:
        """When the interval of term ``k`` that lasts is over though nothing more comes; None when none lasts."""
        state = self.states[k][-1] if self.states[k] else self.base[k]
        return end_of(self.terms[k], state, self.last_valid) if counts(state) else None

    def newest_band(self, k: int) -> tuple[tuple[str, int], int] | None:
        """Parameter and number of the newest band of term ``k``, and the time of the newest value; None without any."""
        state = self.states[k][-1] if self.states[k] else self.base[k]
        if state is None or state[0] != BAND:
            return None
        return (self.terms[k].parameter, state[2]), self.last_valid

    def intervals(self, k: int) -> list[Interval]:
        """All intervals known of term ``k``, by onset. Those of an event term have an end, maybe in the future."""
        found = self._found(k)
        if found and found[-1].end is None and self.ceiling is not None:
            found[-1] = msgspec.structs.replace(found[-1], end=max(self.ceiling, found[-1].detected))
        return found

    def _found(self, k: int) -> list[Interval]:
        term = self.terms[k]
        found = list(self.past[k])
        current: Interval | None = None
        seen = self.base[k]
        if seen is not None and seen[0] >= ALARM and found and found[-1].onset == seen[1]:
            current = found.pop()
        for j, state in enumerate(self.states[k]):
            if state is seen:
                continue
            if current is not None and (state is None or state[0] < ALARM or state[1] != current.onset):
                found.append(msgspec.structs.replace(current, end=self._end(term, seen, j)))
                current = None
            seen = state
            if state is not None and state[0] >= ALARM:
                current = current or self._interval(term, state, j)
        if current is not None:
            end = end_of(term, seen, self.last_valid) if term.timed else None
            found.append(msgspec.structs.replace(current, end=end))
        return found

    def _end(self, term: Term, state: State, j: int) -> int:
        """Where an interval ends that row ``j`` is not in any more."""
        if not term.timed:
            return self.times[j]
        natural = end_of(term, state, self.valid_before(j, self.base_valid))
        assert natural is not None
        return natural if term.kind == "event" else min(natural, self.times[j])

    def _interval(self, term: Term, state: tuple[int, ...], detecting: int) -> Interval:
        refs: tuple[Ref, ...] = (self.ref(detecting),)
        if state[0] == BAND:
            return Interval(state[1], state[1], None, float(state[2]), refs)
        if state[1] != self.times[detecting] and self.times[0] <= state[1]:
            first = bisect_left(self.times, state[1])
            while term.kind == "threshold" and not self._bad(term, self.times[first], self.values[first]):
                first += 1
            refs = (self.ref(first), *refs)
        return Interval(state[1], self.times[detecting], None, self.values[detecting], refs)
