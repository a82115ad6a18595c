"""The newest samples of one metric of one patient with the states of every term after each of them.

A sample is a measurement by identity (time, source, index); of its versions the one of highest rank stands, whatever
came first. Appending in order costs one step of each term. Anything else (late, corrected, taken away) is put in its
place and the states are stepped again from there until they agree with what they were.

Memory is bounded: beyond ``FOLD_AT`` samples the oldest are folded into the states they led to (``base``) and the
alarm intervals that they made (``past``). What comes for the time before that (``edge``) is late and not taken.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from vitalgate.alerts.columns import Columns, Ref, Sources, same
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

KEEP = 256
FOLD_AT = 320
#: Samples of one moment cannot be folded apart; no more than this are taken.
FULL = 4 * FOLD_AT
#: Superseded sightings remembered by name.
NAMED = 32
#: Closed alarm intervals kept beyond the samples, per term.
PAST = 32


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


class Outcome(NamedTuple):
    """What ``put`` and ``remove`` did."""

    changed: bool
    """Something is to be remembered that was not before."""
    alarm: int
    """Bit k: an alarm interval of term k may be another one than before."""
    late: bool = False
    """Before the edge: not taken."""
    appended: bool = False
    """In order, after all that was there."""


SAME = Outcome(False, 0)
QUIET = Outcome(True, 0)
TOO_LATE = Outcome(False, 0, True)


class Track(Columns):
    """See the module."""

    def __init__(
        self, terms: tuple[Term, ...], sources: Sources, spans: bool = False, ceiling: int | None = None
    ) -> None:
        super().__init__(sources, spans)
        self.terms = terms
        self.ceiling = ceiling
        """For a track of late samples: where the main track begins."""
        self.states: list[list[State]] = [[] for _ in terms]
        self.base: list[State] = [None] * len(terms)
        self.base_valid = NEVER
        self.last_valid = NEVER
        self.edge = NEVER
        self.past: list[list[Interval]] = [[] for _ in terms]
        self.alternatives: dict[tuple[int, int, int], dict[float, tuple[int, int]]] = {}
        """Of measurements without numbering and with several values: the first sighting (order, item) of each."""
        self.superseded: list[Ref] = []
        """Sightings that are not the current version, by which a later correction may still name the measurement."""

    # --- taking samples --------------------------------------------------------------------------------------------

    def put(self, ref: Ref, value: float, end: int = 0) -> Outcome:
        """Take one sighting of a measurement; NaN stands for no usable value."""
        times = self.times
        time, source, index = ref.time, ref.source, ref.index
        newest = times[-1] if times else self.edge
        if time > newest and not (self.spans and self.find(time, source, index) is not None):
            self.insert(len(times), ref, value, end)
            alarm = self._advance(time, value, end)
            if len(times) > FOLD_AT:
                self._fold(len(times) - KEEP)
            return Outcome(True, alarm, appended=True) if alarm else QUIET
        at = self.find(time, source, index)
        if at is not None:
            return self._replace(at, ref, value, end) if self.spans else self._version(at, ref, value)
        if time <= self.edge:
            return self._amend(ref, value)
        if len(times) >= FULL:
            return TOO_LATE
        return self._put_between(ref, value, end)

    def remove(self, time: int, source: int, index: int) -> Outcome:
        """Take a measurement away as if it had never been there."""
        at = self.find(time, source, index)
        if at is not None:
            self.alternatives.pop((self.times[at], source, index), None)
            return self._delete_row(at)
        dropped = self._drop_where(lambda ref: self._is(ref, time, source, index), None)
        return Outcome(True, dropped) if dropped else SAME

    def named(self, device: str, epoch: int, order: int, item: int) -> tuple[int, int, int] | None:
        """Identity (time, source, index) of what a message brought, as far as is remembered."""
        at = self.find_message(device, epoch, order, item)
        if at is not None:
            return self.times[at], self.source[at], self.index[at]
        folded = (ref for intervals in self.past for interval in intervals for ref in interval.evidence)
        for ref in (*self.superseded, *folded):
            if (ref.epoch, ref.order, ref.item) == (epoch, order, item) and self.sources.names[ref.source][0] == device:
                return ref.time, ref.source, ref.index
        return None

    def _put_between(self, ref: Ref, value: float, end: int) -> Outcome:
        at = self.place(ref.time, ref.source, ref.index)
        self.insert(at, ref, value, end)
        for k, states in enumerate(self.states):
            states.insert(at, states[at - 1] if at else self.base[k])
        alarm = self._again(at, ref.time, at + 1)
        if len(self.times) > FOLD_AT:
            self._fold(len(self.times) - KEEP)
        return Outcome(True, alarm)

    def _delete_row(self, at: int) -> Outcome:
        time = self.times[at]
        self.delete(at, at + 1)
        dropped = 0
        for k, states in enumerate(self.states):
            state, before = states.pop(at), states[at - 1] if at else self.base[k]
            if (state != before and (counts(state) or counts(before))) or (self.terms[k].hold_us and counts(before)):
                dropped |= 1 << k
        return Outcome(True, self._again(at, time, at) | dropped)

    def _version(self, at: int, ref: Ref, value: float) -> Outcome:
        """Another sighting of a measurement that is there."""
        had, rank, old = self.rank(at), (ref.epoch, ref.order, ref.item), self.values[at]
        identity = (self.times[at], self.source[at], self.index[at])
        if ref.epoch:
            if rank == had:
                return SAME
            if rank < had:
                return self._supersede(ref)
            self.alternatives.pop(identity, None)
            if had[0]:
                self._supersede(self.ref(at))
        else:
            if had[0]:
                return SAME
            value, rank = self._first_sighting(identity, old, had, value, rank)
        if rank == had and same(value, old):
            return QUIET if identity in self.alternatives else SAME
        self.set_rank(at, rank, ref.content)
        if same(value, old):
            return QUIET
        self.values[at] = value
        return Outcome(True, self._again(at, self.times[at], at + 1))

    def _first_sighting(
        self, identity: tuple[int, int, int], old: float, had: tuple[int, int, int], value: float,
        rank: tuple[int, int, int],
    ) -> tuple[float, tuple[int, int, int]]:  # fmt: skip
        """Without numbering a value counts from its first sighting, so that a repeat brings nothing back."""
        first = self.alternatives.get(identity)
        if first is None:
            if same(value, old):
                return value, min(rank, had)
            first = self.alternatives[identity] = {old: had[1:]}
        known = next((v for v in first if same(v, value)), value)
        first[known] = min(first.get(known, rank[1:]), rank[1:])
        latest = max(first, key=lambda v: first[v])
        return latest, (0, *first[latest])

    def _supersede(self, ref: Ref) -> Outcome:
        if ref in self.superseded:
            return SAME
        self.superseded.append(ref)
        del self.superseded[:-NAMED]
        return QUIET

    def _replace(self, at: int, ref: Ref, value: float, end: int) -> Outcome:
        if (ref.epoch, ref.order, ref.item) <= self.rank(at):
            return SAME
        first = self._delete_row(at)
        second = self._put_between(ref, value, end)
        return Outcome(True, first.alarm | second.alarm)

    # --- before the edge --------------------------------------------------------------------------------------------

    def _is(self, ref: Ref, time: int, source: int, index: int) -> bool:
        return ref.source == source and ref.index == index and (self.spans or ref.time == time)

    def _amend(self, ref: Ref, value: float) -> Outcome:
        """A correction of a folded sample is taken when an alarm rests on that sample and does not hold any more."""
        rests = [
            old for intervals in self.past for interval in intervals for old in interval.evidence
            if self._is(old, ref.time, ref.source, ref.index)
        ]  # fmt: skip
        if not rests:
            return TOO_LATE
        newer = all((ref.epoch, ref.order, ref.item) > (old.epoch, old.order, old.item) for old in rests)
        dropped = self._drop_where(rests.__contains__, value) if newer else 0
        return Outcome(True, dropped) if dropped else SAME

    def _drop_where(self, rests_on: Callable[[Ref], bool], value: float | None) -> int:
        """Forget folded intervals that rest on a sample whose value is now another one (None: there is none)."""
        dropped = 0
        for k, term in enumerate(self.terms):
            for interval in list(self.past[k]):
                if not any(rests_on(ref) for ref in interval.evidence):
                    continue
                if value is not None and (term.kind in ("band", "day") or self._bad(term, interval.detected, value)):
                    continue
                self.past[k].remove(interval)
                dropped |= 1 << k
                base = self.base[k]
                if base is not None and base[0] == ALARM and base[1] == interval.onset:
                    self.base[k] = None
                    self._again(0, NEVER, 0)
        return dropped

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

    # --- folding and telling ----------------------------------------------------------------------------------------

    def _fold(self, count: int) -> None:
        while count < len(self.times) and self.times[count] == self.times[count - 1]:
            count += 1
        if count >= len(self.times):
            return
        edge = self.times[count - 1]
        for k, term in enumerate(self.terms):
            kept = [i for i in self._found(k) if i.detected <= edge]
            if not term.timed:
                # What ends after the edge ends by a sample that is still there, and is open until that is folded too.
                kept = [msgspec.structs.replace(i, end=None) if i.end is not None and i.end > edge else i for i in kept]
            self.past[k] = kept[-PAST:]
            self.base[k] = self.states[k][count - 1]
            del self.states[k][:count]
        self.base_valid = self.valid_before(count, self.base_valid)
        if self.alternatives:
            self.alternatives = {key: value for key, value in self.alternatives.items() if key[0] > edge}
        self.edge = edge
        self.delete(0, count)

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
