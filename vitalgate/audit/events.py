"""What an audit event says: who did what, on what, when, from where, with what outcome; and its link in the chain."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class AuditRecord(BaseModel):
    """One record of audit.events: an event with its link in the chain, or (`checkpoint`) a signed checkpoint."""

    model_config = ConfigDict(extra="allow", frozen=True)

    n: int = Field(description="Number of the link, from 1; a checkpoint bears the number of the link it signs.")
    hash: str = Field(description="SHA-256 over the previous hash, the inbox offset and the event, hexadecimal.")
    when: datetime | None = Field(None, description="When it happened.")
    event_id: str = Field("", description="Identity of the event: a repeat has the same.")
    who: str = Field("", description="User, device or service (service:NAME) that did it.")
    action: str = Field("", description="What was done.", examples=["device.added", "batch.recorded"])
    entity_type: str = Field("", description="What it was done to: device, patient, alert, batch, ….")
    entity_id: str = Field("", description="Id of that.")
    where: str = Field("", description="Host and process, or address.")
    outcome: str = Field("", description="success, refused or failed.")
    detail: dict[str, Any] = Field(default_factory=dict, description="Counts and identities; never a measured value.")
    previous_hash: str | None = Field(None, description="Hash of the link before; 64 zeros for the first.")
    inbox_offset: int | None = Field(None, description="Offset of the event in audit.inbox, which orders the chain.")
    checkpoint: bool = Field(False, description="True: a signed checkpoint, no event.")
    signature: str | None = Field(None, description="Ed25519 over the link's number and hash, base64.")
    public_key: str | None = Field(None, description="Raw public key that verifies it, base64.")
    key_id: str | None = Field(None, description="First 16 hexadecimal digits of the key's SHA-256.")
