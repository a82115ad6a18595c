"""The alert engine: readings, features, commands and time in, alert events out.

It is a function of the set of samples of each patient: order of arrival, repeats, redelivery and restarts change
nothing in what is known at the end. What it needs of the past it keeps, bounded, and gives as memory records.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from typing import Any

from vitalgate.alerts import lifecycle, memory, profile, telling
from vitalgate.alerts.columns import Ref
from vitalgate.alerts.commands import Command, Reply
from vitalgate.alerts.compiling import Zones
from vitalgate.alerts.corrections import correct, note_epoch, usable_value, value_ref, waited_for
from vitalgate.alerts.events import AlertEvent
from vitalgate.alerts.patient import Patient, Step
from vitalgate.alerts.population import Population, Worn
from vitalgate.alerts.profile import FOREVER
from vitalgate.alerts.roster import Roster
from vitalgate.alerts.series import Touched
from vitalgate.alerts.telling import FEATURE
from vitalgate.devices.records import Message, PatientInput, Reading

#: Status messages carry the battery beside the metric of the same name.
BATTERY = "battery"


class Engine(Population):
    """Alerts of many patients.

    Parameters
    ----------
    book
        The rules.
    default_team
        Team of patients who have none.
    """

    # --- what comes in ----------------------------------------------------------------------------------------------

    def take(self, record: PatientInput, detected_us: int) -> list[AlertEvent]:
        """Readings and statuses of one patient, given (`add`) or taken away (`remove`)."""
        message = record.message
        wanted, flags = self.book.readings, self.book.flags
        touched = Touched()
        patient: Patient | None = None
        heard = self.book.devices.get(message.device_kind)
        if heard is not None and record.op == "add":
            patient = self._patient_for(record)
            self._hear(patient, heard[0], message, touched)
        for reading in message.readings:
            key = wanted.get(reading.metric)
            if key is not None or reading.corrects is not None:
                patient = patient or self._patient_for(record)
                self._take(patient, key, record.op, message, reading, touched)
            if reading.flags:
                for key in dict.fromkeys(key for flag in reading.flags for key in flags.get(flag, ())):
                    patient = patient or self._patient_for(record)
                    self._take_flag(patient, key, record.op, message, reading, touched)
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
        return self._tell_touched(patient, touched, message.received_us, detected_us, reason)

    def take_feature(
        self, feature: Mapping[str, Any], start_us: int, end_us: int, received_us: int, detected_us: int
    ) -> list[AlertEvent]:
        """One record of patient.features; start and end are its times in microseconds."""
        name = feature["name"]
        key = self.book.features.get(name)
        if key is None or (feature.get("provisional") and key not in self.book.urgent):
            # What may be taken back in seconds is told only where seconds count.
            return []
        patient = self._patient(feature["patient"])
        if key not in patient.book.by_key:
            return []
        series = patient.series_of(key)
        site = f"{feature['recording']}|{feature['channel']}|{feature['algorithm']}|{feature.get('rate', '')}"
        source = patient.sources.number(feature["device_id"], site)
        value = feature.get("value")
        usable = not feature.get("withdrawn") and value is not None
        event = series.spans
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
        touched = Touched()
        touched.note(key, outcome)
        return self._tell_touched(patient, touched, received_us, detected_us, "corrected")

    def tick(self, time_us: int, detected_us: int) -> list[AlertEvent]:
        """Time has come to ``time_us``: what was waiting for it happens."""
        self.clock.us = max(self.now, time_us)
        events: list[AlertEvent] = []
        found: list[tuple[int, str]] = []
        while self._deadlines and self._deadlines[0][0] <= self.now:
            found.append(heapq.heappop(self._deadlines))
        for due, name in found:
            patient = self._patients.get(name)
            if patient is None and name in self._packed:
                patient = self._patient(name)
            if patient is None or patient.deadline != due:
                continue
            patient.deadline = None
            events += self._tell(patient, patient.book.timed, 0, detected_us, "")
        return events

    def command(self, command: Command, detected_us: int) -> tuple[list[AlertEvent], Reply]:
        """What somebody does with an alert, once; the answer is the same however often it is asked."""
        patient = self._patient(command.patient)
        target = self._find(patient, command.alert_id)
        # A step is told before the next is taken: each event shows the alert as it stood then.
        steps = lifecycle.obey(patient, command, target, self.now, detected_us)
        events = [self._event(patient, step, 0, detected_us) for step in steps]
        if events:
            # With a silence taken back, an escalation may have been due for long.
            roster = self._rosters.get(self.team(patient.name))
            due = lifecycle.advance(patient, self.now, roster)
            events += [self._event(patient, step, 0, detected_us) for step in due]
            self._schedule(patient)
        self._mark(patient)
        outcome, detail, number = patient.commands[command.command_id]
        state = "" if target is None else telling.state_of(target[1])
        return events, Reply(
            command_id=command.command_id, alert_id=command.alert_id, patient=command.patient,
            team=self.team(command.patient), who=command.who, action=command.action,
            outcome="done" if outcome == "done" else "refused", detail=detail, state=state, number=int(number),
        )  # fmt: skip

    # --- what is known of patients ------------------------------------------------------------------------------------

    def patient_changed(
        self, name: str, team: str, own: Mapping[str, Any], detected_us: int, zones: Zones = ()
    ) -> list[AlertEvent]:
        """A patient's team, own limits and facts (see ``profile``) or time zones, from the registry."""
        before = self.team(name)
        if team:
            self._teams[name] = team
        else:
            self._teams.pop(name, None)
        if self.team(name) != before and name in self._patients:
            self._schedule(self._patients[name])
        if (own, zones) == self._own.get(name, ({}, ())):
            return []
        if own or zones:
            self._own[name] = (dict(own), zones)
        else:
            self._own.pop(name, None)
        return self._refit(name, detected_us)

    def cohort_changed(self, cohort: str, overrides: Mapping[str, Any] | None, detected_us: int) -> list[AlertEvent]:
        """Limits of a cohort, from the registry; None: there are none any more."""
        if overrides == self._cohorts.get(cohort):
            return []
        if overrides is None:
            self._cohorts.pop(cohort, None)
        else:
            self._cohorts[cohort] = dict(overrides)
        members = [name for name, (own, _) in self._own.items() if cohort in profile.cohorts_of(own)]
        return [event for name in members for event in self._refit(name, detected_us)]

    def roster_changed(self, team: str, roster: Roster | None) -> None:
        """A team's roster, from the registry. It counts from the next tick."""
        if roster is None:
            self._rosters.pop(team, None)
        else:
            self._rosters[team] = roster
        for name, packed in list(self._packed.items()):
            if self.team(name) == team and memory.head(packed).open:
                self._patient(name)
        for patient in self._patients.values():
            if self.team(patient.name) == team and patient.known:
                self._schedule(patient)

    def devices_changed(self, name: str, worn: Worn, detected_us: int) -> list[AlertEvent]:
        """Which devices a patient has (had), by stretches of event time; from then on others are not missed."""
        if self._worn is None:
            self._worn = {}
        if self._worn.get(name) == worn:
            return []
        self._worn[name] = worn
        if name not in self._patients and name not in self._packed:
            return []
        patient = self._patient(name)
        patient.worn = dict(worn)
        rules = [rule for rule in patient.book.timed if any(t.kind == "silent" for t in patient.book.terms[rule])]
        return self._tell(patient, rules, 0, detected_us, "assignment corrected") if patient.presence else []

    def expect(self, name: str, kinds: Mapping[str, str]) -> None:
        """Devices (id to kind) that a patient of this engine has: also one that was never heard is missed in time.

        Its silence counts from the beginning of the patient's time with it (``devices_changed``), and at the earliest
        from when it became known here.
        """
        for device, kind in kinds.items():
            rules = self.book.devices.get(kind)
            if rules is None or device in self._heard.get(rules[0], {}).get(name, {}):
                continue
            patient = self._patient(name)
            if patient.expect(rules[0], device):
                patient.dirty = True
                self._schedule(patient)
                self._mark(patient)

    def _refit(self, name: str, detected_us: int) -> list[AlertEvent]:
        if name not in self._patients and name not in self._packed:
            return []
        patient = self._patient(name)
        before = patient.book
        patient.set_book(self._book_for(name))
        patient.dirty = True
        self._mark(patient)
        changed = [
            rule for rule in {**before.rules, **patient.book.rules} if not before.judges_as(patient.book, rule)
        ]  # fmt: skip
        return self._tell(patient, changed, 0, detected_us, "limits changed")

    def recheck(self, detected_us: int) -> list[AlertEvent]:
        """Judge anew the loaded patients whose rules or limits have changed since their memory was written."""
        names, self._recheck = self._recheck, {}
        events: list[AlertEvent] = []
        for name, changed in names.items():
            patient = self._patient(name)
            if changed:
                patient.dirty = True
                rules = sorted({*patient.book.rules, *patient.known})
                events += self._tell(patient, rules, 0, detected_us, "limits changed")
            else:
                self._schedule(patient)
        return events

    def current(self, name: str, detected_us: int) -> list[AlertEvent]:
        """The open alerts of a patient as they stand, for whoever has to be told anew (another team)."""
        if name not in self._patients and name not in self._packed:
            return []
        patient = self._patient(name)
        return [
            self._event(patient, Step(rule, known, "restated"), 0, detected_us)
            for rule, known in patient.live_alerts()
        ]  # fmt: skip

    # --- inside -----------------------------------------------------------------------------------------------------

    def _patient_for(self, record: PatientInput) -> Patient:
        patient = self._patient(record.patient)
        if record.message.epoch:
            note_epoch(patient, record.message)
        return patient

    def _hear(self, patient: Patient, key: str, message: Message, touched: Touched) -> None:
        moments = {reading.time_us for reading in message.readings}
        for block in message.waveforms:
            moments |= {block.start_us, block.start_us + block.count * block.rate_den * 1_000_000 // block.rate_num}
        status = message.status
        if status is not None and status.state != "offline":
            moments.add(status.time_us)
        for moment in sorted(moments):
            if patient.heard(key, message.device, moment):
                touched.all(key)
                patient.dirty = True
        if moments:
            self.note_heard(key, patient.name, message.device, max(moments))

    def _take_flag(
        self, patient: Patient, key: str, op: str, message: Message, reading: Reading, touched: Touched
    ) -> None:
        if key not in patient.book.by_key:
            return
        source = patient.sources.number(message.device, reading.site)
        series = patient.series_of(key)
        if op == "remove":
            outcome = series.remove(reading.time_us, source, reading.index)
        else:
            outcome = series.put(value_ref(message, reading, source), 1.0)
        patient.dirty |= outcome.changed
        if outcome.alarm:
            touched.note(key, outcome)

    def _take(
        self, patient: Patient, key: str | None, op: str, message: Message, reading: Reading, touched: Touched
    ) -> None:
        if key is not None and key not in patient.book.by_key:
            key = None
        if op == "remove":
            if key is not None:
                source = patient.sources.number(message.device, reading.site)
                outcome = patient.series_of(key).remove(reading.time_us, source, reading.index)
                patient.dirty |= outcome.changed
                if outcome.alarm:
                    touched.note(key, outcome)
            return
        if reading.corrects is not None:
            for other in correct(patient, key, message, reading):
                touched.all(other)
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
            touched.note(key, outcome)
        if patient.waiting and message.epoch:
            for other in waited_for(patient, key, message, reading):
                touched.all(other)

    def _tell_touched(
        self, patient: Patient, touched: Touched, received_us: int, detected_us: int, reason: str
    ) -> list[AlertEvent]:
        rules: set[str] = set()
        for key, mask in touched.items():
            for k, names in enumerate(patient.book.rules_of[key]):
                if mask >> k & 1:
                    rules.update(names)
        if touched.in_order and not rules.isdisjoint(patient.book.scored) and patient.score_is_quiet(touched):
            rules -= patient.book.scored
            if not rules:
                self._schedule(patient)
                self._mark(patient)
                return []
        return self._tell(patient, rules, received_us, detected_us, reason)

    def _tell(
        self, patient: Patient, rules: Iterable[str], received_us: int, detected_us: int, reason: str
    ) -> list[AlertEvent]:
        """Compare what is known with what ought to be; high priorities first, since they may imply the others."""
        events: list[AlertEvent] = []
        patient.points = None
        rank = patient.book.rank
        for rule in sorted(rules, key=lambda name: (rank.get(name, -1), name)):
            for step in patient.compare(rule, self.now, reason):
                if step.happened == "raised":
                    step.known.received_us = received_us
                events.append(self._event(patient, step, received_us, detected_us))
        if patient.known:
            roster = self._rosters.get(self.team(patient.name))
            events += [
                self._event(patient, step, 0, detected_us) for step in lifecycle.advance(patient, self.now, roster)
            ]
        patient.dirty |= bool(events)
        self._schedule(patient)
        self._mark(patient)
        return events

    def _event(self, patient: Patient, step: Step, received_us: int, detected_us: int) -> AlertEvent:
        team = self.team(patient.name)
        rule = patient.book.rules.get(step.rule) or self.book.rules.get(step.rule)
        return telling.make(patient, step, rule, team, self._rosters.get(team), received_us, detected_us)


__all__ = ["FOREVER", "Engine"]
