"""What the records wrote for Kafka: audit events to audit.inbox, readings that were typed in to device.raw.

Both wait in tables, written in the transaction of what they tell, and are marked when Kafka has them. Killed in
between, the same is sent again: an audit event has its id, a message its number, by which a repeat is known as one.
"""

from __future__ import annotations

from typing import Final

from vitalgate.config import topics
from vitalgate.config.topics import device_topic
from vitalgate.gateway.confirmed import ConfirmedProducer, Record
from vitalgate.storage import records_audit, records_manual
from vitalgate.storage.connect import Connection
from vitalgate.storage.errors import transient
from vitalgate.stream.audit_inbox import audit_body
from vitalgate.stream.headers import content_id

BATCH: Final = 500
GATEWAY: Final = "records"
"""In the header `gateway` of what was typed in."""


def relay(connection: Connection, producer: ConfirmedProducer) -> int:
    """Send what waits; how many records. False starts cost a query each.

    Raises
    ------
    NotDelivered
        When Kafka does not acknowledge; nothing is marked then.
    TransientDatabaseError
        When the database is away.
    """
    with transient():
        events = records_audit.waiting(connection, BATCH)
        if events:
            producer.send([_audit(event) for event in events])
            records_audit.mark_sent(connection, [event.n for event in events])
        typed = records_manual.waiting(connection, BATCH)
        if typed:
            producer.send([_raw(message) for message in typed])
            records_manual.mark_sent(connection, [message.n for message in typed])
    return len(events) + len(typed)


def _audit(event: records_audit.Waiting) -> Record:
    body = audit_body(
        event.event_id, event.who, event.action, (event.entity_type, event.entity_id), event.at,
        event.place or "records", event.detail, event.outcome,
    )  # fmt: skip
    identity = content_id("audit", event.event_id)
    return Record(topics.AUDIT_INBOX, None, body, identity, trace=event.event_id.replace("-", ""))


def _raw(message: records_manual.Typed) -> Record:
    identity = content_id("typed", message.device, message.n)
    received_us = int(message.entered_at.timestamp() * 1e6)
    extra = (
        ("gateway", GATEWAY.encode()),
        ("topic", device_topic(message.device, "readings").encode()),
        ("received_at", b"%d" % received_us),
    )
    return Record(topics.RAW, message.device, message.payload, identity, trace=identity, extra=extra)
