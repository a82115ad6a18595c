"""Events on their way to the audit chain: made with an id from their content, so that a repeat is seen as one."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from confluent_kafka import Producer

from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import full
from vitalgate.storage.registry_user import user
from vitalgate.stream.errors import NotDeliveredError
from vitalgate.stream.headers import headers
from vitalgate.stream.producer import configuration
from vitalgate.stream.worker import Context

_NAMESPACE = uuid.UUID("6f1f2b9e-3c55-5d1a-9d53-5b8f6d0c7e21")
_HOST = socket.gethostname()


@dataclass(frozen=True)
class AuditEvent:
    """What happened; never a measured value."""

    action: str
    """Such as batch.recorded."""
    entity_type: str
    entity_id: str
    identity: str
    """What makes this event one and the same when it is sent twice."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "success"
    """success, refused or failed."""
    trace: str = ""


async def send_audit(context: Context, event: AuditEvent) -> None:
    """Put an event on audit.inbox, in the name of this process; confirmed by the next `flush_batch`."""
    name = context.name
    event_id, value = _body(event, f"service:{name}", f"{_HOST}/{name}-{context.slot}")
    await context.producer.produce(
        topics.AUDIT_INBOX, key=None, value=value, headers=headers(topics.AUDIT_INBOX, event.trace, event_id.hex)
    )


def tell_audit(kafka: KafkaSettings, event: AuditEvent, command: str, timeout_s: float = 3.0) -> None:
    """Put one event on audit.inbox in the name of whoever runs a command, and wait until Kafka has it.

    Raises
    ------
    NotDeliveredError
        When Kafka does not take it in time: then what is to be audited should not go on.
    """
    event_id, value = _body(event, user(), f"{_HOST}/{command}")
    failed: list[str] = []
    producer = Producer(
        configuration(kafka, "vitalgate-command")
        | {"message.timeout.ms": round(timeout_s * 1000), "log_level": 0, "error_cb": lambda _: None}
    )
    producer.produce(
        full(topics.AUDIT_INBOX, kafka), value,
        headers=dict(headers(topics.AUDIT_INBOX, event.trace, event_id.hex)),
        on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
    )  # fmt: skip
    if producer.flush(timeout_s + 1) or failed:
        raise NotDeliveredError(
            f"the audit event could not be written to Kafka at {kafka.bootstrap} ({''.join(failed) or 'no answer'})"
        )


def _body(event: AuditEvent, who: str, where: str) -> tuple[uuid.UUID, bytes]:
    event_id = uuid.uuid5(_NAMESPACE, f"{event.action} {event.entity_type} {event.entity_id} {event.identity}")
    body = audit_body(
        str(event_id), who, event.action, (event.entity_type, event.entity_id), datetime.now(UTC), where, event.detail,
        event.outcome,
    )  # fmt: skip
    return event_id, body


def audit_body(
    event_id: str,
    who: str,
    action: str,
    entity: tuple[str, str],
    when: datetime,
    where: str,
    detail: Mapping[str, Any],
    outcome: str = "success",
) -> bytes:
    """The bytes of an event on audit.inbox; `entity` is its type and id, `when` in UTC."""
    entity_type, entity_id = entity
    body = {
        "event_id": event_id,
        "who": who,
        "action": action,
        "entity_type": entity_type,
        "entity_id": entity_id,
        "when": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "where": where,
        "outcome": outcome,
        "detail": dict(detail),
    }
    return orjson.dumps(body)
