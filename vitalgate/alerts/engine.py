"""The alert engine: readings, features and time in, alert events out.

It is a function of the set of samples of each patient: order of arrival, repeats, redelivery and restarts change
nothing in what is known at the end. What it needs of the past it keeps, bounded, and gives as memory records.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from vitalgate.alerts import memory
from vitalgate.alerts.columns import Ref
from vitalgate.alerts.corrections import correct, message_name, note_epoch, usable_value, value_ref, waited_for
from vitalgate.alerts.events import AlertEvent, alert_id, event_id, sentence, when
from vitalgate.alerts.machine import NEVER
from vitalgate.alerts.patient import Patient, Step
from vitalgate.alerts.rule import Threshold
from vitalgate.alerts.rules import Book
from vitalgate.devices.records import Message, PatientInput, Reading

#: Detected later than this after the detecting value's time: told in hindsight.
HINDSIGHT_US = 300 * 1_000_000
#: Stands in the place of an epoch number: a feature comes with no device message.
FEATURE = -1
#: Status messages carry the battery beside the metric of the same name.
BATTERY = "battery"


class Engine:
    """Alerts of many patients.

    Parameters
    ----------
    book
        The rules.
    default_team
        Team of patients who have none.
    """

    def __init__(self, book: Book, default_team: str) -> None:
        self.book = book
        self.default_team = default_team
        self.now = NEVER
        """Newest tick, us."""
        self.too_late = 0
        """Samples that could not be judged any more."""
        self.trouble: list[str] = []
        """Sentences about overrides that cannot be used; the caller logs and clears them."""
        self._patients: dict[str, Patient] = {}
        self._packed: dict[str, bytes] = {}
        self._teams: dict[str, str] = {}
        self._overrides: dict[str, dict[str, Any]] = {}
        self._books: dict[bytes, Book] = {}
        self._dirty: set[str] = set()
        self._recheck: list[str] = []
        self._deadlines: list[tuple[int, str]] = []

    # --- what comes in ----------------------------------------------------------------------------------------------

    def take(self, record: PatientInput, detected_us: int) -> list[AlertEvent]:
        """Readings and statuses of one patient, given (`add`) or taken away (`remove`)."""
        message = record.message
        wanted = self.book.readings
        touched: set[str] = set()
        patient: Patient | None = None
        for reading in message.readings:
            key = wanted.get(reading.metric)
            if key is not None or reading.corrects is not None:
                patient = patient or self._patient_for(record)
                self._take(patient, key, record.op, message, reading, touched)
        status = message.status
        if status is not None and status.battery is not None and BATTERY in wanted:
            patient = patient or self._patient_for(record)
            reading = Reading(
                status.item, BATTERY, "", status.time_us, 0, status.battery, None, "", "", "%", status.battery, "%",
                status.time_us, None,
            )  # fmt: skip
            self._take(patient, wanted[BATTERY], record.op, message, reading, touched)
        if patient is None:
            return []
        self._mark(patient)
        if not touched:
            return []
        reason = {"move": "assignment corrected", "claim": "assignment added"}.get(record.cause, "corrected")
        rules = sorted({rule for key in touched for rule in patient.book.rules_by_key[key]})
        return list(self._tell(patient, rules, message.received_us, detected_us, reason))

    def take_feature(
        self, feature: Mapping[str, Any], start_us: int, end_us: int, received_us: int, detected_us: int
    ) -> list[AlertEvent]:
        """One record of patient.features; start and end are its times in microseconds."""
        name = feature["name"]
        key = self.book.features.get(name)
        if key is None:
            return []
        patient = self._patient(feature["patient"])
        if key not in patient.book.by_key:
            return []
        series = patient.series_of(key)
        site = f"{feature['recording']}|{feature['channel']}|{feature['algorithm']}"
        source = patient.sources.number(feature["device_id"], site)
        value = feature.get("value")
        usable = not feature.get("withdrawn") and value is not None
        event = name.startswith("event.")
        first, revision = int(feature["window"]["first_sample"]), int(feature["revision"])
        outcome = series.put(
            Ref(start_us if event else end_us, source, first, FEATURE, revision, 0),
            float(value) if usable and value is not None else math.nan,
            end_us,
        )
        if not outcome.changed and not outcome.alarm:
            self.too_late += outcome.late
            return []
        if event:
            series.arrived = max(series.arrived, self.now)
        patient.dirty = True
        self._mark(patient)
        if not outcome.alarm:
            return []
        return list(self._tell(patient, patient.book.rules_by_key[key], received_us, detected_us, "corrected"))

    def tick(self, time_us: int, detected_us: int) -> list[AlertEvent]:
        """Time has come to ``time_us``: what was waiting for it happens."""
        self.now = max(self.now, time_us)
        events: list[AlertEvent] = []
        while self._deadlines and self._deadlines[0][0] <= self.now:
            due, name = heapq.heappop(self._deadlines)
            patient = self._patients.get(name)
            if patient is None and name in self._packed:
                patient = self._patient(name)
            if patient is None or patient.deadline != due:
                continue
            patient.deadline = None
            rules = [rule for rule in patient.book.rules if any(t.kind == "event" for t in patient.book.terms[rule])]
            events += self._tell(patient, rules, 0, detected_us, "")
        return events

    def patient_changed(self, name: str, team: str, overrides: Mapping[str, Any], detected_us: int) -> list[AlertEvent]:
        """A patient's team or limits, from the registry."""
        if team:
            self._teams[name] = team
        else:
            self._teams.pop(name, None)
        if overrides == self._overrides.get(name, {}):
            return []
        if overrides:
            self._overrides[name] = dict(overrides)
        else:
            self._overrides.pop(name, None)
        if name not in self._patients and name not in self._packed:
            return []
        patient = self._patient(name)
        before = patient.book
        patient.set_book(self._book_for(name))
        patient.dirty = True
        self._mark(patient)
        changed = [
            rule for rule in {**before.rules, **patient.book.rules}
            if before.terms.get(rule) != patient.book.terms.get(rule)
        ]  # fmt: skip
        return list(self._tell(patient, changed, 0, detected_us, "limits changed"))

    # --- memory -----------------------------------------------------------------------------------------------------

    def dirty(self) -> Iterator[tuple[str, bytes]]:
        """Memory records of the patients that have changed since the last call."""
        for name in self._dirty:
            patient = self._patients.get(name)
            if patient is not None:
                yield name, memory.pack(patient)
        self._dirty.clear()

    @property
    def dirty_count(self) -> int:
        """How many patients ``dirty`` would give."""
        return len(self._dirty)

    def pack(self, name: str) -> bytes:
        """Memory record of one patient, who then is not dirty any more."""
        self._dirty.discard(name)
        return memory.pack(self._patient(name))

    def load(self, name: str, packed: bytes) -> None:
        """Take a memory record; it is unpacked when the patient is needed.

        Raises
        ------
        msgspec.DecodeError
            When the bytes are no memory record.
        """
        head = memory.head(packed)
        self._patients.pop(name, None)
        self._packed[name] = packed
        if head.deadline is not None:
            heapq.heappush(self._deadlines, (head.deadline, name))
        if head.book != self._book_for(name).fingerprint:
            self._recheck.append(name)

    def recheck(self, detected_us: int) -> list[AlertEvent]:
        """Judge anew the loaded patients whose rules or limits have changed since their memory was written."""
        names, self._recheck = self._recheck, []
        events: list[AlertEvent] = []
        for name in names:
            patient = self._patient(name)
            patient.dirty = True
            rules = sorted({*patient.book.rules, *patient.known})
            events += self._tell(patient, rules, 0, detected_us, "limits changed")
        return events

    def open_alerts(self) -> Counter[str]:
        """Number of open alerts by priority."""
        found: Counter[str] = Counter()
        for packed in self._packed.values():
            found.update(memory.head(packed).open)
        for patient in self._patients.values():
            if patient.known:
                found.update(patient.open_priorities())
        return found

    def current(self, name: str, detected_us: int) -> list[AlertEvent]:
        """The open alerts of a patient as they stand, for whoever has to be told anew (another team)."""
        if name not in self._patients and name not in self._packed:
            return []
        patient = self._patient(name)
        return [
            self._event(patient, Step(rule, known, "raised"), 0, detected_us) for rule, known in patient.open_alerts()
        ]

    def team(self, name: str) -> str:
        """Team of a patient."""
        return self._teams.get(name, self.default_team)

    def alerts(self, name: str) -> list[tuple[str, int, str, int | None]]:
        """(rule, onset, state, end) of every alert known of a patient, retracted ones too."""
        if name not in self._patients and name not in self._packed:
            return []
        return sorted(
            (rule, alert.onset, alert.state, alert.end)
            for rule, known in self._patient(name).known.items() for alert in known
        )  # fmt: skip

    # --- inside -----------------------------------------------------------------------------------------------------

    def _patient(self, name: str) -> Patient:
        found = self._patients.get(name)
        if found is not None:
            return found
        packed = self._packed.pop(name, None)
        book = self._book_for(name)
        found = Patient(name, book) if packed is None else memory.unpack(packed, name, book)
        self._patients[name] = found
        return found

    def _book_for(self, name: str) -> Book:
        overrides = self._overrides.get(name)
        if not overrides:
            return self.book
        key = orjson.dumps(overrides, option=orjson.OPT_SORT_KEYS)
        book = self._books.get(key)
        if book is None:
            book, trouble = self.book.with_overrides(overrides)
            self.trouble += [f"patient {name}: {text}" for text in trouble]
            if len(self._books) >= 1000:
                self._books.clear()
            self._books[key] = book
        return book

    def _mark(self, patient: Patient) -> None:
        if patient.dirty:
            patient.dirty = False
            self._dirty.add(patient.name)
            deadline = memory.next_deadline(patient, self.now)
            if deadline is not None and deadline != patient.deadline:
                heapq.heappush(self._deadlines, (deadline, patient.name))
            patient.deadline = deadline

    def _patient_for(self, record: PatientInput) -> Patient:
        patient = self._patient(record.patient)
        if record.message.epoch:
            note_epoch(patient, record.message)
        return patient

    def _take(
        self, patient: Patient, key: str | None, op: str, message: Message, reading: Reading, touched: set[str]
    ) -> None:
        if key is not None and key not in patient.book.by_key:
            key = None
        if op == "remove":
            if key is not None:
                source = patient.sources.number(message.device, reading.site)
                outcome = patient.series_of(key).remove(reading.time_us, source, reading.index)
                patient.dirty |= outcome.changed
                if outcome.alarm:
                    touched.add(key)
            return
        if reading.corrects is not None:
            touched |= correct(patient, key, message, reading)
            if reading.corrects.retract:
                return
        if key is None:
            return
        ref = value_ref(message, reading, patient.sources.number(message.device, reading.site))
        outcome = patient.series_of(key).put(ref, usable_value(reading))
        if outcome.changed:
            patient.dirty = True
        elif outcome.late:
            self.too_late += 1
        if outcome.alarm:
            touched.add(key)
        if patient.waiting and message.epoch:
            touched |= waited_for(patient, key, message, reading)

    def _tell(
        self, patient: Patient, rules: Iterable[str], received_us: int, detected_us: int, reason: str
    ) -> Iterator[AlertEvent]:
        told = False
        for rule in rules:
            for step in patient.compare(rule, self.now, reason):
                told = True
                yield self._event(patient, step, received_us, detected_us)
        if told:
            patient.dirty = True
        terms = patient.book.terms
        patient.dirty |= any(term.kind == "event" for rule in rules for term in terms.get(rule, ()))
        self._mark(patient)

    def _event(self, patient: Patient, step: Step, received_us: int, detected_us: int) -> AlertEvent:
        rule = patient.book.rules.get(step.rule) or self.book.rules.get(step.rule)
        known = step.known
        alert = alert_id(patient.name, step.rule, known.onset)
        common: dict[str, Any] = {
            "event_id": event_id(alert, known.number, step.state),
            "alert_id": alert,
            "number": known.number,
            "patient": patient.name,
            "team": self.team(patient.name),
            "rule": step.rule,
            "state": step.state,
            "onset": when(known.onset),
            "detected_at": when(detected_us),
            "cleared_at": None if step.state == "raised" or known.end is None else when(known.end),
            "received_at": when(received_us) if received_us else None,
            "reason": step.reason,
            "replaces": "" if step.replaces is None else alert_id(patient.name, step.rule, step.replaces),
            "replaced_by": "" if step.replaced_by is None else alert_id(patient.name, step.rule, step.replaced_by),
            "evidence": [message_name(patient, ref) for ref in known.evidence if ref.epoch != FEATURE],
            "device_id": patient.sources.names[known.evidence[-1].source][0] if known.evidence else "",
        }
        if rule is None or known.term >= len(rule.when):
            return AlertEvent(
                **common, rule_version=0, title=step.rule, kind="technical", priority="low", metric="",
                text=f"Taken back: rule {step.rule} is not in force any more",
            )  # fmt: skip
        condition = rule.when[known.term]
        term = patient.book.terms[step.rule][known.term] if step.rule in patient.book.terms else None
        limit = term.shown_limit if term is not None else condition.limit
        for_s = condition.for_s if isinstance(condition, Threshold) else 0.0
        late = bool(received_us) and received_us - known.detected > HINDSIGHT_US
        return AlertEvent(
            **common, rule_version=rule.version, title=rule.title, kind=rule.kind, priority=rule.priority,
            value=known.value, unit=condition.unit, limit=limit,
            metric=(term.key if term is not None else step.rule).partition("/")[2], hindsight=late or step.over,
            text=sentence(rule, step.state, known.value, condition.unit, limit, for_s, step.reason),
        )  # fmt: skip
