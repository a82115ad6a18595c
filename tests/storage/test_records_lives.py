"""Each record through one full life with its refusals; versions, lost updates, the audit trail, what goes with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from tests.storage.records_cast import SOON, Cast, cast, given
from vitalgate.config.settings import DatabaseSettings
from vitalgate.records.catalogue import RECORDS, record_type
from vitalgate.records.errors import Changed, Conflict, Invalid, NotAllowed, NotFound
from vitalgate.records.permissions import Relation, Role
from vitalgate.report import ecg
from vitalgate.storage import (
    maintenance,
    records_audit,
    records_care,
    records_changes,
    records_ecg,
    records_manual,
    records_messages,
    records_rehab,
)
from vitalgate.storage.connect import connect
from vitalgate.storage.records_database import Actor
from vitalgate.storage.records_read import Query, Record, find, find_many, get, get_many, versions
from vitalgate.storage.records_write import create, transition, withdraw
from vitalgate.storage.registry import NewDevice, Registry

#: Records are no tables over time: for what touches none of these, one form of the database is enough.
in_one_form = pytest.mark.parametrize("migrated", ["plain"], indirect=True)


@pytest.fixture
def people(database: DatabaseSettings) -> Iterator[Cast]:
    """The cast."""
    yield from cast(database)


@pytest.fixture
def doctor(people: Cast) -> Actor:
    """On the care team."""
    return people.of(Role.CLINICIAN, Relation.ASSIGNED)


@pytest.fixture
def own(people: Cast) -> Actor:
    """The patient."""
    return people.of(Role.PATIENT, Relation.OWN)


@pytest.fixture
def admin(people: Cast) -> Actor:
    """An administrator."""
    return people.of(Role.ADMINISTRATOR, Relation.STRANGER)


def _do(people: Cast, actor: Actor, name: str, identity: str, verb: str, values: Any = None, **more: Any) -> Record:
    with people.db.acting(actor) as tx:
        return transition(tx, name, identity, verb, values, **more)


def _make(people: Cast, actor: Actor, name: str, verb: str = "create", **values: Any) -> Record:
    with people.db.acting(actor) as tx:
        return create(tx, name, given(record_type(name), verb, people.patient) | values, verb=verb)


def _sees(people: Cast, actor: Actor, name: str) -> list[str]:
    with people.db.acting(actor) as tx:
        return [one.id for one in find(tx, name).records]


@in_one_form
def test_profile(people: Cast, doctor: Actor, own: Actor, admin: Actor) -> None:
    values = {"medicalRecordNumber": "MRN 7", "fullName": "Erika Muster", "dob": "1950-02-03", "timeZone": "Asia/Tokyo"}
    with people.db.acting(admin) as tx:
        made = create(tx, "PatientProfile", {"patient": "p-new", **values})
    document = made.document()
    assert document["displayName"] == document["fullName"] == "Erika Muster"
    assert document["dateOfBirth"] == document["dob"] == date(1950, 2, 3)
    assert document["isActive"] is True
    with Registry(people.settings) as registry:
        assert registry.patients("p-new")[0].zones == [(None, "Asia/Tokyo")]
        assert any(row.key == "p-new" for row in registry.outbox())
    with people.db.service("user:tester") as tx:
        row = tx.execute("SELECT display_name, medical_record_number, p::text FROM patient_profiles p").fetchone()
        assert row is not None
        for plain in (b"Erika", b"MRN", b"1950"):
            assert plain not in bytes(row[0]) + bytes(row[1]) + str(row[2]).encode()
    with people.db.acting(admin) as tx:
        for field, value in (("medicalRecordNumber", "mrn 7"), ("fullName", "ERIKA muster"), ("dob", date(1950, 2, 3))):
            assert [one.id for one in find(tx, "patients", Query({field: value})).records] == ["p-new"]
        assert not find(tx, "patients", Query({"fullName": "Erika"})).records
    _refused(people, admin, Conflict, "patient_profile", {"patient": "p-other", **values})
    _refused(people, admin, Invalid, "patient_profile", {"patient": "p-other", **values, "timeZone": "Mars/Base"})
    _refused(people, admin, Invalid, "patient_profile", {"patient": "p-other", **values, "displayName": "Another"})
    _refused(people, doctor, NotAllowed, "patient_profile", {"patient": "p-x", **values})
    with people.db.acting(admin) as tx:
        create(tx, "patient_profile", {"patient": people.patient, **values, "medicalRecordNumber": "8"})
    moved = _do(people, own, "patient_profile", people.patient, "change", {"timeZone": "Europe/Berlin"})
    assert moved.version == 2
    with Registry(people.settings) as registry:
        assert registry.patients(people.patient)[0].zones[-1][1] == "Europe/Berlin"
    with pytest.raises(NotAllowed):
        _do(people, own, "patient_profile", people.patient, "identify", {"fullName": "Prince"})
    _do(people, doctor, "patient_profile", people.patient, "identify", {"fullName": "Erika Beispiel"})
    _do(people, admin, "patient_profile", people.patient, "deactivate")
    with pytest.raises(Conflict):
        _do(people, admin, "patient_profile", people.patient, "deactivate")
    with people.db.acting(own) as tx:
        told = versions(tx, "patient_profile", people.patient)
    assert [one.values["display_name"] for one in told] == ["Erika Muster", "Erika Muster", *["Erika Beispiel"] * 2]
    assert [one.document()["isActive"] for one in told] == [True, True, True, False]


def _refused(people: Cast, actor: Actor, error: type[Exception], name: str, values: Any, verb: str = "create") -> None:
    with pytest.raises(error), people.db.acting(actor) as tx:
        create(tx, name, values, verb=verb)


@in_one_form
def test_ecg_report(people: Cast, doctor: Actor, own: Actor) -> None:
    made = _make(people, doctor, "ecg_report")
    assert (made.values["status"], made.version) == ("draft", 1)
    with pytest.raises(Invalid, match="says something"):
        _do(people, doctor, "ecg_report", made.id, "issue")
    with pytest.raises(Conflict):
        _do(people, doctor, "ecg_report", made.id, "publish")
    issued = _do(people, doctor, "ecg_report", made.id, "issue", {"resultData": {"rate": 71, "qtc": 431}}, version=1)
    with pytest.raises(Changed) as lost:
        _do(people, doctor, "ecg_report", made.id, "change", {"conclusion": "too late"}, version=1)
    assert lost.value.version == issued.version == 2
    final = _do(people, doctor, "ecg_report", made.id, "finalise", {"conclusion": "sinus rhythm"})
    assert final.values["reported_at"] == issued.values["reported_at"]
    with pytest.raises(Conflict):
        _do(people, doctor, "ecg_report", made.id, "change", {"conclusion": "quietly"})
    assert _sees(people, own, "ecg_report") == []
    published = _do(people, doctor, "ecg_report", made.id, "publish")
    assert published.values["published_by"] == doctor.user_id
    amended = _do(people, doctor, "ecg_report", made.id, "amend", {"resultData": {"rate": 72, "qtc": 433}})
    assert amended.values["status"] == "amended"
    with people.db.acting(doctor) as tx:
        told = versions(tx, "ecg_report", made.id)
    assert [one.values["status"] for one in told] == ["draft", "preliminary", "final", "final", "amended"]
    assert [one.version for one in told] == [1, 2, 3, 4, 5]
    assert told[1].values["result_data"]["rate"] == 71
    with people.db.acting(own) as tx:
        assert [one.version for one in versions(tx, "ecg_report", made.id)] == [4, 5]
    with pytest.raises(Invalid):
        _do(people, doctor, "ecg_report", made.id, "withdraw")
    with people.db.acting(doctor) as tx:
        gone = withdraw(tx, "ecg_report", made.id, "of another patient")
    assert (gone.values["status"], gone.values["withdrawn_reason"]) == ("cancelled", "of another patient")
    assert _sees(people, doctor, "ecg_report") == []
    with people.db.acting(doctor) as tx:
        assert [one.id for one in find(tx, "ecg_report", Query(withdrawn=True)).records] == [made.id]
    with pytest.raises(Conflict, match="withdrawn"):
        _do(people, doctor, "ecg_report", made.id, "amend", {"conclusion": "x"})
    for values in ({"reportType": "palm"}, {"status": "final"}, {"resultData": {"rate": -1}}, {"nonsense": 1}):
        _refused(people, doctor, Invalid, "ecg_report", given(RECORDS["ecg_report"], "create", people.patient) | values)


@in_one_form
def test_lab_result(people: Cast, doctor: Actor, own: Actor) -> None:
    usual = {"low": 3.5, "high": 5.1, "criticalLow": 2.5, "criticalHigh": 6.5}
    made = _make(people, doctor, "lab_result", referenceRange=usual, resultValue=5.6, abnormalFlag="N")
    assert made.values["abnormal_flag"] == "H"
    assert _do(people, doctor, "lab_result", made.id, "change", {"resultValue": 6.9}).values["abnormal_flag"] == "HH"
    with pytest.raises(Conflict):
        _do(people, doctor, "lab_result", made.id, "publish")
    _do(people, doctor, "lab_result", made.id, "finalise")
    _do(people, doctor, "lab_result", made.id, "publish")
    corrected = _do(people, doctor, "lab_result", made.id, "correct", {"resultValue": 4.4})
    assert (corrected.values["status"], corrected.values["abnormal_flag"]) == ("corrected", "N")
    with people.db.acting(own) as tx:
        assert [one.values["result_value"] for one in versions(tx, "lab_result", made.id)] == [6.9, 4.4]
    for wrong in ({"testCode": "2823-4"}, {"units": None}):
        _refused(people, doctor, Invalid, "lab_result", given(RECORDS["lab_result"], "create", people.patient) | wrong)
    words = _make(people, doctor, "lab_result", resultValue="no growth", units=None, abnormalFlag="N")
    assert words.values["result_value"] == "no growth"


@in_one_form
def test_monitoring_log(people: Cast, doctor: Actor, own: Actor) -> None:
    made = _make(people, doctor, "monitoring_log")
    with pytest.raises(Conflict):
        _do(people, doctor, "monitoring_log", made.id, "publish")
    with pytest.raises(Invalid, match="note"):
        _do(people, doctor, "monitoring_log", made.id, "flag")
    flagged = _do(people, doctor, "monitoring_log", made.id, "flag", {"note": "weight rises"})
    assert flagged.values["reviewed_by"] == doctor.user_id
    assert _sees(people, own, "monitoring_log") == []
    _do(people, doctor, "monitoring_log", made.id, "publish")
    assert _sees(people, own, "monitoring_log") == [made.id]
    _do(people, doctor, "monitoring_log", made.id, "close")
    with pytest.raises(Conflict):
        _do(people, doctor, "monitoring_log", made.id, "change", {"note": "x"})
    assert _do(people, doctor, "monitoring_log", made.id, "reopen").values["status"] == "needs_action"


@in_one_form
def test_rehab(people: Cast, doctor: Actor, own: Actor) -> None:
    made = _make(people, doctor, "cardiac_rehab_log", sessionDetails={"targetLow": 95, "targetHigh": 120})
    with pytest.raises(Invalid, match="duration"):
        _do(people, doctor, "cardiac_rehab_log", made.id, "complete")
    _do(people, doctor, "cardiac_rehab_log", made.id, "complete", {"duration": 30})
    fixed = _do(people, doctor, "cardiac_rehab_log", made.id, "change", {"duration": 25})
    with people.db.acting(own) as tx:
        told = versions(tx, "cardiac_rehab_log", made.id)
    assert [one.values["duration"] for one in told] == [None, 30, 25]
    assert told[0].values["effective_to"] == told[1].values["effective_from"]
    assert told[1].values["effective_to"] == told[2].values["effective_from"] == fixed.values["effective_from"]
    assert fixed.values["effective_to"] is None
    with pytest.raises(Conflict):
        _do(people, doctor, "cardiac_rehab_log", made.id, "miss")


@in_one_form
def test_messages(people: Cast, doctor: Actor, own: Actor, admin: Actor) -> None:
    first = _make(people, own, "message")
    assert first.values["conversation_id"] == first.id
    answer = _make(people, doctor, "UserMessage", threadId=first.id, recipient=own.user_id)
    document = answer.document()
    assert document["conversationId"] == document["threadId"] == first.id
    assert document["from"] == document["sender"] == doctor.user_id
    assert document["to"] == document["recipient"] == own.user_id
    with people.db.acting(own) as tx:
        assert records_messages.unread(tx) == {people.patient: 1}
        thread = records_messages.threads(tx)[0]
        assert (thread.unread, thread.last.id, thread.conversation_id) == (1, answer.id, first.id)
    with pytest.raises(NotAllowed):
        _do(people, own, "message", first.id, "mark_read")
    _do(people, own, "message", answer.id, "deliver")
    read = _do(people, own, "message", answer.id, "mark_read")
    assert read.document()["isRead"] is True
    assert read.values["read_by"] == own.user_id
    with pytest.raises(Conflict):
        _do(people, own, "message", answer.id, "mark_read")
    with people.db.acting(own) as tx:
        assert records_messages.unread(tx) == {}
    between = _make(people, doctor, "message", to=doctor.user_id)
    assert between.id not in _sees(people, own, "message")
    stranger = people.of(Role.PATIENT, Relation.STRANGER).user_id
    _refused(people, doctor, Invalid, "message", {"patient": people.patient, "body": "x", "to": stranger})
    other = people.of(Role.PATIENT, Relation.STRANGER)
    _refused(people, other, Invalid, "message", {"patient": people.other, "body": "x", "threadId": first.id})
    with pytest.raises(NotAllowed):
        _do(people, own, "message", answer.id, "withdraw", {"withdrawnReason": "not mine"})
    # Retention takes the words, unless the thread is held; an administrator holds what they cannot read.
    with people.db.acting(admin) as tx:
        assert records_messages.hold(tx, first.id, True) == 2
    with pytest.raises(NotAllowed), people.db.acting(doctor) as tx:
        records_messages.hold(tx, first.id, False)
    assert records_messages.purge(people.db, 0) == 1
    with people.db.acting(doctor) as tx:
        assert get(tx, "message", first.id).values["body"] == "hello"
        assert {one.values["body"] for one in versions(tx, "message", between.id)} == {""}


@in_one_form
def test_appointments(people: Cast, doctor: Actor, own: Actor) -> None:
    asked = _make(people, own, "appointment", "request")
    assert asked.values["status"] == "requested"
    booked = _make(people, doctor, "appointment")
    with pytest.raises(Conflict, match="at that time"):
        _do(people, doctor, "appointment", asked.id, "confirm")
    later = {"startAt": SOON + timedelta(minutes=30), "endAt": SOON + timedelta(minutes=60)}
    moved = _do(people, own, "appointment", asked.id, "reschedule", later)
    assert (moved.values["status"], moved.values["sequence"]) == ("requested", 1)
    _do(people, doctor, "appointment", asked.id, "confirm")
    with pytest.raises(Conflict):
        _do(people, doctor, "appointment", booked.id, "reschedule", later)
    with pytest.raises(Invalid):
        _do(people, doctor, "appointment", booked.id, "reschedule", {"startAt": SOON, "endAt": SOON})
    _refused(people, own, NotAllowed, "appointment", given(RECORDS["appointment"], "create", people.patient))
    _do(people, own, "appointment", booked.id, "cancel", {"cancelledReason": "ill"})
    again = _make(people, doctor, "appointment")
    _do(people, doctor, "appointment", again.id, "complete")
    with pytest.raises(Conflict):
        _do(people, doctor, "appointment", again.id, "cancel")


@in_one_form
def test_treatment_plan_sets_alert_limits_while_it_is_active(people: Cast, doctor: Actor, own: Actor) -> None:
    settings = people.settings
    mine = {"heart-rate-high": {"limit": 130, "author": "dr-x"}, "_facts": {"spo2_scale": 2}}
    with Registry(settings) as registry:
        registry.set_patient(people.patient, overrides=mine)
    limits = {"heart-rate-high": {"limit": 110}, "spo2-low": [{"limit": 88}]}
    plan = _make(people, doctor, "treatment_plan", alertOverrides=limits)
    assert _sees(people, own, "treatment_plan") == []
    active = _do(people, doctor, "treatment_plan", plan.id, "activate")
    assert active.values["start_date"] == datetime.now(UTC).date()
    mark = f"plan:{plan.id}"
    with Registry(settings) as registry:
        assert registry.patients(people.patient)[0].overrides == {
            "heart-rate-high": [mine["heart-rate-high"], {"limit": 110, "author": mark}],
            "spo2-low": [{"limit": 88, "author": mark}], "_facts": {"spo2_scale": 2},
        }  # fmt: skip
        assert any(row.key == people.patient and b"spo2-low" in row.value for row in registry.outbox())
    assert _sees(people, own, "treatment_plan") == [plan.id]
    second = _make(people, doctor, "treatment_plan")
    with pytest.raises(Conflict, match="of this kind is active"):
        _do(people, doctor, "treatment_plan", second.id, "activate")
    _do(people, doctor, "treatment_plan", plan.id, "change", {"alertOverrides": {"spo2-low": {"limit": 89}}})
    with Registry(settings) as registry:
        assert registry.patients(people.patient)[0].overrides["spo2-low"] == [{"limit": 89, "author": mark}]
    _do(people, doctor, "treatment_plan", plan.id, "complete")
    with Registry(settings) as registry:
        found = registry.patients(people.patient)[0].overrides
        assert found == {"heart-rate-high": [mine["heart-rate-high"]], "_facts": {"spo2_scale": 2}}
    _do(people, doctor, "treatment_plan", second.id, "activate")
    _refused(people, doctor, Invalid, "treatment_plan",
             {"patient": people.patient, "kind": "x", "summary": "x", "alertOverrides": {"_facts": {}}})  # fmt: skip


def test_care_team_and_break_glass(people: Cast, doctor: Actor, own: Actor, admin: Actor) -> None:
    helper = people.of(Role.CLINICIAN, Relation.STRANGER)
    report = _make(people, doctor, "ecg_report")
    with pytest.raises(NotFound), people.db.acting(helper) as tx:
        get(tx, "ecg_report", report.id)
    _refused(people, doctor, NotAllowed, "break_glass", given(RECORDS["break_glass"], "create", people.patient))
    with pytest.raises(Invalid), people.db.acting(helper) as tx:
        records_care.break_glass(tx, people.patient, "why")
    with pytest.raises(Invalid), people.db.acting(helper) as tx:
        records_care.break_glass(tx, people.patient, "unconscious", minutes=2000)
    with pytest.raises(NotFound), people.db.acting(helper) as tx:
        records_care.break_glass(tx, "nobody", "unconscious")
    with people.db.acting(helper) as tx:
        opened = records_care.break_glass(tx, people.patient, "unconscious")
    with people.db.acting(helper) as tx:
        assert records_care.relation(tx, people.patient) is Relation.BREAK_GLASS
        assert get(tx, "ecg_report", report.id).id == report.id
    # The patient, the care team and the administrators are told, live; the patient reads who looked.
    records_changes.number(people.db)
    told = [one for one in records_changes.read(people.db, 0) if one.id == opened.id]
    assert records_changes.deliver(people.db, told, [own, doctor, admin, helper]) == {told[0].position: [0, 1, 2, 3]}
    with people.db.acting(own) as tx:
        log = find(tx, "audit_log", Query({"patient": people.patient, "actor": f"user:{helper.user_id}"})).records
    assert {one.values["action"] for one in log} >= {"break_glass.create", "ecg_report.read"}
    assert {one.values["actor_name"] for one in log} == {"Dr-Stranger"}
    with people.db.acting(helper) as tx:
        assert records_care.end_break_glass(tx, people.patient) == 1
    assert _sees(people, helper, "ecg_report") == []
    with people.db.acting(admin) as tx:
        line = create(tx, "care_team", {"patient": people.patient, "clinician": "dr-stranger", "role": "nurse"})
    _refused(people, admin, Conflict, "care_team", {"patient": people.patient, "clinician": "dr-stranger"})
    _refused(people, admin, Invalid, "care_team", {"patient": people.patient, "clinician": "dr-none"})
    with people.db.acting(own) as tx:
        around = {person.clinician: person.role for person in records_care.people(tx, people.patient)}
    assert around == {None: "patient", "dr-assigned": "member", "dr-stranger": "nurse"}
    _do(people, admin, "care_team", line.id, "end")
    assert _sees(people, helper, "ecg_report") == []


def test_readings_by_hand(people: Cast, doctor: Actor) -> None:
    now = datetime.now(UTC).isoformat()
    good = {"metric": "weight", "value": 80.5, "unit": "kg", "time": now}
    entered = _make(people, doctor, "device_data", readings=[good])
    assert entered.values["entered_by"] == doctor.user_id
    with pytest.raises(Invalid) as wrong:
        _make(people, doctor, "device_data", readings=[good, {**good, "value": 8000}, {**good, "metric": "charm"}])
    assert [name for name, _ in wrong.value.fields] == ["readings.1", "readings.2"]
    _refused(people, people.of(Role.PATIENT, Relation.OWN), NotAllowed, "device_data",
             {"patient": people.patient, "readings": [good]})  # fmt: skip
    with connect(people.settings, "test", autocommit=True) as connection:
        assert records_manual.waiting(connection) == []  # its device is not on the topics yet
        connection.execute("UPDATE registry_outbox SET applied_at = now()")
        (typed,) = records_manual.waiting(connection)
        assert typed.device == entered.values["device"]
        assert b'"seq": 1' in typed.payload
        records_manual.mark_sent(connection, [typed.n])
        assert records_manual.waiting(connection) == []


@in_one_form
def test_lists_pages_filters_and_loaders(people: Cast, doctor: Actor) -> None:
    kind = RECORDS["lab_result"]
    base = given(kind, "create", people.patient)
    times: list[datetime | None] = [None, *(SOON + timedelta(hours=n // 2) for n in range(6))]
    with people.db.acting(doctor) as tx:
        made = [create(tx, kind, {**base, "collectedAt": at, "testName": f"test {n}"}).id for n, at in enumerate(times)]
    for sort in ("", "createdAt", "-collectedAt", "collectedAt"):
        found, after = [], ""
        while True:
            with people.db.acting(doctor) as tx:
                page = find(tx, kind, Query(sort=sort, limit=2, after=after))
            found += [one.id for one in page.records]
            if page.next is None:
                break
            after = page.next
        assert sorted(found) == sorted(made), sort
        if sort in ("", "createdAt"):
            assert found == (made if sort else made[::-1])
    with people.db.acting(doctor) as tx:
        assert len(find(tx, kind, Query({"collectedAt": {"ge": SOON, "lt": SOON + timedelta(hours=1)}})).records) == 2
        assert len(find(tx, kind, Query({"status": ["preliminary", "final"], "testCode": "2823-3"})).records) == 7
        assert len(find(tx, kind, Query({"collectedAt": None})).records) == 1
        assert set(get_many(tx, kind, [*made[:2], "none"])) == set(made[:2])
        each = find_many(tx, kind, "patient", [people.patient, people.other], 3)
        assert {name: len(rows) for name, rows in each.items()} == {people.patient: 3, people.other: 0}
        for wrong in (Query({"body": 1}), Query(sort="resultValue"), Query(limit=0), Query(after="nonsense"),
                      Query({"status": {"like": "x"}})):  # fmt: skip
            with pytest.raises(Invalid):
                find(tx, kind, wrong)


@in_one_form
def test_every_change_reading_and_refusal_is_audited(people: Cast, doctor: Actor, own: Actor) -> None:
    with connect(people.settings, "test", autocommit=True) as connection:
        records_audit.mark_sent(connection, [event.n for event in records_audit.waiting(connection)])
        report = _make(people, doctor, "ecg_report", orderedBy="dr-assigned")
        with people.db.acting(doctor) as tx:
            get(tx, "ecg_report", report.id)
        with pytest.raises(NotFound):
            _do(people, own, "ecg_report", report.id, "publish")
        _do(people, doctor, "ecg_report", report.id, "finalise", {"conclusion": "x"})
        _do(people, doctor, "ecg_report", report.id, "publish")
        with pytest.raises(NotAllowed):
            _do(people, own, "ecg_report", report.id, "publish")
        events = records_audit.waiting(connection)
        told = [(one.who.removeprefix("user:"), one.action, one.outcome) for one in events]
        assert told == [
            (doctor.user_id, "ecg_report.create", "success"), (doctor.user_id, "ecg_report.read", "success"),
            (doctor.user_id, "ecg_report.finalise", "success"), (doctor.user_id, "ecg_report.publish", "success"),
            (own.user_id, "ecg_report.publish", "refused"),
        ]  # fmt: skip
        assert events[0].detail["patient"] == people.patient
        assert "sinus" not in str([one.detail for one in events])
    # A failed transaction leaves no event, no version, no change behind.
    before = len(events)
    with people.trial(doctor) as tx:
        create(tx, "ecg_report", given(RECORDS["ecg_report"], "create", people.patient))
    with connect(people.settings, "test", autocommit=True) as connection:
        assert len(records_audit.waiting(connection)) == before


@in_one_form
def test_positions_rise_however_late_a_transaction_commits(people: Cast, doctor: Actor, own: Actor) -> None:
    records_changes.number(people.db)
    last = records_changes.newest(people.db)
    with people.db.acting(doctor) as slow:
        early = create(slow, "ecg_report", given(RECORDS["ecg_report"], "create", people.patient))
        late = _make(people, own, "message")
        assert records_changes.number(people.db) == 1
        (first,) = records_changes.read(people.db, last)
        assert first.id == late.id
    assert records_changes.number(people.db) == 1
    (second,) = records_changes.read(people.db, first.position)
    assert (second.id, second.record, second.verb) == (early.id, "ecg_report", "create")
    assert records_changes.number(people.db) == 0
    assert records_changes.forget(people.db, 0) > 0
    assert records_changes.read(people.db, 0) == []


def test_housekeeping_of_records(people: Cast, own: Actor) -> None:
    old, held, young = (_make(people, own, "message").id for _ in range(3))
    with people.db.service("user:tester") as tx:
        records_messages.hold(tx, held, True)
        tx.execute("SELECT set_config('session_replication_role', 'replica', true)")
        tx.execute("UPDATE messages SET sent_at = now() - interval '40 days' WHERE id <> %s", (young,))
    report = maintenance.run(people.settings.model_copy(update={"message_days": 30}))
    assert report.records == 1
    with people.db.acting(own) as tx:
        bodies = {one.id: one.values["body"] for one in find(tx, "message", Query(withdrawn=True)).records}
    assert bodies == {old: "", held: "hello", young: "hello"}
    assert records_changes.number(people.db) == 1  # housekeeping has numbered all but its own: they do not pile up
    assert records_changes.newest(people.db) > 0


def test_a_session_is_filled_from_what_was_worn(people: Cast, doctor: Actor, own: Actor) -> None:
    start = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
    with Registry(people.settings) as registry:
        registry.add_device(NewDevice("bike", "ergometer", "x", people.patient, since=start - timedelta(days=1)))
    with people.db.service("user:tester") as tx:
        for metric, values in (("exercise_heart_rate", [90.0] * 300 + [110.0] * 300 + [92.0] * 70),
                               ("power", [50.0] * 600), ("energy", [0.0] * 599 + [61.0])):  # fmt: skip
            for n, value in enumerate(values):
                tx.execute(
                    "INSERT INTO readings (time, device_id, metric, site, idx, version, current, value_num, unit,"
                    " epoch_no, ord, item, received_at, skew_s, message_id, raw_partition, raw_offset)"
                    " VALUES (%s, 'bike', %s, '', 0, 1, true, %s, '1', 1, %s, 0, now(), 0, gen_random_uuid(), 0, %s)",
                    (start + timedelta(seconds=n), metric, value, n, n),
                )
    made = _make(people, doctor, "cardiac_rehab_log", date=start, sessionDetails={"targetLow": 100, "targetHigh": 120})
    with pytest.raises(Conflict, match="how long"), people.db.acting(doctor) as tx:
        records_rehab.fill(tx, made.id)
    with people.db.acting(doctor) as tx:
        done = records_rehab.fill(tx, made.id, minutes=10)
    assert done.values["status"] == "completed"
    assert done.values["calories_burned"] == 61
    details = done.values["session_details"]
    assert (details["meanHeartRate"], details["peakHeartRate"]) == (100.0, 110.0)
    assert (details["timeInZoneS"], details["recoveryHeartRate"]) == (300.0, 18.0)
    assert (details["devices"], details["targetLow"]) == (["bike"], 100)
    with pytest.raises(NotAllowed), people.db.acting(own) as tx:
        records_rehab.fill(tx, made.id, minutes=5)
    empty = _make(people, doctor, "cardiac_rehab_log", date=start + timedelta(days=400), duration=10)
    with pytest.raises(Conflict, match="nothing was measured"), people.db.acting(doctor) as tx:
        records_rehab.fill(tx, empty.id)


@in_one_form
def test_report_by_the_engine_and_measurements_over_time(people: Cast, doctor: Actor, own: Actor) -> None:
    samples = np.zeros((1, 5000))
    beat = np.exp(-(((np.arange(-40, 40)) / 6.0) ** 2))
    for at in range(300, 4900, 400):
        samples[0, at - 40 : at + 40] += beat
    rng = np.random.default_rng(1)
    start = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
    document = ecg.document(ecg.examine(ecg.Ecg(["II"], samples + rng.normal(0, 0.01, samples.shape), 500.0, start)))
    with people.db.acting(doctor) as tx:
        made = records_ecg.from_engine(tx, people.patient, document, ordered_by="dr-assigned")
    assert (made.values["status"], made.values["source"], made.values["version"]) == ("preliminary", "engine", 2)
    assert made.values["result_data"]["rate"] == pytest.approx(75, abs=1)
    assert "Not for diagnosis" in made.values["conclusion"]
    _make(people, doctor, "ecg_report", resultData={"rate": 60})  # a draft says nothing yet
    _do(people, doctor, "ecg_report", made.id, "finalise", {"resultData": {"rate": 76, "qtc": 412}})
    with people.db.acting(doctor) as tx:
        told = records_ecg.measurements(tx, people.patient, start, start + timedelta(days=1))
    assert told == [{"time": start, "report": made.id, "rate": 76.0, "qtc": 412.0}]
    with people.db.acting(own) as tx:
        assert records_ecg.measurements(tx, people.patient, start, start + timedelta(days=1)) == []
    with pytest.raises(Invalid), people.db.acting(doctor) as tx:
        records_ecg.from_engine(tx, people.patient, {"schema": "other"})
