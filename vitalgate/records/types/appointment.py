"""A meeting of a patient and a clinician; neither can be in two at once."""

from __future__ import annotations

from datetime import timedelta

from pydantic import AwareDatetime

from vitalgate.records.errors import Invalid
from vitalgate.records.fields import field
from vitalgate.records.record_type import Envelope, RecordType, Transition, Values

LONGEST = timedelta(hours=24)


class Appointment(Envelope):
    """One appointment."""

    provider: str = field("The clinician.", required=True, max_length=64)
    start_at: AwareDatetime = field("Beginning.", required=True)
    end_at: AwareDatetime = field("End.", required=True)
    location: str | None = field("Where, or how: a room, a video link.", max_length=500)
    reason: str | None = field("What for.", max_length=1000)
    cancelled_reason: str | None = field("Why it was cancelled.", max_length=500, source="server")
    sequence: int = field("How often it was moved: SEQUENCE of the iCalendar file.", 0, source="server")
    status: str = field("requested, booked, completed, missed or cancelled.", "booked", source="server")


def _lasts(after: Values, _before: Values) -> None:
    start, end = after["start_at"], after["end_at"]
    if not start < end <= start + LONGEST:
        raise Invalid(
            f"an appointment from {start.isoformat()} to {end.isoformat()} does not last between 0 and 24 hours",
            [("endAt", "is not within 24 hours after startAt")],
        )


_WHEN = ("start_at", "end_at")
_REST = ("location", "reason")

APPOINTMENT = RecordType(
    name="appointment",
    title="Appointment",
    path="appointments",
    meaning="A meeting of a patient and a clinician; neither can be in two at once.",
    model=Appointment,
    relation="appointments",
    table="appointments",
    states=("requested", "booked", "completed", "missed", "cancelled"),
    sorts=("start_at", "created_at"),
    filters=("patient", "provider", "status", "start_at", "end_at"),
    transitions={
        one.verb: one
        for one in (
            Transition("create", "Book it.", to="booked", fields=("patient", "provider", *_WHEN, *_REST),
                       required=("patient", "provider", *_WHEN), check=_lasts),
            Transition("request", "Ask for it; a clinician confirms.", to="requested",
                       fields=("patient", "provider", *_WHEN, *_REST), required=("patient", "provider", *_WHEN),
                       check=_lasts),
            Transition("confirm", "Book what was asked for.", ("requested",), "booked", (*_WHEN, "location"),
                       check=_lasts),
            Transition("change", "Place and reason.", ("requested", "booked"), fields=_REST),
            Transition("reschedule", "Move it to another time.", ("requested", "booked"), None, (*_WHEN, "location"),
                       _WHEN, stamps={"sequence": "next"}, check=_lasts),
            Transition("cancel", "It will not take place.", ("requested", "booked"), "cancelled",
                       ("cancelled_reason",), stamps={"sequence": "next"}),
            Transition("complete", "It took place.", ("booked",), "completed"),
            Transition("miss", "The patient did not come.", ("booked",), "missed"),
        )
    },
)  # fmt: skip
