"""People around one patient, one for each role and relation, and records of theirs in any state."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from vitalgate.config.settings import DatabaseSettings
from vitalgate.pki.keyring import KeyRing, new_ring
from vitalgate.records.permissions import Relation, Role
from vitalgate.records.record_type import RecordType, Transition
from vitalgate.storage.records_database import Actor, RecordsDatabase, Transaction
from vitalgate.storage.records_keys import index, sealed
from vitalgate.storage.records_read import Record
from vitalgate.storage.records_write import create, transition

KEYS: KeyRing = new_ring(date(2026, 1, 1))
SOON = datetime(2027, 3, 1, 9, 0, tzinfo=UTC)
_COUNT = itertools.count(1)


class RolledBack(Exception):
    """Ends a trial."""


@dataclass
class Cast:
    """A patient with everybody around."""

    settings: DatabaseSettings
    db: RecordsDatabase
    patient: str
    other: str
    people: dict[tuple[Role, Relation], Actor] = field(default_factory=dict)
    clinicians: dict[str, str] = field(default_factory=dict)
    """Clinician id by user id."""
    glass: str = ""

    def of(self, role: Role, relation: Relation) -> Actor:
        """Who acts in this role with this relation to the patient."""
        return self.people[role, relation]

    @contextmanager
    def trial(self, actor: Actor) -> Iterator[Transaction]:
        """A transaction whose effects are thrown away."""
        with suppress(RolledBack), self.db.acting(actor) as tx:
            yield tx
            raise RolledBack


def user(
    tx: Transaction, *roles: Role, patient: str | None = None, clinician: str | None = None, email: str = ""
) -> str:
    """An active account."""
    from vitalgate.records.catalogue import RECORDS

    n = next(_COUNT)
    email = email or f"user{n}@example.org"
    identity = f"u{n}-{'-'.join(roles)}"
    if clinician is not None:
        tx.execute("INSERT INTO clinicians (clinician_id, name) VALUES (%s, %s)", (clinician, clinician.title()))
    tx.execute(
        "INSERT INTO users (id, email, email_index, display_name, status, patient_id, clinician_id, email_verified_at)"
        " VALUES (%s, %s, %s, %s, 'active', %s, %s, now())",
        (
            identity, sealed(tx.keys, f"user/{identity}/email", email),
            index(tx.keys, RECORDS["user"], "email", email),
            sealed(tx.keys, f"user/{identity}/display_name", identity), patient, clinician,
        ),
    )  # fmt: skip
    for role in roles:
        tx.execute("INSERT INTO user_roles (user_id, role) VALUES (%s, %s)", (identity, role))
    return identity


def patient(tx: Transaction, identity: str, team: str = "care") -> str:
    """A registered patient."""
    tx.execute("INSERT INTO patients (patient_id, team) VALUES (%s, %s)", (identity, team))
    tx.execute("INSERT INTO patient_zones VALUES (%s, '-infinity', 'UTC')", (identity,))
    return identity


def cast(settings: DatabaseSettings) -> Iterator[Cast]:
    """Everybody, in an empty database."""
    with RecordsDatabase(settings, KEYS, most=4, application="test") as db:
        with db.service("user:tester") as tx:
            made = Cast(settings, db, patient(tx, "p-own", "red"), patient(tx, "p-other"))
            own = user(tx, Role.PATIENT, patient=made.patient)
            stranger = user(tx, Role.PATIENT, patient=made.other)
            made.people[Role.PATIENT, Relation.OWN] = Actor(own, Role.PATIENT)
            made.people[Role.PATIENT, Relation.STRANGER] = Actor(stranger, Role.PATIENT)
            for relation in (Relation.ASSIGNED, Relation.FORMERLY, Relation.BREAK_GLASS, Relation.STRANGER):
                name = f"dr-{relation.replace('_', '-')}"
                identity = user(tx, Role.CLINICIAN, clinician=name)
                made.clinicians[identity] = name
                made.people[Role.CLINICIAN, relation] = Actor(identity, Role.CLINICIAN)
            for role in (Role.ADMINISTRATOR, Role.DEVICE_MANAGER):
                made.people[role, Relation.STRANGER] = Actor(user(tx, role), role)
            for relation in (Relation.ASSIGNED, Relation.FORMERLY):
                who = made.clinicians[made.of(Role.CLINICIAN, relation).user_id]
                row = create(tx, "care_team", {"patient": made.patient, "clinician": who})
                if relation is Relation.FORMERLY:
                    transition(tx, "care_team", row.id, "end")
        with db.acting(made.of(Role.CLINICIAN, Relation.BREAK_GLASS)) as tx:
            until = datetime.now(UTC) + timedelta(hours=1)
            given = {"patient": made.patient, "reason": "unconscious", "until": until}
            made.glass = create(tx, "break_glass", given).id
        yield made


# --- records in any state -------------------------------------------------------------------------------------------

_WHEN = {"startAt": SOON, "endAt": SOON + timedelta(minutes=30)}
GIVEN: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "patient_profile": {
        "create": {"medicalRecordNumber": "MRN-7", "displayName": "Erika Muster", "dateOfBirth": "1950-02-03"},
        "change": {"primaryClinic": "North"}, "identify": {"displayName": "Erika Beispiel"},
    },
    "care_team": {"create": {"clinician": "dr-stranger"}},
    "break_glass": {"create": {"reason": "found unconscious"}},
    "monitoring_log": {
        "create": {"data": {"device": "d"}, "timestamp": SOON}, "change": {"note": "x"}, "flag": {"note": "call"},
    },
    "ecg_report": {
        "create": {"reportType": "strip"}, "change": {"conclusion": "x"}, "issue": {"conclusion": "sinus rhythm"},
        "finalise": {"conclusion": "sinus rhythm"}, "amend": {"conclusion": "sinus tachycardia"},
    },
    "cardiac_rehab_log": {
        "create": {"exerciseType": "cycling", "date": SOON}, "change": {"duration": 20.0},
        "complete": {"duration": 30.0},
    },
    "message": {"create": {"body": "hello"}, "hold": {"legalHold": True}},
    "appointment": {
        "create": {"provider": "dr-assigned", **_WHEN}, "request": {"provider": "dr-assigned", **_WHEN},
        "change": {"location": "room 3"},
        "reschedule": {"startAt": SOON + timedelta(days=1), "endAt": SOON + timedelta(days=1, minutes=30)},
    },
    "lab_result": {
        "create": {"testCode": "2823-3", "testName": "Potassium", "resultValue": 4.1, "units": "mmol/L"},
        "change": {"resultValue": 4.2}, "correct": {"resultValue": 4.3},
    },
    "treatment_plan": {
        "create": {"kind": "monitoring", "summary": "weigh daily"}, "change": {"summary": "weigh twice"},
        "cancel": {"withdrawnReason": "moved away"},
    },
}  # fmt: skip


def given(kind: RecordType, verb: str, patient: str) -> dict[str, Any]:
    """What to give with a verb so that it works."""
    step = kind.verb(verb)
    values = dict(GIVEN.get(kind.name, {}).get(verb, {}))
    if step.creates:
        values["patient"] = patient
    if kind.name == "break_glass" and verb == "create":
        values["until"] = datetime.now(UTC) + timedelta(minutes=30)
    if "withdrawn_reason" in step.required and "withdrawnReason" not in values:
        values["withdrawnReason"] = "entered in error"
    return values


def path_to(kind: RecordType, step: Transition) -> list[str]:
    """Verbs from nothing to a state that this one starts from."""
    steps = [one for one in kind.transitions.values() if one.verb not in ("withdraw", "expire", "hold")]
    start: list[tuple[str, list[str]]] = [(one.to or "", [one.verb]) for one in steps if one.creates]
    queue = deque(sorted(start, key=lambda item: item[1][0] != "create"))
    while queue:
        state, verbs = queue.popleft()
        if state in step.frm:
            return verbs
        queue.extend(
            (one.to, [*verbs, one.verb]) for one in steps if one.to and state in one.frm and one.verb not in verbs
        )
    raise AssertionError(f"no way to {kind.name}.{step.verb}")


def prepared(tx: Transaction, kind: RecordType, verbs: list[str], patient: str) -> Record:
    """A record that went this way."""
    record = create(tx, kind, given(kind, verbs[0], patient), verb=verbs[0])
    for verb in verbs[1:]:
        record = transition(tx, kind, record.id, verb, given(kind, verb, patient))
    return record
