"""What intake starts from: a record of device.raw, and what the registry says of its device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, NamedTuple

WHOLE: Final = -1
"""Item number that stands for a message as a whole."""


class RawRecord(NamedTuple):
    """One record of device.raw with its headers read."""

    partition: int
    offset: int
    value: bytes
    topic: str
    """MQTT topic."""
    received_us: int
    trace: str = ""
    gateway: str = ""
    retain: bool = False
    replay_of: int | None = None
    """The dead letter that is sent through again."""
    replay_item: int = WHOLE
    """The item that was refused then; WHOLE when it was the whole message."""
    oversize: int = 0
    """Real length in bytes of a message of which only the beginning was kept; 0 for a whole one."""

    @classmethod
    def of(
        cls, partition: int, offset: int, value: bytes, headers: Iterable[tuple[str, bytes | None]], timestamp_ms: int
    ) -> RawRecord:
        """From a Kafka record; a header that is missing or unreadable has its default, the time Kafka's own."""
        found = {name: (data or b"").decode("utf-8", "replace") for name, data in headers}
        return cls(
            partition,
            offset,
            value,
            found.get("topic", ""),
            _int(found.get("received_at"), timestamp_ms * 1000),
            found.get("trace", ""),
            found.get("gateway", ""),
            found.get("retain") == "1",
            _int(found.get("replay_of"), None),
            _int(found.get("replay_item"), WHOLE),
            _int(found.get("oversize"), 0),
        )


def _int(text: str | None, default: Any) -> Any:
    try:
        number = int(text or "")
    except ValueError:
        return default
    return number if -(2**63) < number < 2**63 else default


@dataclass(frozen=True, slots=True)
class RegisteredDevice:
    """What the registry says of a device."""

    device: str
    kind: str
    revoked: bool = False
    revoked_at_us: int | None = None
    sample_rate: Fraction | None = None
    """For blocks that bear no rate."""
