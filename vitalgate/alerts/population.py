"""The patients of an engine: their books of rules, their memory records, and when each is to be looked at."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from vitalgate.alerts import lifecycle, memory, profile
from vitalgate.alerts.columns import Now
from vitalgate.alerts.compiling import Zones
from vitalgate.alerts.events import alert_id
from vitalgate.alerts.machine import NEVER
from vitalgate.alerts.patient import Known, Patient
from vitalgate.alerts.roster import Roster
from vitalgate.alerts.rules import Book

#: While nobody is heard the newest tick is kept this often.
_TICK_EVERY_US = 10_000_000

Worn = Mapping[str, list[tuple[int, int | None]]]


class Population:
    """Base of the engine: it knows patients, and judges nothing.

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
        self.clock = Now(NEVER)
        """Newest tick."""
        self.too_late = 0
        """Samples that could not be judged any more."""
        self.trouble: list[str] = []
        """Sentences about overrides that cannot be used; the caller logs and clears them."""
        self._patients: dict[str, Patient] = {}
        self._packed: dict[str, bytes] = {}
        self._teams: dict[str, str] = {}
        self._own: dict[str, tuple[Mapping[str, Any], Zones]] = {}
        self._cohorts: dict[str, Mapping[str, Any]] = {}
        self._rosters: dict[str, Roster] = {}
        self._worn: dict[str, Worn] | None = None
        self._books: dict[bytes, Book] = {}
        self._dirty: set[str] = set()
        self._recheck: dict[str, bool] = {}
        """Patients to look at after loading; True: their rules or limits have changed."""
        self._deadlines: list[tuple[int, str]] = []
        self._heard: memory.Heard = {}
        self._heard_anew = False
        self._tick_kept = NEVER

    @property
    def now(self) -> int:
        """Newest tick, us."""
        return self.clock.us

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

    def pack(self, name: str, outbox: Iterable[bytes] = ()) -> bytes:
        """Memory record of one patient with what is about to be told; dirty until the next one, without it."""
        self._dirty.add(name)
        return memory.pack(self._patient(name), list(outbox))

    def load(self, name: str, packed: bytes) -> list[bytes]:
        """Take a memory record; it is unpacked when the patient is needed.

        Returns
        -------
        list of bytes
            Events that were about to be told when it was written, and perhaps were not.

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
        changed = head.book != self._book_for(name).fingerprint
        if changed or head.open:
            self._recheck[name] = changed
        return head.outbox

    # --- who was heard last -------------------------------------------------------------------------------------------

    # A device that sends all the time moves its last sign of life all the time. To write each patient's memory for it
    # would cost more than all else, so the last signs of life of all patients are one record.

    def note_heard(self, key: str, patient: str, device: str, time: int) -> None:
        """A device was heard at an event time."""
        devices = self._heard.setdefault(key, {}).setdefault(patient, {})
        last, arrived = devices.get(device, (NEVER, NEVER))
        devices[device] = (max(last, time), max(arrived, self.clock.us))
        self._heard_anew = True

    def pack_heard(self) -> bytes | None:
        """The record of everybody's last sign of life and of the newest tick; None when it is as it was.

        Who takes over would else not know the time until the next tick, and for a person's command take the machine's.
        """
        if not self._heard_anew and self.now - self._tick_kept < _TICK_EVERY_US:
            return None
        self._heard_anew = False
        self._tick_kept = self.now
        return memory.pack_heard(self._heard, self.now)

    def load_heard(self, packed: bytes) -> None:
        """Take that record. Raises msgspec.DecodeError when it is none."""
        self._heard, tick = memory.unpack_heard(packed)
        self.clock.us = max(self.now, tick)
        for patient in self._patients.values():
            self._bring_up_to_date(patient)

    def _bring_up_to_date(self, patient: Patient) -> None:
        for key, patients in self._heard.items():
            for device, (time, arrived) in patients.get(patient.name, {}).items():
                if key in patient.book.by_key:
                    patient.heard(key, device, time, arrived)

    def open_alerts(self) -> Counter[str]:
        """Number of open alerts by priority."""
        found: Counter[str] = Counter()
        for packed in self._packed.values():
            found.update(memory.head(packed).open)
        for patient in self._patients.values():
            if patient.known:
                found.update(patient.open_priorities())
        return found

    # --- inside -----------------------------------------------------------------------------------------------------

    def _patient(self, name: str) -> Patient:
        found = self._patients.get(name)
        if found is not None:
            return found
        packed = self._packed.pop(name, None)
        book = self._book_for(name)
        found = Patient(name, book, self.clock) if packed is None else memory.unpack(packed, name, book, self.clock)
        if self._worn is not None:
            found.worn = dict(self._worn.get(name, {}))
        self._patients[name] = found
        self._bring_up_to_date(found)
        return found

    def _book_for(self, name: str) -> Book:
        own, zones = self._own.get(name, ({}, ()))
        if not own and not zones:
            return self.book
        cohorts = [(cohort, self._cohorts.get(cohort, {})) for cohort in profile.cohorts_of(own)]
        key = orjson.dumps([own, zones, cohorts], option=orjson.OPT_SORT_KEYS)
        book = self._books.get(key)
        if book is None:
            book, trouble = self.book.with_profile(profile.read(own, cohorts, zones))
            self.trouble += [f"patient {name}: {text}" for text in trouble]
            if len(self._books) >= 1000:
                self._books.clear()
            self._books[key] = book
        return book

    def _find(self, patient: Patient, alert: str) -> tuple[str, Known] | None:
        for rule, known in patient.known.items():
            for one in known:
                if alert_id(patient.name, rule, one.onset) == alert:
                    return rule, one
        return None

    def _mark(self, patient: Patient) -> None:
        if patient.dirty:
            patient.dirty = False
            self._dirty.add(patient.name)

    def _schedule(self, patient: Patient) -> None:
        """Have a patient looked at when time can change something; rather too early than too late."""
        due = memory.next_deadline(patient, self.now)
        timer = lifecycle.deadline(patient, self.now, self._rosters.get(self.team(patient.name)))
        if timer is not None and (due is None or timer < due):
            due = timer
        if due is None or (patient.deadline is not None and patient.deadline <= due):
            return
        patient.deadline = due
        patient.dirty = True
        heapq.heappush(self._deadlines, (due, patient.name))
