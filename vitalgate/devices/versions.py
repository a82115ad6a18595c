"""Versions of a measurement: which sightings are repeats, which are corrections, and which value is current.

A measurement is (device, metric, site, event time, index). Every message that speaks of it is a *sighting* with a key
(epoch_no, order, item): the device's own order, never arrival. Its versions are the runs of equal values in that
order, numbered from 1; the last is current. So 97, 97, 95, 97 are three versions. A sighting that falls inside a run
with another value splits it.

A message without a number has epoch_no 0 and its raw offset as order. A value that it repeats, of whatever version, is
a duplicate; among themselves such values are versions by first sighting, before all numbered ones.

The outcome is a function of the set of sightings alone: any order of arrival and any batching give the same versions
(of two contents under one key the first to be kept wins, and the other is refused as `sequence_reused`). For that a
row remembers the keys of all its sightings; beyond MAX_SEEN those in the middle are forgotten.

Items are conserved: accepted sightings = rows added + duplicates, where a split adds a row and takes back a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, Generic, NamedTuple, TypeVar

from vitalgate.devices.records import Reading

MAX_SEEN: Final = 64

Key = tuple[int, int, int]
"""(epoch_no, order, item): the device's own order."""


class Value(NamedTuple):
    """What makes two sightings equal."""

    num: float | None = None
    code: str | None = None
    comparator: str = ""
    absent: str = ""
    retracted: bool = False


RETRACTED: Final = Value(retracted=True)
V = TypeVar("V")


class Outcome(StrEnum):
    """What became of a sighting."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    SEQUENCE_REUSED = "sequence_reused"


class Sighting(NamedTuple, Generic[V]):
    """One item of a message that speaks of the measurement."""

    key: Key
    value: V


class Row(NamedTuple, Generic[V]):
    """One version as it is stored."""

    version: int
    value: V
    seen: tuple[Key, ...]
    """Keys of its sightings, rising: the first and the last always, at most MAX_SEEN."""
    origin: int | None = None
    """Position among the rows given to `merge` of the row this one was, or was split from; None for a new one."""
    sighting: int | None = None
    """Position among the new sightings of the one whose data (context, arrival, trace) a new row has."""
    current: bool = False

    @property
    def first(self) -> Key:
        """Key of the first sighting."""
        return self.seen[0]

    @property
    def last(self) -> Key:
        """Key of the last sighting."""
        return self.seen[-1]


class Merged(NamedTuple, Generic[V]):
    """The outcome of `merge`."""

    rows: list[Row[V]]
    """All versions, 1 to n."""
    outcomes: list[Outcome]
    """One for each new sighting, in the order given."""
    added: int
    """Rows now less rows before: what `stored` grows by (a split counts twice)."""
    duplicates: int
    """What `duplicate` grows by; accepted sightings = added + duplicates. -1 for a mere split."""

    def changed(self, before: Sequence[Row[V]]) -> bool:
        """True when any row must be written."""
        return len(before) != len(self.rows) or any(
            (old.version, old.value, old.seen) != (new.version, new.value, new.seen)
            for old, new in zip(before, self.rows, strict=True)
        )


def value_of(reading: Reading) -> Value:
    """The value of a reading; the one of a retraction is `RETRACTED`."""
    if reading.corrects is not None and reading.corrects.retract:
        return RETRACTED
    return Value(reading.value_num, reading.value_code, reading.comparator, reading.absent)


def merge(rows: Sequence[Row[V]], sightings: Sequence[Sighting[V]]) -> Merged[V]:
    """The versions after more sightings.

    Parameters
    ----------
    rows
        All versions known, in any order.
    sightings
        New ones, in order of arrival.
    """
    known: dict[Key, V] = {}
    owner: dict[Key, int] = {}
    for place, row in enumerate(rows):
        for key in row.seen:
            known[key] = row.value
            owner[key] = place
    source: dict[Key, int] = {}
    outcomes: list[Outcome] = []
    accepted = 0
    for place, (key, value) in enumerate(sightings):
        if key in known:
            same = known[key] == value
            outcomes.append(Outcome.DUPLICATE if same else Outcome.SEQUENCE_REUSED)
            accepted += same
            continue
        known[key] = value
        source[key] = place
        outcomes.append(Outcome.DUPLICATE)
        accepted += 1
    runs = _runs(known)
    used: set[int] = set()
    merged: list[Row[V]] = []
    for version, (value, seen) in enumerate(runs, 1):
        origin = next((owner[key] for key in seen if key in owner and owner[key] not in used), None)
        maker = None
        if origin is not None:
            used.add(origin)
        else:
            maker = next((source[key] for key in seen if key in source), None)
            if maker is not None:
                outcomes[maker] = Outcome.STORED
            else:  # the other half of a run that was split: it has the data of the whole
                origin = next((owner[key] for key in seen if key in owner), None)
        merged.append(Row(version, value, _shortened(seen), origin, maker, version == len(runs)))
    added = len(merged) - len(rows)
    return Merged(merged, outcomes, added, accepted - added)


def _runs(known: dict[Key, V]) -> list[tuple[V, list[Key]]]:
    """Runs of equal values by key; numberless sightings first, one run a value, absorbed by equal numbered ones."""
    numbered = sorted(key for key in known if key[0] > 0)
    runs: list[tuple[V, list[Key]]] = []
    for key in numbered:
        if runs and runs[-1][0] == known[key]:
            runs[-1][1].append(key)
        else:
            runs.append((known[key], [key]))
    numberless: dict[V, list[Key]] = {}
    for key in sorted(key for key in known if key[0] <= 0):
        numberless.setdefault(known[key], []).append(key)
    alone: list[tuple[V, list[Key]]] = []
    for value, keys in numberless.items():
        holder = next((run for run in runs if run[0] == value), None)
        if holder is None:
            alone.append((value, keys))
        else:
            holder[1][:0] = keys
    return [*alone, *runs]


def _shortened(seen: list[Key]) -> tuple[Key, ...]:
    if len(seen) <= MAX_SEEN:
        return tuple(seen)
    half = MAX_SEEN // 2
    return (*seen[:half], *seen[-half:])


def flat(seen: Iterable[Key]) -> list[int]:
    """Keys as one list of integers, for an array column."""
    return [number for key in seen for number in key]


def unflat(numbers: Sequence[int]) -> tuple[Key, ...]:
    """The inverse of `flat`."""
    return tuple(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
