"""What goes out on patient.alerts: the model of an alert event, and the sentence in it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vitalgate.alerts.patient import Happened
from vitalgate.alerts.rule import Kind, Priority, Rule, number

#: Name space of alert ids (uuid5 of patient, rule and onset).
NAMESPACE = uuid.UUID("5a6b1f0e-5c86-5f0b-9a6e-0d5f3a0c7a11")
SCHEMA = "patient.alerts"
SCHEMA_VERSION = "1"

State = Literal["raised", "acknowledged", "escalated", "cleared", "closed", "retracted"]


class Strip(BaseModel):
    """A stretch of ECG that shows what the alert is about."""

    model_config = ConfigDict(frozen=True)

    device_id: str = Field(description="Device that recorded it.")
    channel: str = Field(description="Channel, such as ecg.II.")
    recording: str = Field(description="Recording of that device.")
    rate: str = Field(description="Sampling rate in Hz, a rational number.")
    first_sample: int = Field(description="First sample of the strip in its recording.")
    stop_sample: int = Field(description="The sample after its last.")
    unit: str = Field("", description="UCUM unit of a sample once it is physical.")
    gain: float | None = Field(None, description="Physical value: (sample - offset) / gain.")
    offset: float | None = Field(None, description="Raw value of physical zero.")
    samples: list[int | None] | None = Field(
        None, description="The raw samples, null where one is missing; absent when they were not at hand."
    )


class AlertEvent(BaseModel):
    """One step in the life of an alert; the latest of one that is not closed is on patient.alerts.state too."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"title": "patient.alerts"})

    event_id: str = Field(description="The same for every repeat of this event: drop what you have seen.")
    alert_id: str = Field(description="uuid5 of patient, rule and onset: the same however often it is worked out.")
    number: int = Field(ge=1, description="1 for the first event of this alert, rising by one.")
    patient: str = Field(description="Opaque patient id.")
    team: str = Field(description="Care team that it goes to.")
    rule: str = Field(description="Rule id.")
    rule_version: int = Field(description="Version of the rule file.")
    title: str = Field(description="Short title of the rule.")
    kind: Kind = Field(description="physiological, or technical (the equipment).")
    priority: Priority = Field(description="IEC 60601-1-8 priority.")
    state: State = Field(
        description="raised; acknowledged; escalated; cleared: the cause is over; closed: nothing more is waited for;"
        " retracted: its cause was corrected away."
    )
    onset: datetime = Field(description="Event time at which the cause began.")
    detected_at: datetime = Field(description="When this event was worked out.")
    cleared_at: datetime | None = Field(None, description="Event time at which it was over.")
    value: float | None = Field(None, description="Value that fulfilled the rule, canonical unit.")
    unit: str = Field("", description="UCUM unit of value and limit.")
    limit: float | None = Field(None, description="The limit in force for this patient.")
    metric: str = Field(description="Metric or feature that it is about.")
    device_id: str = Field("", description="Device that the detecting value came from.")
    evidence: list[str] = Field(default_factory=list, description="Message ids of the first and the detecting value.")
    received_at: datetime | None = Field(None, description="Arrival of the item that led to this event.")
    hindsight: bool = Field(False, description="Told late: already over, or more than five minutes old, when detected.")
    reason: str = Field("", description="Why it was retracted, raised anew, silenced or escalated, in a few words.")
    replaces: str = Field("", description="Alert id that this one stands in for (its onset was corrected).")
    replaced_by: str = Field("", description="The other way round.")
    text: str = Field(description="A plain sentence.")
    happened: Happened = Field("raised", description="What this event tells; `state` is how the alert stands after it.")
    closed: bool = Field(False, description="True: nothing more is waited for, and the current state is removed.")
    notify: bool = Field(
        False, description="True: people are to be told now. False while silenced or suppressed, and of small steps."
    )
    recipients: list[str] = Field([], description="Who is to be told, by the team's roster; empty: the whole team.")
    escalation_level: int = Field(0, description="Steps of the escalation taken so far.")
    acknowledged_by: str = Field("", description="Who has acknowledged it, or ''.")
    acknowledged_at: datetime | None = Field(None, description="When that was.")
    silenced_until: datetime | None = Field(None, description="No sound before this time.")
    silenced_by: str = Field("", description="Who has silenced it, or `quiet hours`.")
    silence_reason: str = Field("", description="Why.")
    suppressed_by: str = Field("", description="Alert rule that says it already; '' when none does.")
    latched: bool = Field(False, description="True: it stays until it is acknowledged.")
    count: int = Field(1, ge=1, description="How often the cause came; more than 1 when it came again.")
    comments: int = Field(0, description="Comments so far.")
    who: str = Field("", description="Who took this step, when a person did.")
    comment: str = Field("", description="What they wrote.")
    age_s: float | None = Field(None, description="Age of the newest value behind it by now, seconds.")
    note: str = Field("", description="What else must be known, such as which inputs a score lacks.")
    strip: Strip | None = Field(None, description="Ten seconds of ECG, where there is one.")


def alert_id(patient: str, rule: str, onset_us: int) -> str:
    """Identity of an alert."""
    return str(uuid.uuid5(NAMESPACE, f"{patient}|{rule}|{onset_us}"))


def event_id(alert: str, number_: int, happened: str) -> str:
    """Identity of one event of an alert."""
    return str(uuid.uuid5(NAMESPACE, f"{alert}|{number_}|{happened}"))


def when(us: int) -> datetime:
    """Microseconds since 1970 as a UTC time, exactly."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)


def sentence(rule: Rule, filled: dict[str, object], happened: Happened, reason: str, who: str) -> str:
    """The event in words.

    Parameters
    ----------
    filled
        What the rule's text names: value, unit, limit, for_s, code, note, share; numbers as numbers.
    """
    for_s = float(str(filled["for_s"]))
    text = rule.text.format(
        value=number(_float(filled["value"])), unit=filled["unit"], limit=number(_float(filled["limit"])),
        minutes=number(for_s / 60), seconds=number(for_s), code=filled["code"], note=filled["note"],
        share=number(_float(filled["share"])),
    )  # fmt: skip
    before = {
        "cleared": "Over: ", "retracted": f"Taken back ({reason}): ", "closed": "Closed: ", "again": "Again: ",
        "acknowledged": f"Acknowledged by {who}: ", "escalated": f"Escalated ({reason}): ",
        "silenced": f"Silenced ({reason}): ", "unsilenced": "Silence over: ", "commented": f"Comment by {who}: ",
        "suppressed": f"Part of {reason}: ", "released": "Still there: ",
    }  # fmt: skip
    return before.get(happened, "") + text


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
