"""Made-up people around the API: two patients, a clinician of one of them, a stranger, an administrator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from vitalgate.storage import records_accounts, records_write
from vitalgate.storage.records_database import RecordsDatabase
from vitalgate.storage.registry_clinicians import CareRegistry

PASSWORD = "wheel-otter-lantern-42"


@dataclass
class Person:
    """Somebody with an account."""

    name: str
    email: str
    role: str
    user: str = ""
    patient: str = ""
    clinician: str = ""
    tokens: dict[str, Any] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """Log-in of a request."""
        return {"authorization": f"Bearer {self.tokens['accessToken']}"}


def sign_up(database: RecordsDatabase, name: str, role: str, *, patient: str = "", clinician: str = "") -> Person:
    """An account that is active."""
    email = f"{name}@example.org"
    with database.service("service:test") as tx:
        token = records_accounts.invite(tx, email, role, patient=patient or None, clinician=clinician or None)
    made = records_accounts.sign_up(database, email, PASSWORD, f"Name of {name}", role, invitation=token)
    return Person(name, email, role, made.user_id, patient, clinician)


def log_in(client: httpx.Client, person: Person) -> None:
    """Get tokens over HTTP."""
    answer = client.post("/v1/auth/log-in", json={"email": person.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    person.tokens = answer.json()


def populate(database: RecordsDatabase, settings: Any, prefix: str = "") -> dict[str, Person]:
    """Patients anna and bert; carla looks after anna, dora after nobody; ada administers, mick manages devices."""
    with CareRegistry(settings.database, who="user:test") as registry:
        for name in ("anna", "bert"):
            registry.add_patient(f"{prefix}p-{name}", "Europe/Berlin", f"{prefix}team-{name}")
        for name in ("carla", "dora"):
            registry.add_clinician(f"{prefix}c-{name}", name.title(), "", [])
    people = {
        "anna": sign_up(database, f"{prefix}anna", "patient", patient=f"{prefix}p-anna"),
        "bert": sign_up(database, f"{prefix}bert", "patient", patient=f"{prefix}p-bert"),
        "carla": sign_up(database, f"{prefix}carla", "clinician", clinician=f"{prefix}c-carla"),
        "dora": sign_up(database, f"{prefix}dora", "clinician", clinician=f"{prefix}c-dora"),
        "ada": sign_up(database, f"{prefix}ada", "administrator"),
        "mick": sign_up(database, f"{prefix}mick", "device_manager"),
    }
    with database.service("service:test") as tx:
        records_write.create(
            tx, "care_team", {"patient": f"{prefix}p-anna", "clinician": f"{prefix}c-carla", "role": "attending"}
        )
        for name in ("anna", "bert"):
            records_write.create(tx, "patient_profile", {
                "patient": f"{prefix}p-{name}", "medicalRecordNumber": f"{prefix}MRN-{name}",
                "displayName": name.title(), "dateOfBirth": "1960-02-03",
            })  # fmt: skip
    return people


def end_care(database: RecordsDatabase, person: Person, patient: str) -> None:
    """From now on a clinician is not on the patient's care team."""
    with database.service("service:test") as tx:
        row = tx.connection.execute(
            "SELECT id FROM care_team WHERE patient_id = %s AND clinician_id = %s AND status = 'active'",
            (patient, person.clinician),
        ).fetchone()
        assert row is not None
        records_write.transition(tx, "care_team", row[0], "end")


def begin_care(database: RecordsDatabase, person: Person, patient: str) -> None:
    """From now on a clinician is on it."""
    with database.service("service:test") as tx:
        records_write.create(tx, "care_team", {"patient": patient, "clinician": person.clinician, "role": "member"})


__all__ = ["PASSWORD", "Person", "begin_care", "end_care", "log_in", "populate", "sign_up"]
