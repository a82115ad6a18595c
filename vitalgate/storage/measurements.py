"""One measurement while a batch is applied: its stored versions, the new sightings of it, and what becomes of both.

The rules are `vitalgate.devices.versions`; this only keeps track of which row is which. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vitalgate.devices import versions
from vitalgate.devices.records import Message, Reading
from vitalgate.devices.versions import Key, Outcome, Value

Name = tuple[str, str, str, int, int]
"""A measurement: device, metric, site, time in microseconds, index."""


@dataclass(slots=True)
class Stored:
    """A version as it is in the table."""

    row: versions.Row[Value]
    own: Key
    """The item that the row was made from: its columns epoch_no, ord and item."""


@dataclass(slots=True)
class Maker:
    """A new sighting."""

    message: Message
    reading: Reading
    derived: bool = False
    """True: no item of its own, but the other half of a correction that moved the measurement."""

    @property
    def key(self) -> Key:
        """Its place in the device's order."""
        return self.message.epoch_no, self.message.order, self.reading.item


@dataclass(slots=True)
class Change:
    """One version after the batch: a stored row kept or renumbered, a new row, or a copy of a stored row."""

    row: versions.Row[Value]
    stored: Stored | None = None
    maker: Maker | None = None
    copied: Stored | None = None
    """The stored row that this one was split from."""


@dataclass(slots=True)
class Measurement:
    """All versions of one measurement, and what a batch says of it."""

    name: Name
    stored: list[Stored] = field(default_factory=list)
    makers: list[Maker] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def sighted(self, key: Key) -> bool:
        """Whether this very item is known to be in it, from the table or from this batch."""
        return any(key in stored.row.seen for stored in self.stored) or any(maker.key == key for maker in self.makers)

    def says(self, value: Value) -> bool:
        """Whether any stored version has this value."""
        return any(stored.row.value == value for stored in self.stored)

    def settle(self) -> tuple[list[Outcome], int, int]:
        """Merge what the batch says: (outcome of each maker, rows added, duplicates), and fill `changes`."""
        rows = [stored.row for stored in self.stored]
        merged = versions.merge(rows, [versions.Sighting(m.key, versions.value_of(m.reading)) for m in self.makers])
        used: set[int] = set()
        self.changes = []
        for row in merged.rows:
            if row.origin is None:
                assert row.sighting is not None
                self.changes.append(Change(row, maker=self.makers[row.sighting]))
            elif row.origin in used:
                self.changes.append(Change(row, copied=self.stored[row.origin]))
            else:
                used.add(row.origin)
                self.changes.append(Change(row, stored=self.stored[row.origin]))
        return merged.outcomes, merged.added, merged.duplicates
