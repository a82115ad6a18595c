"""Alert events as they stand on patient.alerts."""

from __future__ import annotations

import time
import uuid
from typing import Any

from vitalgate.alerts.events import AlertEvent, when
from vitalgate.stream.alerting_records import event_value

S = 1_000_000


def us() -> int:
    return time.time_ns() // 1000


def event(alert: str = "a", number: int = 1, priority: str = "high", at: int | None = None, **more: Any) -> AlertEvent:
    """An event that people are to be told of, as long as nothing else is said."""
    moment = when(us() if at is None else at)
    name = str(uuid.uuid5(uuid.NAMESPACE_OID, alert))
    fields: dict[str, Any] = {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{alert}|{number}")), "alert_id": name, "number": number,
        "patient": "p1", "team": "care", "rule": "spo2-critical", "rule_version": 1, "title": "Very low SpO2",
        "kind": "physiological", "priority": priority, "state": "raised", "happened": "raised", "notify": True,
        "onset": moment, "detected_at": moment, "value": 81.5, "unit": "%", "limit": 83.0, "metric": "spo2",
        "text": "SpO2 is 81.5 %.",
    }  # fmt: skip
    return AlertEvent.model_validate(fields | more)


def document(*args: Any, **more: Any) -> dict[str, Any]:
    """The same, as read from the topic."""
    import orjson

    found: dict[str, Any] = orjson.loads(event_value(event(*args, **more)))
    return found


def acknowledged(alert: str, number: int = 2, **more: Any) -> AlertEvent:
    return event(
        alert, number, state="acknowledged", happened="acknowledged", notify=False, acknowledged_by="anna", **more
    )


def cleared(alert: str, number: int = 2, **more: Any) -> AlertEvent:
    return event(alert, number, state="cleared", happened="cleared", notify=False, closed=True, **more)
