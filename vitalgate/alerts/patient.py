"""One patient in the alert engine: series by metric, and the alerts that are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from vitalgate.alerts.columns import Now, Ref, Sources
from vitalgate.alerts.conditions import Score
from vitalgate.alerts.days import quiet_until
from vitalgate.alerts.intervals import Span, all_of, any_of, clipped, settled
from vitalgate.alerts.machine import NEVER, Term
from vitalgate.alerts.presence import Presence
from vitalgate.alerts.profile import ALWAYS, Variant
from vitalgate.alerts.rules import Book
from vitalgate.alerts.scores import SCALE, Point, most_points, quiet, spans, sweep
from vitalgate.alerts.series import Series
from vitalgate.alerts.track import PAST

KNOWN = 64
"""Closed alerts remembered per rule."""

Happened = Literal[
    "raised", "again", "cleared", "retracted", "closed", "acknowledged", "escalated", "silenced", "unsilenced",
    "commented", "suppressed", "released", "restated",
]  # fmt: skip


class Known(msgspec.Struct, array_like=True):
    """An alert that was told."""

    onset: int
    number: int
    """Events told of it so far."""
    state: Literal["raised", "cleared", "retracted"]
    """What is with its cause."""
    end: int | None
    detected: int
    value: float
    term: int
    evidence: tuple[Ref, ...]
    settled: bool = False
    """Closed under limits that do not hold any more: left as it is."""
    count: int = 1
    """How often the cause came."""
    note: str = ""
    closed: bool = False
    """Nothing more is waited for."""
    told_us: int = NEVER
    """Tick at which it was told: escalation counts from here."""
    level: int = 0
    acknowledged_by: str = ""
    acknowledged_us: int = 0
    silenced_until: int = 0
    silenced_by: str = ""
    silence_reason: str = ""
    suppressed_by: str = ""
    """Rule that says it already."""
    comments: int = 0
    received_us: int = 0
    """Arrival of the item that raised it."""

    def afresh(self) -> None:
        """Nobody has done anything with it yet."""
        self.closed, self.told_us, self.level, self.acknowledged_by, self.acknowledged_us = False, NEVER, 0, "", 0
        self.silenced_until, self.silenced_by, self.silence_reason, self.suppressed_by = 0, "", "", ""


class Step(msgspec.Struct):
    """One event that is to be told."""

    rule: str
    known: Known
    happened: Happened
    reason: str = ""
    replaces: int | None = None
    """Onset of the alert that this one stands in for."""
    replaced_by: int | None = None
    over: bool = False
    """Already over when it is told."""
    who: str = ""
    text: str = ""


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

    def __init__(self, name: str, book: Book, now: Now | None = None) -> None:
        self.name = name
        self.book = book
        self.sources = Sources(now=now)
        self.series: dict[str, Series] = {}
        self.presence: dict[str, dict[str, Presence]] = {}
        """When devices were heard, by key of the rules on their silence and by device."""
        self.worn: dict[str, list[tuple[int, int | None]]] | None = None
        """Stretches of event time in which the patient has each device; None: not known. From the registry."""
        self.known: dict[str, list[Known]] = {}
        self.commands: dict[str, list[str]] = {}
        """Newest commands by id: outcome, detail, number of the alert's newest event then."""
        self.epochs: dict[str, dict[str, int]] = {}
        """Epoch numbers by device and name, for corrections that name an epoch and evidence that names a message."""
        self.waiting: list[Waiting] = []
        self.dirty = False
        self.deadline: int | None = None
        self.points: list[Point] | None = None
        """The score over time, while it is still what the inputs say."""

    def series_of(self, key: str) -> Series:
        """The series of a key of the book, made when it is new."""
        found = self.series.get(key)
        if found is None:
            found = self.series[key] = Series(self.book.by_key[key], self.sources, key.startswith("feature/event."))
        return found

    def heard(self, key: str, device: str, time: int, arrived: int | None = None) -> bool:
        """A device was heard at an event time, by default just now; True when a silence began or ended by it."""
        devices = self.presence.setdefault(key, {})
        found = devices.get(device)
        if found is None:
            found = devices[device] = Presence(min(term.gap_us for term in self.book.by_key[key]))
        return found.heard(time, self.sources.now.us if arrived is None else arrived)

    def expect(self, key: str, device: str) -> bool:
        """From now on a device is to be heard of; False when it is already, or no rule asks for it."""
        devices = self.presence.get(key, {})
        if device in devices or key not in self.book.by_key:
            return False
        gap = min(term.gap_us for term in self.book.by_key[key])
        self.presence.setdefault(key, {})[device] = Presence(gap, arrived=self.sources.now.us)
        return True

    def set_book(self, book: Book) -> None:
        """Other rules or limits. What was closed under the old ones stays as it was told."""
        self.settle(rule for rule in self.known if not self.book.judges_as(book, rule))
        self.book = book
        for key in list(self.series):
            if key in book.by_key:
                self.series[key].set_terms(book.by_key[key])
            else:
                del self.series[key]
        self.fit_presence()

    def fit_presence(self) -> None:
        """Bring what is known of silences to the limits that hold now."""
        for key in list(self.presence):
            if key not in self.book.by_key:
                del self.presence[key]
                continue
            gap = min(term.gap_us for term in self.book.by_key[key])
            for presence in self.presence[key].values():
                if presence.gap_us != gap:
                    presence.set_gap(gap)

    def settle(self, rules: Iterable[str]) -> None:
        """What is over of these rules is left as it was told."""
        for rule in rules:
            for alert in self.known[rule]:
                alert.settled |= alert.state == "cleared"

    def open_alerts(self) -> list[tuple[str, Known]]:
        """Rule and alert, of those whose cause stands."""
        return [(rule, alert) for rule, known in self.known.items() for alert in known if alert.state == "raised"]

    def live_alerts(self) -> list[tuple[str, Known]]:
        """Rule and alert, of those that are not closed."""
        return [(rule, alert) for rule, known in self.known.items() for alert in known if not alert.closed]

    def open_priorities(self) -> list[str]:
        """Priorities of the open alerts."""
        rules = self.book.rules
        return [rules[rule].priority for rule, _ in self.open_alerts() if rule in rules]

    # --- what ought to be against what is known ----------------------------------------------------------------------

    def ought(self, rule: str, now: int) -> list[Span]:
        """Spans over which a rule holds, as far as is known."""
        variants = self.book.variants[rule]
        if len(variants) == 1 and variants[0].windows is ALWAYS:
            found = self._spans(variants[0], now)
        else:
            found = any_of([clipped(self._spans(variant, now), variant.windows, now) for variant in variants])
        settle_s = self.book.rules[rule].settle_s
        return settled(found, round(settle_s * 1_000_000)) if settle_s and len(found) > 1 else found

    def _spans(self, variant: Variant, now: int) -> list[Span]:
        rule = variant.rule
        condition = rule.when[0]
        if isinstance(condition, Score):
            if self.points is None:
                inputs = [(term, self._term(term, now)) for term in variant.terms]
                self.points = sweep(inputs, self.book.profile.facts.get(SCALE, ()))
            return spans(condition, self.points)
        parts = [
            self._silences(term, now) if term.kind == "silent" else self._term(term, now) for term in variant.terms
        ]
        if len(parts) == 1:
            # The tracks of one metric may overlap where late data reaches the main track.
            return any_of(parts) if len(parts[0]) > 1 else parts[0]
        return any_of(parts) if rule.combine == "any" else all_of(parts)

    def score_is_quiet(self, touched: Iterable[str]) -> bool:
        """Whether appended samples of these series surely raise no alert on a score, and end none.

        Cheap: only the newest band of each input is looked at. What the score was before is as it was, so nothing can
        have come of the samples unless the newest bands together say so, or an alert stands.
        """
        scored = self.book.scored
        if any(k.state == "raised" for rule in scored for k in self.known.get(rule, ())):
            return False
        newest = [s.main.newest_band(k) for key, k in self.book.bands if (s := self.series.get(key)) is not None]
        ends = [s.main.times[-1] for key in touched if (s := self.series.get(key)) is not None and s.main.times]
        if not ends or any(band is not None and band[1] > min(ends) for band in newest):
            return False
        most = most_points((band[0] for band in newest if band is not None), self.book.profile.facts.get(SCALE, ()))
        return all(
            quiet(condition, most)
            for rule in scored
            for variant in self.book.variants[rule]
            if isinstance(condition := variant.rule.when[0], Score)
        )

    def _term(self, term: Term, now: int) -> list[Span]:
        series = self.series.get(term.key)
        return [] if series is None else series.spans_of(series.terms.index(term), now)

    def _silences(self, term: Term, now: int) -> list[Span]:
        found: list[Span] = []
        for device, presence in self.presence.get(term.key, {}).items():
            windows = None if self.worn is None else self.worn.get(device, [])
            for last, begin, end in presence.silences(now, windows):
                found.append(Span(last, begin, end, term.gap_us / 1e6, term, (), 1, device))
        return sorted(found, key=lambda span: span.onset)

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
            old.state, old.closed, old.number = "retracted", True, old.number + 1
            yield Step(rule, old, "retracted", reason, replaced_by=heirs[old.onset])
        for old in sorted(known, key=lambda k: k.onset):
            span = ought.get(old.onset)
            if span is None or old.state == "retracted":
                continue
            if span.end is None:
                old.count = max(old.count, span.times) if old.state == "raised" else old.count
                continue
            if old.state == "raised" or old.end != span.end:
                old.count = span.times
                yield self._over(rule, old, span.end, now)
        for old in known:
            span = ought.get(old.onset)
            if span is not None and old.state == "cleared" and span.end is None:
                again = span.times > old.count
                old.state, old.end, old.number, old.closed = "raised", None, old.number + 1, False
                old.count = span.times
                yield Step(rule, old, "again", "again within the settle time" if again else "not over after all")
        for span in new:
            told = by_onset.get(span.onset)
            if told is None:
                told = Known(span.onset, 0, "raised", None, 0, 0.0, 0, ())
                known.append(told)
            told.afresh()
            told.state, told.end, told.number, told.told_us = "raised", None, told.number + 1, now
            told.detected, told.value, told.term, told.note = span.detected, span.value, span.term.number, span.note
            told.evidence, told.count = span.evidence, span.times
            # An heir is the same alert to whoever has it on the screen: what was done with it stays done.
            self._inherit(rule, told, parents.get(span.onset))
            self._hush(rule, told, now)
            yield Step(rule, told, "raised", replaces=parents.get(span.onset), over=span.end is not None)
            if span.end is not None:
                yield self._over(rule, told, span.end, now)
        if len(known) > KNOWN:
            known.sort(key=lambda k: (k.state == "raised" or not k.closed, k.onset))
            del known[: len(known) - KNOWN]
        if not known:
            del self.known[rule]

    def _over(self, rule: str, known: Known, end: int, now: int) -> Step:
        known.state, known.end, known.number = "cleared", end, known.number + 1
        known.closed = self.may_close(rule, known, now)
        return Step(rule, known, "cleared")

    def suppressor(self, rule: str) -> str:
        """The open rule of highest priority that says what this one would say; '' when there is none."""
        for name in self.book.suppressors.get(rule, ()):
            if any(known.state == "raised" for known in self.known.get(name, ())):
                return name
        return ""

    def _hush(self, rule: str, known: Known, now: int) -> None:
        """A new alert is not told aloud while another says it, or in quiet hours."""
        known.suppressed_by = self.suppressor(rule)
        variant = self.book.variant_at(rule, known.onset)
        if variant is None or not variant.quiet_hours or variant.rule.priority == "high":
            return
        until = quiet_until(self.book.profile.zones, variant.quiet_hours, known.detected if now == NEVER else now)
        if until is not None and not known.silenced_until:
            known.silenced_until, known.silenced_by, known.silence_reason = until, "quiet hours", variant.quiet_hours

    def may_close(self, rule: str, known: Known, now: int) -> bool:
        """Whether nothing is waited for any more: neither its settle time nor, when latched, an acknowledgement."""
        made = self.book.rules.get(rule)
        if made is None or known.end is None:
            return True
        if made.latched and not known.acknowledged_by:
            return False
        return not made.settle_s or known.end + round(made.settle_s * 1_000_000) <= now

    def _inherit(self, rule: str, heir: Known, parent: int | None) -> None:
        old = None if parent is None else next((k for k in self.known[rule] if k.onset == parent), None)
        if old is None:
            return
        heir.told_us, heir.level = old.told_us, old.level
        heir.acknowledged_by, heir.acknowledged_us = old.acknowledged_by, old.acknowledged_us
        heir.silenced_until, heir.silenced_by, heir.silence_reason = (
            old.silenced_until, old.silenced_by, old.silence_reason,
        )  # fmt: skip

    def _judged(self, rule: str, known: Known) -> bool:
        """Whether the absence of a known alert means anything: of the time before what is kept, nothing is known."""
        if known.state == "raised" or rule not in self.book.rules:
            return True
        if known.settled:
            return False
        horizon = NEVER
        for term in self.book.terms[rule]:
            if term.kind == "silent":
                floors = [p.floor for p in self.presence.get(term.key, {}).values() if p.floor is not None]
                horizon = max([horizon, *floors])
                continue
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
