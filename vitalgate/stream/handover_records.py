"""Deliveries as records of alert.deliveries, for the alert engine, and for the audit trail. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from vitalgate.handover.delivery import AlertDelivery, record_id
from vitalgate.stream.audit_inbox import AuditEvent

#: How many high-priority notifications of a patient are late or lost, for the alert engine: rule handover-failed.
FEATURE = "handover.undelivered"
_AUDITED = frozenset({"late", "delivered", "failed", "withdrawn", "settled"})


def value(record: AlertDelivery) -> bytes:
    """The record's JSON."""
    return orjson.dumps(record.model_dump(), option=orjson.OPT_UTC_Z)


def message_id(record: AlertDelivery) -> str:
    """Content identity: the same for a repeat."""
    return record_id(record.delivery_id, record.number)


def audit_event(record: AlertDelivery) -> AuditEvent | None:
    """What the audit trail keeps: who was told where, or not; nothing of what was said. None for small steps."""
    if record.state not in _AUDITED:
        return None
    return AuditEvent(
        action=f"handover.{record.state}",
        entity_type="delivery",
        entity_id=record.delivery_id,
        identity=str(record.number),
        detail={
            "patient": record.patient, "team": record.team, "destination": record.destination, "kind": record.kind,
            "clinician": record.clinician, "priority": record.priority, "alerts": record.alert_ids,
            "count": record.count, "attempts": record.attempts, "error": record.error,
        },
        outcome="failed" if record.state in ("late", "failed") else "success",
    )  # fmt: skip


def undelivered(document: Mapping[str, Any], at_us: int) -> dict[str, Any] | None:
    """A record of alert.deliveries as the feature that rule handover-failed looks at; None when nothing changed."""
    count = document.get("undelivered")
    if count is None:
        return None
    return {
        "patient": document["patient"], "device_id": "", "recording": "", "channel": "", "name": FEATURE,
        "algorithm": "handover", "window": {"first_sample": at_us, "stop_sample": at_us}, "revision": 1,
        "value": count, "unit": "{count}", "withdrawn": False,
    }  # fmt: skip
