"""What is to be done for a patient; one plan of a kind is active at a time, and may bring alert limits with it."""

from __future__ import annotations

from datetime import date
from typing import Any

from vitalgate.records.errors import Invalid
from vitalgate.records.fields import field
from vitalgate.records.record_type import Envelope, RecordType, Transition, Values


class TreatmentPlan(Envelope):
    """One plan."""

    kind: str = field("One of a kind is active at a time: medication, rehabilitation, monitoring, …", required=True,
                      pattern=r"^[a-z][a-z0-9-]{0,39}$")  # fmt: skip
    summary: str = field("In a sentence.", required=True, min_length=1, max_length=500)
    details: dict[str, Any] | str | None = field("In full.")
    start_date: date | None = field("First day; the day it is activated when left out.")
    end_date: date | None = field("Last day; null is until further notice.")
    alert_overrides: dict[str, Any] = field(
        "Alert limits while it is active, in its days: by rule id, as a patient's own, each with a reason.", {}
    )
    status: str = field("draft, active, suspended, completed or cancelled.", "draft", source="server")


def _sound(after: Values, _before: Values) -> None:
    start, end = after.get("start_date"), after.get("end_date")
    if start is not None and end is not None and end < start:
        raise Invalid(f"the plan ends on {end}, before its start {start}", [("endDate", "lies before startDate")])
    if reserved := sorted(name for name in after.get("alert_overrides") or {} if name.startswith("_")):
        raise Invalid(
            f"alertOverrides holds {reserved[0]!r}, which is no rule id; `vitalgate rules list` shows them",
            [("alertOverrides", "names what is no rule")],
        )


_CONTENT = ("summary", "details", "start_date", "end_date", "alert_overrides")

TREATMENT_PLAN = RecordType(
    name="treatment_plan",
    title="TreatmentPlan",
    path="treatment-plans",
    meaning="What is to be done; one of a kind is active at a time. May set alert limits while it is active.",
    model=TreatmentPlan,
    relation="treatment_plans",
    table="treatment_plans",
    states=("draft", "active", "suspended", "completed", "cancelled"),
    sorts=("created_at", "start_date", "changed_at"),
    filters=("patient", "status", "kind", "start_date", "end_date", "created_by"),
    transitions={
        one.verb: one
        for one in (
            Transition("create", "Begin a plan.", to="draft", fields=("patient", "kind", *_CONTENT),
                       required=("patient", "kind", "summary"), check=_sound),
            Transition("change", "Write on.", ("draft", "active", "suspended"), fields=_CONTENT, check=_sound),
            Transition("activate", "It is in force.", ("draft", "suspended"), "active", stamps={"start_date": "today"},
                       check=_sound),
            Transition("suspend", "For now it is not.", ("active",), "suspended"),
            Transition("complete", "It has been carried out.", ("active", "suspended"), "completed",
                       stamps={"end_date": "today"}),
            Transition("cancel", "It is given up.", ("draft", "active", "suspended"), "cancelled",
                       ("withdrawn_reason",), ("withdrawn_reason",), {"withdrawn_at": "now"}),
        )
    },
)  # fmt: skip
