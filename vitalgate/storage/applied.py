"""What applying a batch gives back: the public records to send and the counts to report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Public:
    """One record for a public topic."""

    key: str
    """The device."""
    message_id: str
    trace: str
    value: bytes
    """JSON."""


@dataclass(slots=True)
class Applied:
    """One range of raw offsets that is now in the tables."""

    partition: int
    first: int
    last: int
    public_readings: list[Public] = field(default_factory=list)
    public_waveforms: list[Public] = field(default_factory=list)
    dead: list[Public] = field(default_factory=list)
    """Dead letters found here and not by intake, for device.deadletter."""
    messages: int = 0
    """Messages applied; those that had been applied before are not counted again."""
    skipped: int = 0
    items: int = 0
    stored: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    derived: int = 0
    """Rows that are no items of their own: parts of split versions, retractions by a moved correction."""
    versions: int = 0
    """Items that became a further version of a measurement."""
    holes: list[tuple[int, int]] = field(default_factory=list)
    """Offsets that never came, closed ranges."""
    filled: list[tuple[int, int]] = field(default_factory=list)
    """Parts of earlier holes that came now."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Dead letters by reason."""
    by: str = ""
    """Who made the batch; told of ranges that are published again."""


def merge(into: Applied, other: Applied) -> None:
    """Add what a further range of the same batch came to."""
    into.public_readings += other.public_readings
    into.public_waveforms += other.public_waveforms
    into.dead += other.dead
    for name in ("messages", "items", "stored", "duplicate", "dead_lettered", "derived", "versions"):
        setattr(into, name, getattr(into, name) + getattr(other, name))
    into.skipped -= other.messages
    for reason, count in other.reasons.items():
        into.reasons[reason] = into.reasons.get(reason, 0) + count
