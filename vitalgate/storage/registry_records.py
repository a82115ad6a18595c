"""What the registry holds, as values; and which stretches a change of assignment moves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vitalgate.storage.errors import StorageError

Stretch = tuple[str, datetime, datetime | None, str | None, str | None]
"""(device, from, to, patient before, patient after)."""


@dataclass(frozen=True)
class Patient:
    """A patient: an opaque id, a care team, a time zone with its history."""

    patient_id: str
    team: str
    zones: list[tuple[datetime | None, str]]
    """(from, IANA zone), oldest first; None is since ever."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)
    """Assigned now."""

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "patient_id": self.patient_id,
            "team": self.team,
            "zone": self.zones[-1][1],
            "zones": [{"from": since, "zone": zone} for since, zone in self.zones],
            "overrides": dict(self.overrides),
            "devices": self.devices,
        }


@dataclass(frozen=True)
class Device:
    """A device as the registry knows it."""

    device_id: str
    kind: str
    state: str
    serial: str
    firmware: str
    credential_hash: str
    attributes: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    revoked_at: datetime | None
    patient: str | None = None
    """Assigned to now."""


@dataclass(frozen=True)
class Assignment:
    """Who had a device, from (inclusive) to (exclusive; None is until further notice)."""

    id: int
    device_id: str
    patient_id: str
    start: datetime
    stop: datetime | None

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "id": self.id,
            "device_id": self.device_id,
            "patient_id": self.patient_id,
            "from": self.start,
            "to": self.stop,
        }


@dataclass(frozen=True)
class NewDevice:
    """What `add_devices` needs to know of each."""

    device_id: str
    kind: str
    credential_hash: str
    patient: str | None = None
    serial: str = ""
    firmware: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    since: datetime | None = None
    """When its assignment begins; the moment of adding when None."""


@dataclass(frozen=True)
class OutboxRow:
    """One change on its way to a registry topic."""

    id: int
    topic: str
    """Base name, without the deployment's prefix."""
    key: str
    value: bytes
    """JSON."""
    created_at: datetime
    who: str = "registry"
    """Who made it, such as `user:anna`."""


@dataclass(frozen=True)
class Change:
    """What a registry call did: the newest outbox id (None when nothing changed)."""

    outbox: int | None
    moved: list[Stretch] = field(default_factory=list)
    """(device, from, to, patient before, patient after) of every stretch whose patient changed."""


def check_zone(zone: str) -> None:
    """Raises StorageError for anything but an IANA time zone."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise StorageError(f"{zone!r} is not an IANA time zone such as Europe/Berlin") from error


def moved_stretches(
    device: str,
    patient: str | None,
    start: datetime,
    stop: datetime | None,
    before: Sequence[tuple[str, datetime, datetime | None]],
) -> list[Stretch]:
    """The stretches of [start, stop) whose patient changes, given who had the device before, in order of time."""
    stretches: list[Stretch] = []
    at: datetime | None = start
    for earlier, low, high in before:
        assert at is not None
        if low > at:
            stretches.append((device, at, low, None, patient))
        begin = max(low, start)
        end = stop if high is None else high if stop is None else min(high, stop)
        stretches.append((device, begin, end, earlier, patient))
        at = end
        if at is None:
            break
    if at is not None and (stop is None or at < stop):
        stretches.append((device, at, stop, None, patient))
    return [stretch for stretch in stretches if stretch[3] != stretch[4]]
