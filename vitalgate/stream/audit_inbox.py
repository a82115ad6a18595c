"""Events on their way to the audit chain: made with an id from their content, so that a repeat is seen as one."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from vitalgate.config import topics
from vitalgate.stream.headers import headers
from vitalgate.stream.worker import Context

_NAMESPACE = uuid.UUID("6f1f2b9e-3c55-5d1a-9d53-5b8f6d0c7e21")
_HOST = socket.gethostname()


@dataclass(frozen=True)
class AuditEvent:
    """What happened; never a measured value."""

    action: str
    entity_type: str
    entity_id: str
    identity: str
    """What makes this event one and the same when it is sent twice."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "success"
    trace: str = ""


async def send_audit(context: Context, event: AuditEvent) -> None:
    """Put an event on audit.inbox, in the name of this process; confirmed by the next `flush_batch`."""
    event_id = str(uuid.uuid5(_NAMESPACE, f"{event.action} {event.entity_type} {event.entity_id} {event.identity}"))
    name = context.name
    body = {
        "event_id": event_id,
        "who": f"service:{name}",
        "action": event.action,
        "entity_type": event.entity_type,
        "entity_id": event.entity_id,
        "when": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "where": f"{_HOST}/{name}-{context.slot}",
        "outcome": event.outcome,
        "detail": dict(event.detail),
    }
    await context.producer.produce(
        topics.AUDIT_INBOX,
        key=None,
        value=orjson.dumps(body),
        headers=headers(topics.AUDIT_INBOX, event.trace, uuid.UUID(event_id).hex),
    )
