"""Writes the readings of a batch: new measurements by COPY, everything else by its measurement's history.

A reading later than all that is stored of its device and metric is new for sure; that is nearly every reading, and
it costs one row of COPY. The rest (repeats, corrections, late data) is looked up and placed among its versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from vitalgate.devices.reasons import Reason
from vitalgate.devices.records import Corrects, Message, Reading
from vitalgate.devices.versions import Key, Outcome, value_of
from vitalgate.storage import aggregates, known, pending, publics, rows
from vitalgate.storage.connect import Connection
from vitalgate.storage.measurements import Maker, Measurement, Name
from vitalgate.storage.pending import Pending
from vitalgate.storage.rows import retracts
from vitalgate.storage.versions_writer import VersionsWriter
from vitalgate.storage.work import Work

MAX_FRONTIER = 500_000
_NEVER = -(2**62)


@dataclass(slots=True)
class _Entry:
    name: Name
    message: Message
    reading: Reading

    @property
    def key(self) -> Key:
        return self.message.epoch_no, self.message.order, self.reading.item


@dataclass(slots=True)
class _Slow:
    """The state of the slow path of one batch."""

    measurements: dict[Name, Measurement] = field(default_factory=dict)
    origins: dict[pending.Target, known.Found] = field(default_factory=dict)
    pending: dict[pending.Target, list[Pending]] = field(default_factory=dict)


class ReadingsWriter:
    """Keeps the newest stored time of each (device, metric) between batches; `forget` when that may be stale."""

    def __init__(self) -> None:
        self.marks: Callable[[Sequence[Name], int], list[aggregates.Mark]] | None = None
        """Which stretches of the aggregates a batch makes stale; None when there are no aggregates."""
        self._frontier: dict[tuple[str, str], int] = {}

    def forget(self) -> None:
        """Drop what is remembered: somebody else may have written."""
        self._frontier.clear()

    def write(self, connection: Connection, work: Work) -> None:
        """Write the readings of all messages of a batch and count what became of each."""
        names = [
            (message.device, r.metric, r.site, r.time_us, r.index)
            for message in work.messages
            for r in message.readings
        ]
        if not names:
            return
        several = _several(names) | _corrected(work.messages)
        newest = self._warm(connection, names)
        waiting = pending.of_devices(connection, {name[0] for name in names})
        fast: list[bytes] = []
        slow: list[_Entry] = []
        frontier = self._frontier
        following = iter(names)
        for message in work.messages:
            if not message.readings:
                continue
            shared = work.origin(message)
            entries = []
            for r in message.readings:
                name = next(following)
                if (
                    message.repeat
                    or name[3] <= frontier[name[:2]]
                    or r.corrects is not None
                    or (several and name in several)
                    or (waiting and (message.device, message.epoch, message.seq, r.item) in waiting)
                ):
                    slow.append(_Entry(name, message, r))
                else:
                    fast.append(rows.reading(shared, r))
                    entries.append(publics.reading(message, r, 1, True))
            if entries:
                work.applied.stored += len(entries)
                work.publish_readings(message, entries)
        changed = self._slow(connection, work, slow, waiting, fast)
        frontier.update(newest)
        for name in changed:  # a retraction may speak of a time later than all readings
            if name[3] > frontier.get(name[:2], name[3]):
                frontier[name[:2]] = name[3]
        if self.marks is not None:
            received = max(message.received_us for message in work.messages)
            stretches = self.marks([*names, *changed], received)
            if stretches:
                aggregates.mark(connection, stretches)

    def _warm(self, connection: Connection, names: Iterable[Name]) -> dict[tuple[str, str], int]:
        """Learn the newest stored time of each (device, metric) of a batch; returns what it will be afterwards."""
        frontier = self._frontier
        if len(frontier) > MAX_FRONTIER:
            frontier.clear()
        cold: dict[tuple[str, str], int] = {}
        newest: dict[tuple[str, str], int] = {}
        for name in names:
            pair = name[:2]
            if pair not in frontier:
                cold[pair] = min(cold.get(pair, name[3]), name[3])
            if name[3] > newest.get(pair, _NEVER):
                newest[pair] = name[3]
        if cold:
            frontier.update(known.newest(connection, list(cold), min(cold.values())))
        return {pair: time for pair, time in newest.items() if time > frontier[pair]}

    def _slow(
        self,
        connection: Connection,
        work: Work,
        entries: list[_Entry],
        waiting: dict[pending.Target, list[Pending]],
        fast: list[bytes],
    ) -> list[Name]:
        """Place the entries among their versions and write all rows; returns further measurements that were changed."""
        writer = VersionsWriter()
        targets: set[Name] = set()
        if entries:
            entries.sort(key=lambda entry: (entry.message.offset, entry.reading.item))
            state = _Slow(pending=waiting)
            state.measurements = known.measurements(connection, list({entry.name for entry in entries}))
            state.origins = _origins(connection, work, entries, state.measurements)
            targets = {target for entry in entries if entry.reading.corrects and (target := _target(entry, state))}
            missing = [target for target in targets if target not in state.measurements]
            state.measurements.update(known.measurements(connection, missing))
            for entry in entries:
                _take(connection, work, entry, state)
            for measurement in state.measurements.values():
                _settle(work, measurement)
            writer.update(connection, work, state.measurements.values())
        writer.insert(connection, work, fast)
        return list(targets)


def _several(names: Sequence[Name]) -> set[Name]:
    """The measurements that are spoken of more than once."""
    seen = set(names)
    if len(seen) == len(names):
        return set()
    twice: set[Name] = set()
    seen.clear()
    for name in names:
        if name in seen:
            twice.add(name)
        seen.add(name)
    return twice


def _corrected(messages: Sequence[Message]) -> set[Name]:
    """The measurements of this batch that its corrections speak of, by their time or by the item they came as."""
    found: set[Name] = set()
    places: set[pending.Target] = set()
    for message in messages:
        for r in message.readings:
            if (corrects := r.corrects) is None:
                continue
            if corrects.time_us is not None:
                found.add((message.device, r.metric, r.site, corrects.time_us, r.index))
            elif corrects.seq >= 0:
                places.add((message.device, corrects.epoch or message.epoch, corrects.seq, corrects.index))
    if places:
        for message in messages:
            for r in message.readings:
                if (message.device, message.epoch, message.seq, r.item) in places:
                    found.add((message.device, r.metric, r.site, r.time_us, r.index))
    return found


def _origins(
    connection: Connection,
    work: Work,
    entries: Iterable[_Entry],
    measurements: Mapping[Name, Measurement],
) -> dict[pending.Target, known.Found]:
    """Where the items that corrections and unplaced repeats speak of are stored, in the table or this batch."""
    wanted: dict[pending.Target, None] = {}
    for entry in entries:
        message, r = entry.message, entry.reading
        if r.corrects and r.corrects.time_us is None and r.corrects.seq >= 0:
            wanted[message.device, r.corrects.epoch or message.epoch, r.corrects.seq, r.corrects.index] = None
        if message.repeat and not measurements[entry.name].sighted(entry.key):
            wanted[message.device, message.epoch, message.seq, r.item] = None
    if not wanted:
        return {}
    devices = {place[0] for place in wanted}
    found: dict[pending.Target, known.Found] = {}
    for message in work.messages:
        if message.repeat or message.device not in devices:
            continue
        for r in message.readings:
            place = (message.device, message.epoch, message.seq, r.item)
            if place in wanted:
                name = (message.device, r.metric, r.site, r.time_us, r.index)
                found[place] = known.Found(name, value_of(r), r.time_sent_us)
    found.update(known.by_origin(connection, (place for place in wanted if place not in found)))
    return found


def _target(entry: _Entry, state: _Slow) -> Name | None:
    """The measurement that a correction speaks of; None when it is not (yet) known."""
    message, r, corrects = entry.message, entry.reading, entry.reading.corrects
    assert corrects is not None
    if corrects.time_us is not None:
        return message.device, r.metric, r.site, corrects.time_us, r.index
    if corrects.seq < 0:
        return entry.name
    found = state.origins.get((message.device, corrects.epoch or message.epoch, corrects.seq, corrects.index))
    return found.name if found else None


def _take(connection: Connection, work: Work, entry: _Entry, state: _Slow) -> None:
    """Put one item where it belongs: among the sightings of a measurement, the corrections that wait, the refused."""
    message, r = entry.message, entry.reading
    target = _target(entry, state) if r.corrects else None
    name = entry.name
    if retracts(r):
        if target is None:
            if pending.keep(connection, work, message, r, derived=False):
                work.applied.stored += 1
            else:
                work.applied.duplicate += 1
            return
        name, r = target, retraction(r, target)
    measurement = state.measurements[name]
    if message.repeat and not measurement.sighted(entry.key):
        found = state.origins.get((message.device, message.epoch, message.seq, r.item))
        if found is not None and found.name != name:
            # Another skew may have been seen at the resend, so that the corrected time differs; as sent it is the same.
            if found.value == value_of(r) and found.time_sent_us == r.time_sent_us and found.name[1:3] == name[1:3]:
                work.applied.duplicate += 1
            else:
                _refuse_reused(work, message, r.item)
            return
    measurement.makers.append(Maker(message, r))
    if r.corrects and not retracts(r):
        if target is None:
            pending.keep(connection, work, message, r, derived=True)
        elif target != name:
            state.measurements[target].makers.append(Maker(message, retraction(r, target), derived=True))
    for waiting in state.pending.pop((message.device, message.epoch, message.seq, r.item), ()):
        pending.drop(connection, waiting)
        if not waiting.derived:
            work.applied.stored -= 1  # from among those that wait; counted again as what it becomes
        elif waiting.name == name:
            continue
        work.adopt(waiting.message, waiting.partition, waiting.message_id)
        # The unit is the metric's, so the target's; it does not wait with the correction.
        taken_back = retraction(msgspec.structs.replace(waiting.reading, unit=r.unit), name)
        measurement.makers.append(Maker(waiting.message, taken_back, waiting.derived))


def _settle(work: Work, measurement: Measurement) -> None:
    """Merge the sightings of a measurement and count what became of each."""
    if not measurement.makers:
        return
    outcomes, added, duplicates = measurement.settle()
    applied = work.applied
    applied.stored += added
    applied.duplicate += duplicates
    for maker, outcome in zip(measurement.makers, outcomes, strict=True):
        if outcome is Outcome.SEQUENCE_REUSED and not maker.derived:
            _refuse_reused(work, maker.message, maker.reading.item)
        elif outcome is Outcome.STORED:
            applied.versions += len(measurement.changes) > 1 and not maker.derived
        if maker.derived:
            if outcome is Outcome.STORED:
                applied.stored -= 1
                applied.derived += 1
            elif outcome is Outcome.DUPLICATE:
                applied.duplicate -= 1


def _refuse_reused(work: Work, message: Message, item: int) -> None:
    work.refuse(
        message,
        item,
        Reason.SEQUENCE_REUSED,
        f"epoch {message.epoch!r} seq {message.seq} item {item} was stored before with other content; "
        "count up by one for every message and start a new epoch when the counter starts over",
    )


def retraction(r: Reading, target: Name) -> Reading:
    """The reading that stands for "this measurement is taken back"."""
    return msgspec.structs.replace(
        r, metric=target[1], site=target[2], time_us=target[3], index=target[4], value_num=None, value_code=None,
        comparator="", absent="", value_sent=None, unit_sent=r.unit, time_sent_us=target[3],
        corrects=Corrects(retract=True),
    )  # fmt: skip
