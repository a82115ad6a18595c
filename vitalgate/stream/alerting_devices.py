"""Which patient has (had) which device when, for those kinds of device whose silence is an alert."""

from __future__ import annotations

from vitalgate.stream.registry_view import RegistryView

Windows = list[tuple[int, int | None]]


class DeviceTimes:
    """By patient and device the stretches [from, to) of event time, us, kept in step with the registry."""

    def __init__(self, registry: RegistryView, kinds: frozenset[str]) -> None:
        self._registry = registry
        self._kinds = kinds
        self.worn: dict[str, dict[str, Windows]] = {}
        self._holders: dict[str, set[str]] = {}
        self._kind: dict[str, str] = {}

    def held(self, patient: str) -> dict[str, str]:
        """Devices that a patient has (had), with their kinds."""
        return {device: self._kind[device] for device in self.worn.get(patient, {})}

    def read(self) -> None:
        """Take everything anew."""
        self.worn, self._holders = {}, {}
        for device in list(self._registry.devices):
            self._take(device)

    def changed(self, device: str) -> set[str]:
        """A device or its assignments changed; says whose times may be others now."""
        before = self._holders.pop(device, set())
        for patient in before:
            del self.worn[patient][device]
        return before | self._take(device)

    def _take(self, device: str) -> set[str]:
        known = self._registry.device(device)
        if known is None or known.kind not in self._kinds:
            return set()
        patients: set[str] = set()
        for one in self._registry.assignments(device):
            stop = one.to_us
            if known.revoked and known.revoked_at_us is not None:
                stop = known.revoked_at_us if stop is None else min(stop, known.revoked_at_us)
            self.worn.setdefault(one.patient, {}).setdefault(device, []).append((one.from_us, stop))
            patients.add(one.patient)
        if patients:
            self._holders[device] = patients
            self._kind[device] = known.kind
        return patients
