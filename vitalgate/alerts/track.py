"""The newest samples of one metric of one patient with the states of every term after each of them.

A sample is a measurement by identity (time, source, index); of its versions the one of highest rank stands, whatever
came first. Appending in order costs one step of each term. Anything else (late, corrected, taken away) is put in its
place and the states are stepped again from there until they agree with what they were.

Memory is bounded: beyond ``FOLD_AT`` samples the oldest are folded into the states they led to (``base``) and the
alarm intervals that they made (``past``). What comes for the time before that (``edge``) is late and not taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from vitalgate.alerts.columns import Ref, Sources, same
from vitalgate.alerts.machine import ALARM, NEVER, Term, counts
from vitalgate.alerts.stepping import Stepped

KEEP = 256
FOLD_AT = 320
#: Samples of one moment cannot be folded apart; no more than this are taken.
FULL = 4 * FOLD_AT
#: Superseded sightings remembered by name.
NAMED = 32
#: Closed alarm intervals kept beyond the samples, per term.
PAST = 32


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


class Track(Stepped):
    """See the module."""

    def __init__(
        self, terms: tuple[Term, ...], sources: Sources, spans: bool = False, ceiling: int | None = None
    ) -> None:
        super().__init__(terms, sources, spans, ceiling)
        self.edge = NEVER
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
