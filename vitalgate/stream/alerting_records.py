"""Alert events as records of patient.alerts, patient.alerts.state and the audit trail. Pure."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from pydantic import ValidationError

from vitalgate.alerts.commands import Command, Reply
from vitalgate.alerts.engine import Engine
from vitalgate.alerts.events import AlertEvent
from vitalgate.stream.audit_inbox import AuditEvent
from vitalgate.stream.headers import content_id
from vitalgate.stream.worker import Record

log = logging.getLogger(__name__)


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


def audit_event(event: AlertEvent) -> AuditEvent:
    """What the audit trail keeps: that it was told, to whom, by which rule; no measured value."""
    return AuditEvent(
        action=f"alert.{event.happened}",
        entity_type="alert",
        entity_id=event.alert_id,
        identity=event.event_id,
        detail={
            "patient": event.patient, "team": event.team, "rule": event.rule, "rule_version": event.rule_version,
            "priority": event.priority, "onset": event.onset.isoformat(), "number": event.number,
            "hindsight": event.hindsight, "reason": event.reason, "by": event.who,
            "escalation_level": event.escalation_level, "recipients": event.recipients,
        },
    )  # fmt: skip


def obeyed(engine: Engine, record: Record, now: int) -> tuple[list[AlertEvent], Reply | None]:
    """What a record of alerting.commands does, and the answer; None when it does not even say who asks."""
    document: Any = None
    try:
        document = orjson.loads(record.value or b"")
        command = Command.model_validate(document)
        key = (record.key or b"").decode("utf-8", "replace")
        if key != command.patient:
            raise ValueError(
                f"the record's key is {key!r} and the command's patient {command.patient!r}; they must agree"
            )
    except ValueError as error:
        text = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        log.error("a command cannot be read and is refused", extra={"offset": record.offset, "error": text})
        return [], _refused(document, text)
    return engine.command(command, now)


def _refused(document: Any, why: str) -> Reply | None:
    if not isinstance(document, dict) or not isinstance(document.get("command_id"), str):
        return None
    said = {name: str(document.get(name, "")) for name in ("command_id", "alert_id", "patient", "who", "action")}
    return Reply(**said, team="", outcome="refused", detail=f"the command cannot be read: {why}")


def reply_value(reply: Reply) -> bytes:
    """The record's JSON."""
    return orjson.dumps(reply.model_dump())


def reply_id(reply: Reply) -> str:
    """Content identity: the same for a repeat of the answer."""
    return content_id("alerting.replies", reply.command_id, reply.outcome, reply.number)


def refusal(reply: Reply) -> AuditEvent:
    """The audit trail keeps what was asked in vain, too."""
    return AuditEvent(
        action=f"alert.{reply.action or 'command'}",
        entity_type="alert",
        entity_id=reply.alert_id,
        identity=reply.command_id,
        detail={"patient": reply.patient, "by": reply.who, "detail": reply.detail},
        outcome="refused",
    )
