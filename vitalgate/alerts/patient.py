"""One patient in the alert engine: series by metric, and the alerts that are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from vitalgate.alerts.columns import Ref, Sources
from vitalgate.alerts.intervals import Span, all_of, any_of
from vitalgate.alerts.machine import NEVER
from vitalgate.alerts.rules import Book
from vitalgate.alerts.series import Series
from vitalgate.alerts.track import PAST

KNOWN = 64
"""Closed alerts remembered per rule."""


class Known(msgspec.Struct, array_like=True):
    """An alert that was told."""

    onset: int
    number: int
    """Events told of it so far."""
    state: Literal["raised", "cleared", "retracted"]
    end: int | None
    detected: int
    value: float
    term: int
    evidence: tuple[Ref, ...]
    settled: bool = False
    """Closed under limits that do not hold any more: left as it is."""


class Step(msgspec.Struct):
    """One event that is to be told."""

    rule: str
    known: Known
    state: Literal["raised", "cleared", "retracted"]
    reason: str = ""
    replaces: int | None = None
    """Onset of the alert that this one stands in for."""
    replaced_by: int | None = None
    over: bool = False
    """Already over when it is told."""


class Waiting(msgspec.Struct, array_like=True, frozen=True):
    """A correction that names a message that has not come yet."""

    device: str
    epoch: str
    order: int
    item: int
    rank: tuple[int, int, int]
    retract: bool
    key: str
    own: tuple[int, int, int]
    """Series and identity of the correcting reading itself."""


class Patient:
    """State of one patient; all of it is bounded and goes into a memory record."""

    def __init__(self, name: str, book: Book) -> None:
        self.name = name
        self.book = book
        self.sources = Sources()
        self.series: dict[str, Series] = {}
        self.known: dict[str, list[Known]] = {}
        self.epochs: dict[str, dict[str, int]] = {}
        """Epoch numbers by device and name, for corrections that name an epoch and evidence that names a message."""
        self.waiting: list[Waiting] = []
        self.dirty = False
        self.deadline: int | None = None

    def series_of(self, key: str) -> Series:
        """The series of a key of the book, made when it is new."""
        found = self.series.get(key)
        if found is None:
            found = self.series[key] = Series(self.book.by_key[key], self.sources, key.startswith("feature/"))
        return found

    def set_book(self, book: Book) -> None:
        """Other rules or limits. What was closed under the old ones stays as it was told."""
        self.settle(rule for rule in self.known if self.book.terms.get(rule) != book.terms.get(rule))
        self.book = book
        for key in list(self.series):
            if key in book.by_key:
                self.series[key].set_terms(book.by_key[key])
            else:
                del self.series[key]

    def settle(self, rules: Iterable[str]) -> None:
        """What is closed of these rules is left as it was told."""
        for rule in rules:
            for alert in self.known[rule]:
                alert.settled |= alert.state == "cleared"

    def open_alerts(self) -> list[tuple[str, Known]]:
        """Rule and alert, of those that are open."""
        return [(rule, alert) for rule, known in self.known.items() for alert in known if alert.state == "raised"]

    def open_priorities(self) -> list[str]:
        """Priorities of the open alerts."""
        rules = self.book.rules
        return [rules[rule].priority for rule, _ in self.open_alerts() if rule in rules]

    # --- what ought to be against what is known ----------------------------------------------------------------------

    def ought(self, rule: str, now: int) -> list[Span]:
        """Spans over which a rule holds, as far as is known."""
        parts: list[list[Span]] = []
        for term in self.book.terms[rule]:
            series = self.series.get(term.key)
            parts.append([] if series is None else series.spans_of(series.terms.index(term), now))
        if len(parts) == 1:
            # The tracks of one metric may overlap where late data reaches the main track.
            return any_of(parts) if len(parts[0]) > 1 else parts[0]
        return any_of(parts) if self.book.rules[rule].combine == "any" else all_of(parts)

    def compare(self, rule: str, now: int, reason: str) -> Iterator[Step]:
        """Steps that lead from the known alerts of a rule to those that ought to be; applies them."""
        ought = {span.onset: span for span in self.ought(rule, now)} if rule in self.book.rules else {}
        known = self.known.setdefault(rule, [])
        gone = [k for k in known if k.state != "retracted" and k.onset not in ought and self._judged(rule, k)]
        by_onset = {k.onset: k for k in known}
        told_of = {onset for onset, alert in by_onset.items() if alert.state != "retracted"}
        new = [span for onset, span in sorted(ought.items()) if onset not in told_of]
        # A corrected onset is another alert by id; the two name each other so that a reader can follow.
        heirs = {k.onset: _heir(k, new) for k in gone}
        parents = {heir: onset for onset, heir in heirs.items() if heir is not None}
        for old in gone:
            old.state, old.number = "retracted", old.number + 1
            yield Step(rule, old, "retracted", reason, replaced_by=heirs[old.onset])
        for old in sorted(known, key=lambda k: k.onset):
            span = ought.get(old.onset)
            if span is None or old.state == "retracted" or span.end is None:
                continue
            if old.state == "raised" or old.end != span.end:
                old.state, old.end, old.number = "cleared", span.end, old.number + 1
                yield Step(rule, old, "cleared")
        for old in known:
            span = ought.get(old.onset)
            if span is not None and old.state == "cleared" and span.end is None:
                old.state, old.end, old.number = "raised", None, old.number + 1
                yield Step(rule, old, "raised", "not over after all")
        for span in new:
            told = by_onset.get(span.onset)
            if told is None:
                told = Known(span.onset, 0, "raised", None, 0, 0.0, 0, ())
                known.append(told)
            told.state, told.end, told.number = "raised", None, told.number + 1
            told.detected, told.value, told.term = span.detected, span.value, span.term.number
            told.evidence = span.evidence
            yield Step(rule, told, "raised", replaces=parents.get(span.onset), over=span.end is not None)
            if span.end is not None:
                told.state, told.end, told.number = "cleared", span.end, told.number + 1
                yield Step(rule, told, "cleared")
        if len(known) > KNOWN:
            known.sort(key=lambda k: (k.state == "raised", k.onset))
            del known[: len(known) - KNOWN]
        if not known:
            del self.known[rule]

    def _judged(self, rule: str, known: Known) -> bool:
        """Whether the absence of a known alert means anything: of the time before what is kept, nothing is known."""
        if known.state == "raised" or rule not in self.book.rules:
            return True
        if known.settled:
            return False
        horizon = NEVER
        for term in self.book.terms[rule]:
            series = self.series.get(term.key)
            past = [] if series is None else series.main.past[series.terms.index(term)]
            if len(past) >= PAST:
                horizon = max(horizon, past[0].onset)
        return known.onset >= horizon


def _heir(known: Known, new: list[Span]) -> int | None:
    end = known.detected if known.end is None else known.end
    for span in new:
        if span.onset <= end and (span.end is None or span.end >= known.onset):
            return span.onset
    return None
