"""The versions of one measurement while a batch is applied: what is in the table, and what becomes of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitalgate.devices.records import Message, Reading
from vitalgate.storage.rows import Sighting, retracts

Value = tuple[float | None, str | None, str, str, str]
"""value_num, value_code, comparator, absent, unit."""
Key = tuple[str, str, str, int, int]
"""A measurement: device, metric, site, time in microseconds, index."""

RETRACTED: Value = (None, "retracted", "", "retracted", "")
"""Stands for the value of a version that takes the measurement back."""
MAX_SIGHTINGS = 64
"""Sightings of one version that are remembered; beyond that the middle ones are forgotten."""


@dataclass(slots=True)
class Version:
    """One version: a run of equal values in device order."""

    value: Value
    own: Sighting
    """The item that the row was made from."""
    sightings: list[Sighting]
    """All items that said the same, ascending."""
    number: int = 0
    """Version number in the table; 0 when it is not there yet."""
    current: bool = False
    """As it is in the table."""
    source: tuple[Message, Reading] | None = None
    """What a new row is made of."""
    split_from: Version | None = None
    """The version whose row this one is a copy of, except for its place in the order."""
    derived: bool = False
    """The row is no item of its own: part of a split version, or a retraction by a correction that moved."""
    touched: bool = False
    """Its sightings changed since it was read."""


@dataclass(slots=True)
class History:
    """All versions of one measurement in device order."""

    key: Key
    versions: list[Version] = field(default_factory=list)
    cause: Message | None = None
    """The message that changed it last."""

    def sighted(self, sighting: Sighting) -> Version | None:
        """The version that this very item is in, if it was stored before."""
        for version in self.versions:
            if sighting in version.sightings:
                return version
        return None

    def says(self, value: Value) -> bool:
        """Whether any version has this value."""
        return any(version.value == value for version in self.versions)

    def place(self, value: Value, sighting: Sighting) -> Version | None:
        """Put a sighting in its place; the new version, or None when it says what is known (a duplicate)."""
        versions = self.versions
        if sighting[0] == 0:
            # Unnumbered: there is no order to trust, so a value that was ever given is a repeat.
            for version in versions:
                if version.value == value:
                    return None
        at = len(versions)
        for i, version in enumerate(versions):
            if sighting < version.sightings[0]:
                at = i
                break
            if sighting <= version.sightings[-1]:
                if version.value == value:
                    self._see(version, sighting)
                    return None
                self._split(i, sighting)
                at = i + 1
                break
        else:
            at = len(versions)
        if at > 0 and versions[at - 1].value == value:
            self._see(versions[at - 1], sighting)
            return None
        if at < len(versions) and versions[at].value == value:
            self._see(versions[at], sighting)
            return None
        new = Version(value, sighting, [sighting])
        versions.insert(at, new)
        return new

    def _see(self, version: Version, sighting: Sighting) -> None:
        if sighting in version.sightings:
            return
        version.sightings.append(sighting)
        version.sightings.sort()
        if len(version.sightings) > MAX_SIGHTINGS:
            middle = [s for s in version.sightings[1:-1] if s != version.own]
            version.sightings.remove(middle[len(middle) // 2])
        version.touched = True

    def _split(self, i: int, sighting: Sighting) -> None:
        whole = self.versions[i]
        head = [s for s in whole.sightings if s < sighting]
        tail = [s for s in whole.sightings if s > sighting]
        if whole.own in head:
            whole.sightings, rest, at = head, tail, i + 1
        else:
            whole.sightings, rest, at = tail, head, i
        part = Version(whole.value, rest[0], rest, split_from=whole.split_from or whole, derived=True)
        whole.touched = True
        self.versions.insert(at, part)


def value_of(r: Reading) -> Value:
    """What makes two readings of one measurement equal."""
    if retracts(r):
        return RETRACTED
    return r.value_num, r.value_code, r.comparator, r.absent, r.unit
