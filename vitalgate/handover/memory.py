"""What the hand-over remembers of a patient, and its bytes on the compacted topic handover.memory."""

from __future__ import annotations

from typing import Any

import msgspec


class Standing(msgspec.Struct):
    """How an alert stands."""

    number: int
    """Of its newest event that was taken: a repeat has none higher."""
    how: str
    """open, quiet (silenced or suppressed), answered, over or gone (taken back)."""
    closed: bool
    at: int
    """When that was taken, us."""


class Group(msgspec.Struct):
    """The alarms that one notification stands for."""

    team: str
    priority: str
    rank: int
    count: int
    alerts: list[str]
    """Newest last, each once."""
    titles: list[str]
    event: dict[str, Any]
    """What may be said of the most pressing event."""
    detected: int
    """When the newest was worked out, us."""


class Delivery(msgspec.Struct):
    """One notification to one destination."""

    id: str
    destination: str
    kind: str
    clinician: str
    group: Group
    created: int
    since: int
    """From here on counts when it is late and when it is given up."""
    due: int
    number: int = 0
    attempts: int = 0
    state: str = "waiting"
    """waiting, sending, retrying, delivered, failed or withdrawn."""
    late: bool = False
    failing: bool = False
    """Late or failed, and it matters."""
    revived: int = 0
    error: str = ""
    ended: int = 0

    @property
    def high(self) -> bool:
        """Of high priority."""
        return self.group.priority == "high"


class Memory(msgspec.Struct):
    """Everything of one patient."""

    patient: str
    alerts: dict[str, Standing] = {}
    windows: dict[str, tuple[int, int]] = {}
    """By destination: end and most pressing rank of the window of grouping."""
    deliveries: list[Delivery] = []
    told: int = 0
    """Undelivered ones as last told."""
    outbox: list[bytes] = []
    """Records of alert.deliveries that were about to be written with this memory, and perhaps were not."""

    @property
    def empty(self) -> bool:
        """Nothing worth keeping."""
        return not (self.alerts or self.deliveries or self.outbox or self.told)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Memory)


def pack(memory: Memory) -> bytes:
    """The record's bytes."""
    return _encoder.encode(memory)


def unpack(packed: bytes) -> Memory:
    """Raises msgspec.DecodeError or ValidationError for anything else."""
    return _decoder.decode(packed)
