"""One session of cardiac rehabilitation, planned and held."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from vitalgate.records.errors import Invalid
from vitalgate.records.fields import field
from vitalgate.records.record_type import Envelope, RecordType, Transition, Values


class SessionDetails(BaseModel):
    """How a session went; heart rates are of the ergometer or the ECG that was worn."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    mean_heart_rate: float | None = Field(None, ge=0, le=400, description="/min, over the session.")
    peak_heart_rate: float | None = Field(None, ge=0, le=400, description="/min, highest 10-s mean.")
    target_low: float | None = Field(None, ge=30, le=250, description="Lower end of the target zone, /min.")
    target_high: float | None = Field(None, ge=30, le=250, description="Upper end of the target zone, /min.")
    time_in_zone_s: float | None = Field(None, ge=0, description="Time in the target zone, s.")
    recovery_heart_rate: float | None = Field(
        None, ge=-100, le=200, description="Fall of the heart rate in the first minute after the end, /min."
    )
    mean_power: float | None = Field(None, ge=0, le=3000, description="W.")
    peak_power: float | None = Field(None, ge=0, le=5000, description="W.")
    energy_kcal: float | None = Field(None, ge=0, le=20000, description="As the ergometer counted it, kcal.")
    coverage: float | None = Field(None, ge=0, le=1, description="Share of the session with a heart rate.")
    devices: list[str] = Field(default_factory=list, description="Where the values come from.")
    note: str | None = Field(None, max_length=4000)


class CardiacRehabLog(Envelope):
    """One session."""

    provider: str | None = field("Clinician who leads it.", max_length=64)
    exercise_type: Literal["cycling", "treadmill", "walking", "rowing", "strength", "breathing", "other"] = field(
        "What is done.", required=True
    )
    duration: float | None = field("Minutes.", ge=0, le=1440)
    calories_burned: float | None = field("kcal.", ge=0, le=20000)
    date: AwareDatetime = field("When it begins.", required=True)
    session_details: SessionDetails | None = field("How it went.")
    effective_from: AwareDatetime | None = field("Since when this version is the one in force.", source="server")
    effective_to: AwareDatetime | None = field("Until when it was; null for the current one.", source="server")
    status: str = field("upcoming, completed or missed.", "upcoming", source="server")


def _held(after: Values, _before: Values) -> None:
    if not after.get("duration"):
        raise Invalid("a session that was held has a duration above 0 minutes", [("duration", "is missing")])


def _zone(after: Values, _before: Values) -> None:
    details = after.get("session_details") or {}
    low, high = details.get("targetLow"), details.get("targetHigh")
    if low is not None and high is not None and low >= high:
        raise Invalid(
            f"the target zone from {low:g} to {high:g} /min is empty", [("sessionDetails.targetHigh", "not above low")]
        )


_IN_FORCE = {"effective_from": "now"}
_CONTENT = ("provider", "exercise_type", "duration", "calories_burned", "date", "session_details")


def _both(after: Values, before: Values) -> None:
    _held(after, before)
    _zone(after, before)


CARDIAC_REHAB_LOG = RecordType(
    name="cardiac_rehab_log",
    title="CardiacRehabLog",
    path="cardiac-rehab-logs",
    meaning="A session of cardiac rehabilitation, filled from ergometer and ECG; corrections are versions.",
    model=CardiacRehabLog,
    relation="cardiac_rehab_logs",
    table="cardiac_rehab_logs",
    states=("upcoming", "completed", "missed"),
    sorts=("date", "created_at"),
    filters=("patient", "provider", "status", "date", "exercise_type"),
    transitions={
        one.verb: one
        for one in (
            Transition("create", "Plan a session.", to="upcoming", fields=("patient", *_CONTENT),
                       required=("patient", "exercise_type", "date"), stamps=_IN_FORCE, check=_zone),
            Transition("change", "Correct it; the version before stays.", ("upcoming", "completed", "missed"),
                       fields=_CONTENT, stamps=_IN_FORCE, check=_zone),
            Transition("complete", "It was held.", ("upcoming", "missed"), "completed", _CONTENT, stamps=_IN_FORCE,
                       check=_both),
            Transition("miss", "The patient did not come.", ("upcoming",), "missed", stamps=_IN_FORCE),
            Transition("withdraw", "It was entered in error.", ("upcoming", "completed", "missed"),
                       fields=("withdrawn_reason",), required=("withdrawn_reason",),
                       stamps={"withdrawn_at": "now", **_IN_FORCE}),
        )
    },
)  # fmt: skip
