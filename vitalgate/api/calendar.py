"""An appointment as an iCalendar file (RFC 5545). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from icalendar import Calendar, Event

_STATUS = {"booked": "CONFIRMED", "completed": "CONFIRMED", "cancelled": "CANCELLED", "missed": "CANCELLED"}
MEDIA_TYPE = "text/calendar; charset=utf-8"


def calendar(appointment: Mapping[str, Any], stamp: datetime) -> bytes:
    """The file of one appointment.

    The reason stays out of it: a calendar is copied to where records are not. Moved or cancelled appointments keep
    their UID and count up SEQUENCE, so that a calendar replaces the event that it has.
    """
    made = Calendar()
    made.add("prodid", "-//Vitalgate//Appointments//EN")
    made.add("version", "2.0")
    made.add("method", "CANCEL" if appointment["status"] == "cancelled" else "PUBLISH")
    event = Event()
    event.add("uid", f"{appointment['id']}@vitalgate")
    event.add("dtstamp", stamp)
    event.add("dtstart", appointment["start_at"])
    event.add("dtend", appointment["end_at"])
    event.add("summary", "Appointment")
    if appointment.get("location"):
        event.add("location", appointment["location"])
    event.add("status", _STATUS.get(str(appointment["status"]), "TENTATIVE"))
    event.add("sequence", int(appointment.get("sequence") or 0))
    made.add_component(event)
    found: bytes = made.to_ical()
    return found
