"""The device side of Vitalgate, light enough for a device: standard library, paho-mqtt and cbor2.

`Device` is all that most need; `Outbox` and `Tracker` are its parts, for programs that run their own connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitalgate.client.down import ClockEstimate, ClockFilter, DownError, Settings, TimeAnswer, read_down
from vitalgate.client.outbox import MemoryOutbox, Outbox, OutboxFull, Stored
from vitalgate.client.protocol import (
    Policy,
    Receipt,
    ReceiptError,
    Rejected,
    Tracker,
    declaration,
    message,
    read_receipt,
)

if TYPE_CHECKING:
    from vitalgate.client.device import Device

__all__ = [
    "ClockEstimate", "ClockFilter", "Device", "DownError", "MemoryOutbox", "Outbox", "OutboxFull", "Policy", "Receipt",
    "ReceiptError", "Rejected", "Settings", "Stored", "TimeAnswer", "Tracker", "declaration", "message", "read_down",
    "read_receipt",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """`Device` is imported when asked for, so that its parts can be had without paho-mqtt."""
    if name == "Device":
        from vitalgate.client.device import Device

        return Device
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
