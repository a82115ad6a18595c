"""Alert events as records of patient.alerts, patient.alerts.state and the audit trail. Pure."""

from __future__ import annotations

import orjson

from vitalgate.alerts.events import AlertEvent
from vitalgate.stream.audit_inbox import AuditEvent
from vitalgate.stream.headers import content_id


def message_id(event: AlertEvent) -> str:
    """Content identity: the same for a repeat of the event."""
    return event.event_id.replace("-", "")


def memory_id(patient: str, packed: bytes) -> str:
    """Content identity of a memory record."""
    return content_id("alerting.memory", patient, packed)


def event_value(event: AlertEvent) -> bytes:
    """The record's JSON."""
    return orjson.dumps(event.model_dump(), option=orjson.OPT_UTC_Z)


def state_key(event: AlertEvent) -> str:
    """Key on patient.alerts.state."""
    return f"{event.patient}|{event.alert_id}"


def state_value(event: AlertEvent) -> bytes | None:
    """The event while the alert is open, a tombstone when it is not."""
    return event_value(event) if event.state == "raised" else None


def audit_event(event: AlertEvent) -> AuditEvent:
    """What the audit trail keeps: that it was told, to whom, by which rule; no measured value."""
    return AuditEvent(
        action=f"alert.{event.state}",
        entity_type="alert",
        entity_id=event.alert_id,
        identity=event.event_id,
        detail={
            "patient": event.patient, "team": event.team, "rule": event.rule, "rule_version": event.rule_version,
            "priority": event.priority, "onset": event.onset.isoformat(), "number": event.number,
            "hindsight": event.hindsight, "reason": event.reason,
        },
    )  # fmt: skip
