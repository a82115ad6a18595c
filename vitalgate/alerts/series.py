"""All that is known of one metric of one patient: the main track, and one for what came too late for it."""

from __future__ import annotations

from vitalgate.alerts.columns import Ref, Sources
from vitalgate.alerts.intervals import Span, spans
from vitalgate.alerts.machine import NEVER, Term
from vitalgate.alerts.track import SAME, Outcome, Track


class Series:
    """Samples of one metric (or one kind of feature) and the terms that listen to it."""

    def __init__(self, terms: tuple[Term, ...], sources: Sources, spans: bool) -> None:
        self.main = Track(terms, sources, spans)
        self.late: Track | None = None
        self.spans = spans
        self.arrived = NEVER
        """Time (of the ticks) at which the newest event came, for event terms."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms, in the order of `spans_of`."""
        return self.main.terms

    def put(self, ref: Ref, value: float, end: int = 0) -> Outcome:
        """Take one sighting; see ``Track.put``. Late only when even the late track is beyond it."""
        outcome = self.main.put(ref, value, end)
        if not outcome.late or ref.time > self.main.edge:
            return outcome
        if self.late is None:
            self.late = Track(self.main.terms, self.main.sources, self.spans, ceiling=self.main.edge)
        return self.late.put(ref, value, end)

    def remove(self, time: int, source: int, index: int) -> Outcome:
        """Take a measurement away, wherever it is."""
        first = self.main.remove(time, source, index)
        second = SAME if self.late is None else self.late.remove(time, source, index)
        return Outcome(first.changed or second.changed, first.alarm | second.alarm)

    def named(self, device: str, epoch: int, order: int, item: int) -> tuple[int, int, int] | None:
        """Identity of what a message brought; None when it is not (or no longer) known."""
        found = self.main.named(device, epoch, order, item)
        if found is None and self.late is not None:
            found = self.late.named(device, epoch, order, item)
        return found

    def set_terms(self, terms: tuple[Term, ...]) -> None:
        """Other limits (or rules): everything that is still kept is judged again."""
        for track in (self.main, self.late):
            if track is None:
                continue
            old = {term: (track.base[k], track.past[k]) for k, term in enumerate(track.terms)}
            track.terms = terms
            track.base = [old[term][0] if term in old else None for term in terms]
            track.past = [old[term][1] if term in old else [] for term in terms]
            track.recompute()

    def spans_of(self, k: int, now: int) -> list[Span]:
        """Spans of term ``k``. Where time ends one it must have passed; of an event, also since it was heard of."""
        term = self.terms[k]
        found = spans(term, self.main.intervals(k))
        if term.timed and found:
            last = found[-1]
            if last.end is None or last.end > now or (term.kind == "event" and self._settling(term, now)):
                found[-1] = last._replace(end=None)
        if self.late is not None:
            found = sorted(spans(term, self.late.intervals(k)) + found, key=lambda s: s.onset)
        return found

    def deadline(self, k: int, now: int) -> int | None:
        """When term ``k`` must be looked at again though nothing arrives."""
        term = self.terms[k]
        if not term.timed:
            return None
        latest = self.main.natural_end(k)
        if latest is None:
            return None
        if term.kind == "event" and self.arrived != NEVER:
            latest = max(latest, self.arrived + term.quiet_us)
        return latest if latest > now else None

    def _settling(self, term: Term, now: int) -> bool:
        # A device that catches up brings a long episode piece by piece; it is not cleared between the pieces.
        return now == NEVER or (self.arrived != NEVER and now < self.arrived + term.quiet_us)


class Touched(dict[str, int]):
    """Series that an item touched, with the bits of the terms whose alarms may be others now."""

    in_order = True
    """Nothing but appended samples: what was before is as it was."""

    def note(self, key: str, outcome: Outcome) -> None:
        """What one sample did."""
        self[key] = self.get(key, 0) | outcome.alarm
        self.in_order = self.in_order and outcome.appended

    def all(self, key: str) -> None:
        """Every term may be concerned."""
        self[key] = -1
        self.in_order = False
