"""Records that others make: audit events, alerts, devices."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime

from vitalgate.records.fields import RecordModel, field
from vitalgate.records.record_type import RecordType


class AuditLog(RecordModel):
    """One thing that somebody did, reading included."""

    id: str = field("Identity of the event, the same in the chain.", "", source="server")
    patient: str | None = field("Whose record it is about, if one patient's.", source="server", column="patient_id")
    actor: str = field("User (user:ID), device or service that did it.", "", source="server")
    actor_name: str | None = field("The clinician's name, for the patient to read.", source="server")
    action: str = field("RECORD.VERB, such as ecg_report.read.", "", source="server")
    entity_type: str = field("What it was done to.", "", source="server")
    entity_id: str = field("Id of that.", "", source="server")
    summary: str = field("In words.", "", source="server")
    payload: dict[str, Any] = field("Counts and identities; never a value.", {}, also="metadata", source="server")
    outcome: str = field("success, refused or failed.", "success", source="server")
    created_at: AwareDatetime | None = field("When.", source="server")
    n: int | None = field("Number of its link in the hash chain; null until it is chained.", source="server")
    hash: str | None = field("The link's hash.", source="server")


AUDIT_LOG = RecordType(
    name="audit_log",
    title="AuditLog",
    path="audit-log",
    meaning="Who did and who read what; patients see who looked at their record. Backed by the hash-chained trail.",
    model=AuditLog,
    relation="audit_log",
    sorts=("created_at",),
    filters=("patient", "actor", "action", "entity_type", "entity_id", "outcome", "created_at"),
)


class Alert(RecordModel):
    """One alert, in its latest state."""

    id: str = field("Identity of the alert.", "", source="server", column="alert_id")
    patient: str = field("Whose it is.", "", source="server", column="patient_id")
    team: str = field("The team that is told.", "", source="server")
    rule: str = field("The rule that raised it.", "", source="server")
    title: str = field("In words.", "", source="server")
    priority: str = field("high, medium or low (IEC 60601-1-8).", "", source="server")
    status: str = field("raised, acknowledged, cleared, closed, retracted, …", "", source="server", column="state")
    onset: AwareDatetime | None = field("Since when its condition holds.", source="server")
    detected_at: AwareDatetime | None = field("When it was raised.", source="server")
    cleared_at: AwareDatetime | None = field("When its condition ended.", source="server")
    metric: str | None = field("What was measured.", source="server")
    value: float | None = field("The value that raised it.", source="server")
    unit: str | None = field("UCUM.", source="server")
    text: str | None = field("What it says.", source="server")


ALERT = RecordType(
    name="alert",
    title="Alert",
    path="alerts",
    meaning="Alerts in their latest state.",
    model=Alert,
    relation="patient_alerts",
    sorts=("onset",),
    filters=("patient", "team", "rule", "priority", "status", "onset"),
)


class Device(RecordModel):
    """A registered device and who has it now."""

    id: str = field("Identity of the device.", "", source="server", column="device_id")
    patient: str | None = field("Who has it now.", source="server", column="patient_id")
    kind: str = field("Kind of device.", "", source="server")
    status: str = field("active or revoked.", "", source="server", column="state")
    serial: str = field("Serial number.", "", source="server")
    firmware: str = field("Firmware version.", "", source="server")
    created_at: AwareDatetime | None = field("When it was registered.", source="server")


DEVICE = RecordType(
    name="device",
    title="Device",
    path="devices",
    meaning="Registered devices and who has them now.",
    model=Device,
    relation="patient_devices",
    sorts=("created_at", "id"),
    filters=("patient", "kind", "status"),
)
