"""Writes the readings of a batch: new measurements by COPY, everything else by its measurement's history.

A reading later than all that is stored of its device and metric is new for sure; that is nearly every reading, and
it costs one row of COPY. The rest (repeats, corrections, late data) is looked up and placed among its versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from vitalgate.devices.records import Corrects, Message, Reading
from vitalgate.storage import known, pending, publics, rows
from vitalgate.storage.connect import Connection
from vitalgate.storage.history import RETRACTED, History, Key, Version, value_of
from vitalgate.storage.pending import Pending
from vitalgate.storage.versions_writer import VersionsWriter
from vitalgate.storage.work import Work

MAX_FRONTIER = 500_000
_ALL = -(2**62)


@dataclass(slots=True)
class _Entry:
    key: Key
    message: Message
    reading: Reading


@dataclass(slots=True)
class _Slow:
    """The state of the slow path of one batch."""

    histories: dict[Key, History] = field(default_factory=dict)
    origins: dict[tuple[str, str, int, int], known.Found] = field(default_factory=dict)
    pending: dict[tuple[str, str, int, int], list[Pending]] = field(default_factory=dict)


class ReadingsWriter:
    """Keeps the newest stored time of each (device, metric) between batches; `forget` when that may be stale."""

    def __init__(self) -> None:
        self._frontier: dict[tuple[str, str], int] = {}

    def forget(self) -> None:
        """Drop what is remembered: somebody else may have written."""
        self._frontier.clear()

    def write(self, connection: Connection, work: Work) -> None:
        """Write the readings of all messages of a batch and count what became of each."""
        by_key: dict[Key, list[_Entry]] = {}
        for message in work.messages:
            device = message.device
            for r in message.readings:
                by_key.setdefault((device, r.metric, r.site, r.time_us, r.index), []).append(
                    _Entry((device, r.metric, r.site, r.time_us, r.index), message, r)
                )
        if not by_key:
            return
        self._warm(connection, by_key)
        waiting = pending.of_devices(connection, {key[0] for key in by_key})
        fast: list[bytes] = []
        slow: list[_Entry] = []
        frontier = self._frontier
        ahead: dict[tuple[str, str], int] = {}
        for key, entries in by_key.items():
            entry = entries[0]
            message, r = entry.message, entry.reading
            pair = (key[0], key[1])
            if (
                len(entries) > 1
                or message.repeat
                or r.corrects
                or key[3] <= frontier[pair]
                or (waiting and (message.device, message.epoch, message.seq, r.item) in waiting)
            ):
                slow.extend(entries)
            else:
                fast.append(rows.reading(work.origin(message), r))
                work.publish_reading(message, publics.reading(message, r, 1, True))
                work.applied.stored += 1
            if key[3] > ahead.get(pair, _ALL):
                ahead[pair] = key[3]
        self._slow(connection, work, slow, by_key, waiting, fast)
        for pair, newest in ahead.items():
            if newest > frontier[pair]:
                frontier[pair] = newest

    def _warm(self, connection: Connection, by_key: Mapping[Key, Any]) -> None:
        if len(self._frontier) > MAX_FRONTIER:
            self._frontier.clear()
        cold: dict[tuple[str, str], int] = {}
        for key in by_key:
            pair = (key[0], key[1])
            if pair not in self._frontier:
                cold[pair] = min(cold.get(pair, key[3]), key[3])
        if cold:
            self._frontier.update(known.newest(connection, list(cold), min(cold.values())))

    def _slow(
        self,
        connection: Connection,
        work: Work,
        entries: list[_Entry],
        by_key: Mapping[Key, list[_Entry]],
        waiting: dict[tuple[str, str, int, int], list[Pending]],
        fast: list[bytes],
    ) -> None:
        writer = VersionsWriter()
        if entries:
            entries.sort(key=lambda entry: (entry.message.offset, entry.reading.item))
            state = _Slow(pending=waiting)
            state.histories = known.histories(connection, list({entry.key for entry in entries}))
            state.origins = self._origins(connection, entries, by_key, state.histories)
            self._targets(connection, entries, state)
            for entry in entries:
                self._take(connection, work, entry, state)
            writer.prepare(connection, work, state.histories.values())
        writer.insert(connection, work, fast)

    def _origins(
        self,
        connection: Connection,
        entries: Iterable[_Entry],
        by_key: Mapping[Key, list[_Entry]],
        histories: Mapping[Key, History],
    ) -> dict[tuple[str, str, int, int], known.Found]:
        """Where the items that corrections and unplaced repeats speak of are stored, in the table or this batch."""
        wanted: dict[tuple[str, str, int, int], None] = {}
        for entry in entries:
            message, r = entry.message, entry.reading
            if r.corrects and r.corrects.time_us is None and r.corrects.seq >= 0:
                wanted[message.device, r.corrects.epoch or message.epoch, r.corrects.seq, r.corrects.index] = None
            if message.repeat and not histories[entry.key].sighted(rows.order(message, r.item)):
                wanted[message.device, message.epoch, message.seq, r.item] = None
        if not wanted:
            return {}
        found: dict[tuple[str, str, int, int], known.Found] = {}
        for batch in by_key.values():
            for entry in batch:
                message, r = entry.message, entry.reading
                name = (message.device, message.epoch, message.seq, r.item)
                if name in wanted and not message.repeat:
                    found[name] = known.Found(
                        entry.key, r.value_num, r.value_code, r.comparator, r.absent, r.unit, r.time_sent_us
                    )
        found.update(known.by_origin(connection, (name for name in wanted if name not in found)))
        return found

    def _targets(self, connection: Connection, entries: Iterable[_Entry], state: _Slow) -> None:
        """Read the histories of measurements that corrections speak of and that the batch itself does not touch."""
        keys = {
            target
            for entry in entries
            if entry.reading.corrects and (target := self._target(entry, state)) and target not in state.histories
        }
        state.histories.update(known.histories(connection, list(keys)))

    @staticmethod
    def _target(entry: _Entry, state: _Slow) -> Key | None:
        """The measurement that a correction speaks of; None when it is not (yet) known."""
        message, r, corrects = entry.message, entry.reading, entry.reading.corrects
        assert corrects is not None
        if corrects.time_us is not None:
            return message.device, r.metric, r.site, corrects.time_us, r.index
        if corrects.seq < 0:
            return entry.key
        found = state.origins.get((message.device, corrects.epoch or message.epoch, corrects.seq, corrects.index))
        return found.key if found else None

    def _take(self, connection: Connection, work: Work, entry: _Entry, state: _Slow) -> None:
        message, r = entry.message, entry.reading
        sighting = rows.order(message, r.item)
        target = self._target(entry, state) if r.corrects else None
        if rows.retracts(r):
            if target is None:
                self._wait(connection, work, entry, derived=False)
                return
            r = retraction(r, target)
        key = target if rows.retracts(r) and target else entry.key
        history = state.histories[key]
        value = value_of(r)
        if message.repeat and (fault := self._repeated(entry, history, sighting, state)) is not None:
            if fault:
                work.refuse(message, r.item, "sequence_reused", fault)
            else:
                work.applied.duplicate += 1
            return
        new = history.place(value, sighting)
        if new is None:
            work.applied.duplicate += 1
        else:
            new.source = (message, r)
            history.cause = message
            work.applied.stored += 1
            work.applied.versions += len(history.versions) > 1
        if r.corrects and not rows.retracts(r):
            if target is None:
                self._wait(connection, work, entry, derived=True)
            elif target != entry.key:
                self._take_back(state.histories[target], sighting, message, retraction(r, target))
        for waiting in state.pending.pop((message.device, message.epoch, message.seq, r.item), ()):
            self._come_true(connection, work, waiting, entry.key, state)

    @staticmethod
    def _repeated(entry: _Entry, history: History, sighting: rows.Sighting, state: _Slow) -> str | None:
        """What a repeated item turns out to be: '' a duplicate, a sentence for reused, None for never stored."""
        message, r = entry.message, entry.reading
        value = value_of(r)
        before = history.sighted(sighting)
        if before is not None:
            return "" if before.value == value else _reused(message, r.item, "value")
        if history.says(value):
            return ""
        found = state.origins.get((message.device, message.epoch, message.seq, r.item))
        if found is None or found.key == entry.key:
            return None
        same = (found.value_num, found.value_code, found.comparator, found.absent, found.unit) == value
        # Another skew may have been seen at the resend, so that the corrected time differs; as sent it is the same.
        if same and found.time_sent_us == r.time_sent_us and found.key[1:3] == entry.key[1:3]:
            return ""
        return _reused(message, r.item, "measurement")

    @staticmethod
    def _take_back(history: History, sighting: rows.Sighting, message: Message, r: Reading) -> Version | None:
        """Put a derived retraction into the history of a measurement that was corrected to another time."""
        new = history.place(RETRACTED, sighting)
        if new is not None:
            new.source, new.derived = (message, r), True
            history.cause = message
        return new

    def _wait(self, connection: Connection, work: Work, entry: _Entry, *, derived: bool) -> None:
        """Keep a correction whose target has not come yet."""
        new = pending.keep(connection, work, entry.message, entry.reading, derived)
        if not derived:
            if new:
                work.applied.stored += 1
            else:
                work.applied.duplicate += 1

    def _come_true(self, connection: Connection, work: Work, waiting: Pending, key: Key, state: _Slow) -> None:
        """The target of a kept correction has come."""
        pending.drop(connection, waiting)
        if waiting.derived and waiting.key == key:
            return
        r = retraction(waiting.reading, key)
        new = self._take_back(state.histories[key], rows.order(waiting.message, r.item), waiting.message, r)
        if not waiting.derived:
            if new is None:
                work.applied.stored -= 1
                work.applied.duplicate += 1
            else:
                new.derived = False
        work.adopt(waiting.message, waiting.partition, waiting.message_id)


def retraction(r: Reading, target: Key) -> Reading:
    """The reading that stands for "this measurement is taken back"."""
    return msgspec.structs.replace(
        r, metric=target[1], site=target[2], time_us=target[3], index=target[4], value_num=None, value_code=None,
        comparator="", absent="", value_sent=None, unit_sent=r.unit, time_sent_us=target[3],
        corrects=Corrects(retract=True),
    )  # fmt: skip


def _reused(message: Message, item: int, what: str) -> str:
    return (
        f"epoch {message.epoch!r} seq {message.seq} item {item} was stored before with another {what}; "
        "count up by one for every message and start a new epoch when the counter starts over"
    )
