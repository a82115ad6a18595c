"""The headers that every Kafka record of ours carries: schema and its version, trace id, message id."""

from __future__ import annotations

from hashlib import blake2b

from vitalgate.config.kafka_client import schema_headers
from vitalgate.config.topics import Topic

Headers = list[tuple[str, bytes]]


def headers(topic: Topic, trace: str, message_id: str) -> Headers:
    """Headers of one record; `message_id` is made from its content, so that a repeat is recognised as one."""
    return [
        *schema_headers(topic),
        ("trace", trace.encode()),
        ("message_id", message_id.encode()),
    ]


def content_id(*parts: str | bytes | int) -> str:
    """Hex id of what these parts say, 32 digits."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else str(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()
