"""Who may see whom: relations, the people around a patient, and opening a record in an emergency."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from vitalgate.records.catalogue import RECORDS
from vitalgate.records.errors import Invalid, NotFound
from vitalgate.records.permissions import Relation
from vitalgate.storage.records_database import Transaction
from vitalgate.storage.records_keys import indexes, unsealed
from vitalgate.storage.records_read import Query, Record, find
from vitalgate.storage.records_write import create, transition

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Person:
    """Somebody around a patient: the patient's user, or a clinician on the care team."""

    user_id: str
    clinician: str | None
    name: str
    role: str
    """patient, or what the clinician is to the patient."""


def relation(tx: Transaction, patient: str) -> Relation:
    """What the acting user, in this role, is to a patient."""
    row = tx.execute("SELECT relation_to(%s)", (patient,)).fetchone()
    assert row is not None
    return Relation(row[0])


def my_patients(tx: Transaction) -> list[str]:
    """Ids of the patients whose data the acting user may read."""
    row = tx.execute("SELECT seen('device_data', 'read', '')").fetchone()
    assert row is not None
    return sorted(row[0])


def people(tx: Transaction, patient: str) -> list[Person]:
    """The people around a patient; nobody when the user may not read the patient's care team."""
    rows = tx.execute("SELECT * FROM people(%s)", (patient,)).fetchall()
    kind = RECORDS["user"]
    found = []
    for user, clinician, sealed, name, role, _ in rows:
        said = unsealed(tx.keys, kind, "display_name", f"user/{user}/display_name", sealed)
        found.append(Person(user, clinician, str(said or name or user), role))
    return found


def find_patient(tx: Transaction, medical_record_number: str) -> str | None:
    """The id of the patient with this number, None when there is none. Whoever asks is on the audit trail.

    Raises NotAllowed for patients and device managers.
    """
    marks = indexes(tx.keys, RECORDS["patient_profile"], "medical_record_number", medical_record_number)
    row = tx.execute("SELECT find_patient(%s)", (marks,)).fetchone()
    assert row is not None
    found: str | None = row[0]
    return found


def break_glass(tx: Transaction, patient: str, reason: str, minutes: int = 60) -> Record:
    """Open the record of a patient whom one does not look after, for at most 24 hours.

    The care team, the administrators and the patient are told by the change (live queries, notifications), the audit
    trail keeps it, and the log warns of it.

    Raises
    ------
    NotAllowed
        For anybody but a clinician who is not on the care team.
    Invalid
        When the reason has less than 5 characters, or the time is too long.
    NotFound
        When there is no such patient.
    """
    given: dict[str, Any] = {
        "patient": patient, "reason": reason, "until": datetime.now(UTC) + timedelta(minutes=minutes),
    }  # fmt: skip
    try:
        made = create(tx, "break_glass", given)
    except Invalid as error:
        if ("patient", "does not exist") in error.fields:
            raise NotFound(f"no patient {patient!r}") from error
        raise
    log.warning("a record was opened by break-glass", extra={"patient": patient, "user": tx.who, "minutes": minutes})
    return made


def end_break_glass(tx: Transaction, patient: str) -> int:
    """Close what one has opened of this patient; how many openings that were."""
    page = find(tx, "break_glass", Query({"patient": patient, "status": "open", "user": tx.who}))
    for one in page.records:
        transition(tx, "break_glass", one.id, "end")
    return len(page.records)
