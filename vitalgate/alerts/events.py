"""What goes out on patient.alerts: the model of an alert event, and the sentence in it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vitalgate.alerts.rule import Kind, Priority, Rule, number

#: Name space of alert ids (uuid5 of patient, rule and onset).
NAMESPACE = uuid.UUID("5a6b1f0e-5c86-5f0b-9a6e-0d5f3a0c7a11")
SCHEMA = "patient.alerts"
SCHEMA_VERSION = "1"

State = Literal["raised", "cleared", "retracted"]


class AlertEvent(BaseModel):
    """One step in the life of an alert; the latest of an open one is on patient.alerts.state too."""

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
    state: State = Field(description="raised; cleared: over; retracted: its cause was corrected away.")
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
    reason: str = Field("", description="Why it was retracted or raised anew, in a word.")
    replaces: str = Field("", description="Alert id that this one stands in for (its onset was corrected).")
    replaced_by: str = Field("", description="The other way round.")
    text: str = Field(description="A plain sentence.")


def alert_id(patient: str, rule: str, onset_us: int) -> str:
    """Identity of an alert."""
    return str(uuid.uuid5(NAMESPACE, f"{patient}|{rule}|{onset_us}"))


def event_id(alert: str, number_: int, state: str) -> str:
    """Identity of one event of an alert."""
    return str(uuid.uuid5(NAMESPACE, f"{alert}|{number_}|{state}"))


def when(us: int) -> datetime:
    """Microseconds since 1970 as a UTC time, exactly."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)


def sentence(rule: Rule, state: State, value: float, unit: str, limit: float | None, for_s: float, reason: str) -> str:
    """The event in words."""
    text = rule.text.format(
        value=number(value), unit=unit, limit=number(limit), minutes=number(for_s / 60), seconds=number(for_s)
    )
    if state == "cleared":
        return f"Over: {text}"
    if state == "retracted":
        return f"Taken back ({reason}): {text}"
    return text
