"""Who a patient is. Identity fields are sealed; the patient's id elsewhere is opaque."""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from vitalgate.records.errors import Invalid
from vitalgate.records.fields import field
from vitalgate.records.record_type import Envelope, RecordType, Transition, Values


class Contact(BaseModel):
    """How to reach somebody."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    email: str | None = Field(None, max_length=320)
    phone: str | None = Field(None, max_length=40)
    address: str | None = Field(None, max_length=500)
    emergency_name: str | None = Field(None, max_length=200)
    emergency_phone: str | None = Field(None, max_length=40)


class PatientProfile(Envelope):
    """A patient's profile; its id is the patient's id."""

    user: str | None = field(
        "The patient's user account, once there is one.", source="server", column="=user_of(patient_id)"
    )
    medical_record_number: str = field(
        "Unique in the organisation.", required=True, sealed=True, min_length=1, max_length=64
    )
    display_name: str = field("Full name.", also="fullName", required=True, sealed=True, min_length=1, max_length=200)
    date_of_birth: date = field("Date of birth.", also="dob", required=True, sealed=True)
    contact: Contact | None = field("How to reach the patient.", sealed=True)
    primary_clinic: str | None = field("The clinic that looks after the patient.", max_length=200)
    time_zone: str = field(
        "IANA time zone that decides the patient's day and quiet hours; left out at first, the one registered, or UTC.",
        "UTC", max_length=64,
    )  # fmt: skip
    preferences: dict[str, Any] = field("The patient's own settings of their applications.", {})
    is_active: bool = field(
        "Whether the patient is looked after now.", True, source="server", column="=status = 'active'"
    )
    status: str = field("active or inactive.", "active", source="server")


def _sound(after: Values, _before: Values) -> None:
    born = after.get("date_of_birth")
    if isinstance(born, date) and born.year < 1880:
        raise Invalid(f"dateOfBirth {born} lies before 1880", [("dateOfBirth", "lies before 1880")])
    zone = after.get("time_zone")
    try:
        ZoneInfo(str(zone))
    except (KeyError, ValueError, OSError) as error:
        raise Invalid(
            f"timeZone {zone!r} is no IANA time zone such as Europe/Berlin", [("timeZone", "is no IANA time zone")]
        ) from error


_IDENTITY = ("medical_record_number", "display_name", "date_of_birth")
_REST = ("contact", "primary_clinic", "time_zone", "preferences")

PATIENT_PROFILE = RecordType(
    name="patient_profile",
    title="PatientProfile",
    path="patients",
    meaning="Who a patient is: identity (sealed), contact, clinic, preferences, time zone.",
    model=PatientProfile,
    relation="patient_profiles",
    table="patient_profiles",
    states=("active", "inactive"),
    sorts=("created_at", "id"),
    filters=("primary_clinic", "status", "id"),
    indexed=("medical_record_number", "display_name", "date_of_birth"),
    transitions={
        one.verb: one
        for one in (
            Transition(
                "create", "Give a patient a profile; a patient that does not exist yet is registered by it.",
                to="active", fields=("patient", *_IDENTITY, *_REST), required=("patient", *_IDENTITY), check=_sound,
            ),
            Transition(
                "change", "Contact, clinic, preferences, time zone.", ("active", "inactive"), fields=_REST, check=_sound
            ),
            Transition(
                "identify", "Correct what identifies the patient.", ("active", "inactive"), fields=_IDENTITY,
                check=_sound,
            ),
            Transition("deactivate", "The patient is not looked after any more.", ("active",), "inactive"),
            Transition("activate", "The patient is looked after again.", ("inactive",), "active"),
        )
    },
)  # fmt: skip
