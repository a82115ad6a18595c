"""Devices, assignments and patients in memory, kept up to date from the compacted registry topics by a thread."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import orjson

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import REGISTRY_ASSIGNMENTS, REGISTRY_DEVICES, REGISTRY_PATIENTS, full
from vitalgate.devices import times
from vitalgate.devices.intake import RegisteredDevice
from vitalgate.devices.reasons import Refused
from vitalgate.stream.compacted_view import CompactedView

log = logging.getLogger(__name__)

Kind = Literal["device", "assignments", "patient"]
#: Told which entry changed: its kind and key.
OnChange = Callable[[Kind, str], None]


@dataclass(frozen=True)
class Assignment:
    """A patient has the device in [from_us, to_us); to_us None: still."""

    id: int
    patient: str
    from_us: int
    to_us: int | None


@dataclass(frozen=True)
class Patient:
    """What workers know of a patient: time zones with their history, care team, rule overrides."""

    patient: str
    zones: tuple[tuple[int | None, str], ...]
    """(from_us or None for ever, IANA name), oldest first."""
    team: str
    overrides: dict[str, Any] = field(default_factory=dict)
    change: int = 0


class RegistryView(CompactedView):
    """Reads the three registry topics from their beginning and follows them.

    Look-ups are plain dictionary reads, for use in the event loop without waiting.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self.devices: dict[str, RegisteredDevice] = {}
        """All devices ever registered, revoked ones too."""
        self._device_change: dict[str, int] = {}
        self.patients: dict[str, Patient] = {}
        self._assignments: dict[str, tuple[list[int], list[Assignment]]] = {}
        self._assignments_change: dict[str, int] = {}
        self._take = {
            full(REGISTRY_DEVICES, kafka): self._take_device,
            full(REGISTRY_ASSIGNMENTS, kafka): self._take_assignments,
            full(REGISTRY_PATIENTS, kafka): self._take_patient,
        }
        super().__init__(kafka, self._take, "the registry topics")
        self._callbacks: list[OnChange] = []

    # --- look-ups -----------------------------------------------------------------------------------------------

    def device(self, device: str) -> RegisteredDevice | None:
        """The device, revoked ones too; None when it was never registered."""
        return self.devices.get(device)

    def assignments(self, device: str) -> list[Assignment]:
        """All assignments of a device, oldest first."""
        return self._assignments.get(device, ([], []))[1]

    def assignment_at(self, device: str, time_us: int) -> Assignment | None:
        """The assignment in force at an event time (microseconds); None when the device was nobody's."""
        found = self._assignments.get(device)
        if found is None:
            return None
        at = bisect_right(found[0], time_us) - 1
        if at < 0:
            return None
        assignment = found[1][at]
        return assignment if assignment.to_us is None or time_us < assignment.to_us else None

    def patient_at(self, device: str, time_us: int) -> str | None:
        """Whose device it was at an event time."""
        assignment = self.assignment_at(device, time_us)
        return None if assignment is None else assignment.patient

    def patient(self, patient: str) -> Patient | None:
        """The patient, None when unknown."""
        return self.patients.get(patient)

    def on_change(self, callback: OnChange) -> None:
        """Call back in the event loop for every entry that changes from now on."""
        self._callbacks.append(callback)

    # --- reading ------------------------------------------------------------------------------------------------

    def _entry(self, name: str, key: str | bytes | None, value: str | bytes | None, offset: int) -> None:
        try:
            self._take_one(name, _text(key), value)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, Refused) as fault:
            # One unreadable entry must not take the whole registry away from the workers.
            log.error(
                "registry entry cannot be read and is left out",
                extra={"topic": name, "offset": offset, "error": f"{type(fault).__name__}: {fault}"},
            )

    def _take_one(self, name: str, key: str, value: str | bytes | None) -> None:
        kind = self._take[name](key, None if value is None else orjson.loads(value))
        if kind is not None and self._callbacks and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, kind, key)

    def _tell(self, kind: Kind, key: str) -> None:
        for callback in self._callbacks:
            callback(kind, key)

    def _take_device(self, key: str, body: dict[str, Any] | None) -> Kind | None:
        if body is None:
            self.devices.pop(key, None)
            self._device_change.pop(key, None)
            return "device"
        change = int(body.get("change", 0))
        if change < self._device_change.get(key, 0):
            return None
        if not isinstance(body["kind"], str):
            raise TypeError(f"kind is {type(body['kind']).__name__}, not a string")
        rate = body.get("sample_rate")
        self.devices[key] = RegisteredDevice(
            device=key,
            kind=body["kind"],
            revoked=body["state"] != "active",
            revoked_at_us=_time(body.get("revoked_at")),
            sample_rate=None if rate is None else Fraction(rate),
        )
        self._device_change[key] = change
        return "device"

    def _take_assignments(self, key: str, body: dict[str, Any] | None) -> Kind | None:
        if body is None:
            self._assignments.pop(key, None)
            self._assignments_change.pop(key, None)
            return "assignments"
        change = int(body.get("change", 0))
        if change < self._assignments_change.get(key, 0):
            return None
        rows = sorted(
            (
                Assignment(int(row["id"]), row["patient"], _time(row["from"]) or 0, _time(row.get("to")))
                for row in body["assignments"]
            ),
            key=lambda row: row.from_us,
        )
        self._assignments[key] = ([row.from_us for row in rows], rows)
        self._assignments_change[key] = change
        return "assignments"

    def _take_patient(self, key: str, body: dict[str, Any] | None) -> Kind | None:
        if body is None:
            self.patients.pop(key, None)
            return "patient"
        change = int(body.get("change", 0))
        known = self.patients.get(key)
        if known is not None and change < known.change:
            return None
        zones = sorted(
            ((_time(row.get("from")), row["zone"]) for row in body.get("zones", [])), key=lambda z: z[0] or 0
        )
        self.patients[key] = Patient(key, tuple(zones), body.get("team") or "", body.get("overrides") or {}, change)
        return "patient"


def _text(key: str | bytes | None) -> str:
    return key.decode() if isinstance(key, bytes) else key or ""


def _time(text: str | None) -> int | None:
    """Microseconds since 1970 of an RFC 3339 time."""
    if text is None:
        return None
    return times.parse(text).us
