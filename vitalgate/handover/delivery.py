"""What is told of a delivery on alert.deliveries: the model of a record, and the ids in it. No clinical value."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vitalgate.alerts.rule import Priority
from vitalgate.handover.destinations import Kind

NAMESPACE = uuid.UUID("0d4b52f7-5f0e-5a0c-8f3e-2b9f7f1c6a35")

Step = Literal["waiting", "retrying", "late", "delivered", "failed", "withdrawn", "settled"]


class AlertDelivery(BaseModel):
    """One step in the handing over of one notification to one destination."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"title": "alert.deliveries"})

    delivery_id: str = Field(
        description="The idempotency key that the receiver gets; uuid5 of destination and first alert event."
    )
    number: int = Field(ge=1, description="1 for the first record of this delivery, rising by one.")
    patient: str = Field(description="Opaque patient id.")
    team: str = Field(description="Care team.")
    destination: str = Field(description="Name of the destination.")
    kind: Kind = Field(description="How it is reached.")
    clinician: str = Field("", description="Whose it is; '' for a team's.")
    priority: Priority = Field(description="Of the most pressing alert in it.")
    state: Step = Field(
        description="waiting: decided on, goes out at `due`; retrying: an attempt failed, the next is at `due`;"
        " late: of high priority, and not delivered within handover.deadline_s; delivered: the receiver has taken it;"
        " failed: given up; withdrawn: nobody needs it any more; settled: a failure that is over without a delivery."
    )
    at: datetime = Field(description="When this step was.")
    created_at: datetime = Field(description="When the notification was decided on.")
    due: datetime | None = Field(None, description="When the next attempt is due.")
    attempts: int = Field(0, ge=0, description="Attempts begun so far.")
    count: int = Field(1, ge=1, description="How many alarms it stands for.")
    alert_ids: list[str] = Field([], description="Which alerts, the newest 100.")
    event_id: str = Field(description="The most pressing event in it, on patient.alerts.")
    error: str = Field("", description="Why the last attempt failed, or why it was withdrawn; never what was told.")
    undelivered: int | None = Field(
        None, description="How many high-priority notifications of this patient are late or lost by now, when changed."
    )


def delivery_id(destination: str, event_id: str) -> str:
    """Identity of a notification to a destination: the same after every restart."""
    return str(uuid.uuid5(NAMESPACE, f"{destination}|{event_id}"))


def record_id(delivery: str, number: int) -> str:
    """Content identity of a record, 32 hex digits."""
    return uuid.uuid5(NAMESPACE, f"{delivery}|{number}").hex
