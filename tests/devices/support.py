"""What the tests of this room share: a moment, devices, and short ways to write messages."""

from __future__ import annotations

from typing import Any

from vitalgate.config.settings import IntakeSettings
from vitalgate.devices import catalogue, times
from vitalgate.devices.codec import encode_json
from vitalgate.devices.context import Context
from vitalgate.devices.intake import RawRecord, RegisteredDevice, take
from vitalgate.devices.records import DeviceSequences, Message

NOW = 1_795_255_200_000_000
"""2026-11-21T10:00:00Z in microseconds."""
SECOND = 1_000_000
SETTINGS = IntakeSettings()


def at(seconds: float = 0.0) -> str:
    """RFC 3339 of so many seconds after NOW."""
    return times.text(NOW + round(seconds * SECOND))


def context(received_us: int = NOW + SECOND, **more: Any) -> Context:
    """The surroundings of a message that arrives a second after NOW."""
    return Context.of(SETTINGS, received_us, **more)


def spo2(value: Any = 97, seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    """A reading."""
    return {"metric": "spo2", "value": value, "unit": "%", "time": at(seconds), **more}


def ecg(samples: Any, seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    """A block of an ECG."""
    return {
        "channel": "ecg.II", "start": at(seconds), "rate": 250, "gain": 200, "unit": "mV", "samples": samples, **more
    }  # fmt: skip


class Feed:
    """One device whose messages go through intake one after another."""

    def __init__(self, kind: str = "pulse-oximeter", device: str = "d1") -> None:
        self.device = RegisteredDevice(device, kind)
        self.state: DeviceSequences | None = None
        self.offset = 0
        self.raws: list[RawRecord] = []

    def raw(
        self, payload: bytes | dict[str, Any], leaf: str = "readings", seconds: float = 1.0, **more: Any
    ) -> RawRecord:
        """The next raw record."""
        value = payload if isinstance(payload, bytes) else encode_json(payload)
        raw = RawRecord(
            0, self.offset, value, f"v1/devices/{self.device.device}/{leaf}", NOW + round(seconds * SECOND), "0" * 32,
            **more,
        )  # fmt: skip
        self.offset += 1
        self.raws.append(raw)
        return raw

    def send(
        self, payload: bytes | dict[str, Any], leaf: str = "readings", seconds: float = 1.0, **more: Any
    ) -> Message:
        """What intake makes of the next record; keeps the state."""
        return self.again(self.raw(payload, leaf, seconds, **more))

    def again(self, raw: RawRecord) -> Message:
        """What intake makes of a record; keeps the state."""
        message, self.state = take(raw, self.device, self.state, catalogue.load(), SETTINGS)
        return message
