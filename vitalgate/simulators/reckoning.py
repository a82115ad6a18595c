"""The journal joined with the database: what became of every item that was sent, and how long it took.

Nothing here trusts a counter of the system's: an item counts as kept when a row is found that has it.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from vitalgate.simulators import journal as journals

_CHUNK = 500
"""Devices asked for in one query."""


@dataclass(frozen=True)
class Sent:
    """One item of the journal, with what is needed of its message."""

    message: int
    device: str
    kind: str
    leaf: str
    epoch: str
    seq: int
    sent_us: int
    sends: int
    payload_hash: bytes
    note: str
    item: int
    expect: str
    metric: str
    site: str
    time_us: int
    index: int
    value: float | None
    code: str | None
    unit: str
    recording: str
    first_sample: int
    count: int


@dataclass
class Reckoning:
    """The outcome. Items are readings, waveform blocks, statuses, or undecodable messages as a whole."""

    published: int = 0
    """Items handed to the broker, repeats included."""
    unconfirmed: int = 0
    """Of these, handed to a connection that broke before the broker acknowledged them."""
    acked: int = 0
    """Items of messages that were receipted or, without number, acknowledged by the broker."""
    made: int = 0
    """Different items."""
    stored: int = 0
    """Rows found, versions among them."""
    duplicate: int = 0
    """Items published beyond those that have a row of their own."""
    resent: int = 0
    """Items of publishes beyond a message's first, acknowledged by the broker."""
    gaps: int = 0
    """Devices that have sent a number which no receipt covers."""
    dead_lettered: int = 0
    lost: int = 0
    never_sent: int = 0
    readings: int = 0
    versions: int = 0
    waveforms: int = 0
    samples: int = 0
    features: int = 0
    beats: int = 0
    alerts: int = 0
    dead_by_reason: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[str] = field(default_factory=Counter)
    """Items stored by kind of device."""
    wrong: list[str] = field(default_factory=list)
    """Items that are there, but not as sent; and lost ones, the first few."""
    device_to_row_ms: list[float] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Everything sent is somewhere."""
        return self.lost == 0


def reckon(journal: Path | str, dsn: str, schema: str) -> Reckoning:
    """Join a journal with the database.

    Parameters
    ----------
    dsn, schema
        Connection string of a role that may read the tables, and the deployment's schema (settings database.*).
    """
    book = journals.read(journal)
    try:
        with psycopg.connect(dsn, autocommit=True, options=f"-c search_path={schema}_data") as database:
            return _Join(book, database).run()
    finally:
        book.close()


class _Join:
    def __init__(self, book: sqlite3.Connection, database: psycopg.Connection[Any]) -> None:
        self.book = book
        self.database = database
        self.result = Reckoning()

    def run(self) -> Reckoning:
        devices = [row[0] for row in self.book.execute("SELECT DISTINCT device FROM messages ORDER BY device")]
        through, rejected = self._receipts()
        for chunk in _chunks(devices, _CHUNK):
            rows = _Rows(self.database, chunk)
            self._judge(chunk, rows, through, rejected)
        self._sums(devices)
        newest = self.book.execute(
            "SELECT device, epoch, max(seq) FROM messages WHERE epoch <> '' AND sends > 0 GROUP BY device, epoch"
        )
        self.result.gaps = len({device for device, epoch, seq in newest if through.get((device, epoch), -1) < seq})
        result = self.result
        result.duplicate = max(
            0, result.published - result.unconfirmed - result.stored - result.dead_lettered - result.lost
        )
        return result

    def _receipts(self) -> tuple[dict[tuple[str, str], int], set[tuple[str, str, int]]]:
        through: dict[tuple[str, str], int] = {}
        rejected: set[tuple[str, str, int]] = set()
        for device, epoch, kept, refused in self.book.execute(
            "SELECT device, epoch, kept_through, rejected FROM receipts"
        ):
            through[device, epoch] = max(kept, through.get((device, epoch), -1))
            for seq, *_ in json.loads(refused):
                rejected.add((device, epoch, seq))
        return through, rejected

    def _judge(
        self, devices: Sequence[str], rows: _Rows, through: dict[tuple[str, str], int],
        rejected: set[tuple[str, str, int]],
    ) -> None:  # fmt: skip
        result = self.result
        fastest: dict[int, float] = {}
        for sent, confirmed in self._items(devices):
            result.made += 1
            result.published += sent.sends
            result.unconfirmed += max(0, sent.sends - confirmed)
            result.resent += max(0, confirmed - 1)
            if sent.sends == 0:
                result.never_sent += 1
                continue
            kept = sent.seq <= through.get((sent.device, sent.epoch), -1)
            if kept or (sent.device, sent.epoch, sent.seq) in rejected or (not sent.epoch and confirmed):
                result.acked += min(sent.sends, confirmed)
            found = rows.find(sent)
            if found is None:
                result.lost += 1
                self._wrong(f"lost: {sent}")
                continue
            fault, committed_us = found
            if fault:
                self._wrong(f"{fault}: {sent}")
            if committed_us and sent.sends == 1 and sent.sent_us:
                took = (committed_us - sent.sent_us) / 1000
                fastest[sent.message] = max(took, fastest.get(sent.message, took))
            if sent.expect in ("stored", "version"):
                result.by_kind[sent.kind] += 1
        result.device_to_row_ms.extend(fastest.values())

    def _wrong(self, text: str) -> None:
        if len(self.result.wrong) < 20:
            self.result.wrong.append(text)

    def _items(self, devices: Sequence[str]) -> Iterator[tuple[Sent, int]]:
        for row in self.book.execute(
            "SELECT m.id, device, kind, leaf, epoch, seq, sent_us, sends, payload_hash, note, item, expect, metric,"
            " site, time_us, idx, value, code, unit, recording, first_sample, count, acks"
            " FROM items i JOIN messages m ON m.id = i.message WHERE device IN (SELECT value FROM json_each(?))",
            (json.dumps(list(devices)),),
        ):
            yield Sent(*row[:-1]), row[-1]

    def _sums(self, devices: Sequence[str]) -> None:
        """Counts of rows: what the tables hold for these devices, whatever the journal says."""
        result = self.result

        def one(query: LiteralString, names: Sequence[str] = devices) -> tuple[Any, ...]:
            row = self.database.execute(query, (list(names),)).fetchone()
            assert row is not None
            return tuple(row)

        readings, versions = one(
            "SELECT count(*), count(*) FILTER (WHERE version > 1) FROM readings"
            " WHERE NOT derived AND device_id = ANY(%s)"
        )
        waveforms, samples = one(
            "SELECT coalesce(sum(n_items), 0), coalesce(sum(count), 0) FROM waveforms WHERE device_id = ANY(%s)"
        )
        (statuses,) = one("SELECT count(*) FROM device_status WHERE device_id = ANY(%s)")
        result.readings, result.versions = int(readings), int(versions)
        result.waveforms, result.samples = int(waveforms), int(samples)
        result.stored = int(readings) + int(waveforms) + int(statuses)
        for reason, count in self.database.execute(
            "SELECT reason, count(*) FROM dead_letters WHERE device_id = ANY(%s) GROUP BY reason", (list(devices),)
        ):
            result.dead_by_reason[reason] = count
        result.dead_lettered = sum(result.dead_by_reason.values())
        (result.features,) = one("SELECT count(*) FROM features WHERE NOT withdrawn AND device_id = ANY(%s)")
        (result.beats,) = one("SELECT count(*) FROM beats WHERE device_id = ANY(%s)")
        patients = [row[0] for row in self.book.execute("SELECT DISTINCT patient FROM messages WHERE patient <> ''")]
        (result.alerts,) = one("SELECT count(DISTINCT alert_id) FROM alert_events WHERE patient_id = ANY(%s)", patients)


class _Rows:
    """The rows of some devices, arranged for finding."""

    def __init__(self, database: psycopg.Connection[Any], devices: Sequence[str]) -> None:
        self.database = database
        self.devices = list(devices)
        commits = self._commits()
        self.readings: dict[tuple[str, str, int, int], tuple[tuple[Any, ...], int]] = {}
        self.measured: dict[tuple[str, str, str, int, int], list[tuple[tuple[Any, ...], int]]] = defaultdict(list)
        for device, metric, site, at, idx, sent, code, unit, retracted, epoch, seq, item, part, offset in self._ask(
            # What was sent is written down only where it differs from the canonical value.
            "SELECT device_id, metric, site, (extract(epoch FROM time) * 1000000)::bigint, idx,"
            " CASE WHEN unit_sent IS NULL THEN value_num ELSE value_sent END, value_code, coalesce(unit_sent, unit),"
            " retracted, epoch, seq, item, raw_partition, raw_offset FROM readings"
        ):
            entry = ((sent, code, unit, retracted), commits(part, offset))
            if epoch:
                self.readings[device, epoch, seq, item] = entry
            self.measured[device, metric, site, at, idx].append(entry)
        self.blocks: dict[tuple[str, str, str], list[tuple[int, int, int]]] = defaultdict(list)
        for device, channel, recording, first, count, part, offset in self._ask(
            "SELECT device_id, channel, recording, first_sample, count, raw_partition, raw_offset FROM waveforms"
        ):
            self.blocks[device, channel, recording].append((first, first + count, commits(part, offset)))
        for blocks in self.blocks.values():
            blocks.sort()
        self.statuses: dict[tuple[str, str, int], int] = {}
        self.status_times: dict[tuple[str, int], int] = {}
        for device, epoch, seq, at, part, offset in self._ask(
            "SELECT device_id, epoch, seq, (extract(epoch FROM time) * 1000000)::bigint, raw_partition, raw_offset"
            " FROM device_status"
        ):
            self.statuses[device, epoch, seq] = self.status_times[device, at] = commits(part, offset)
        self.dead: dict[tuple[str, str, int], set[str]] = defaultdict(set)
        self.dead_bytes: dict[tuple[str, bytes], set[str]] = defaultdict(set)
        for device, epoch, seq, reason, hashed in self._ask(
            "SELECT device_id, epoch, seq, reason, payload_hash FROM dead_letters"
        ):
            if epoch:
                self.dead[device, epoch, seq].add(reason)
            self.dead_bytes[device, bytes(hashed)].add(reason)

    def _ask(self, query: LiteralString) -> Iterable[tuple[Any, ...]]:
        return self.database.execute(query + " WHERE device_id = ANY(%s)", (self.devices,))

    def _commits(self) -> Any:
        """Time of the ledger range that a raw record went in with, by partition and offset."""
        ranges: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for partition, last, at in self.database.execute(
            "SELECT partition, last_offset, (extract(epoch FROM applied_at) * 1000000)::bigint FROM ledger"
            " ORDER BY partition, last_offset"
        ):
            ranges[partition][0].append(last)
            ranges[partition][1].append(at)

        def committed(partition: int, offset: int) -> int:
            lasts, times = ranges[partition]
            place = bisect_left(lasts, offset)
            return times[place] if place < len(times) else 0

        return committed

    def find(self, sent: Sent) -> tuple[str, int] | None:
        """(fault or '', when committed) of an item; None when there is no trace of it."""
        if sent.expect.startswith("dead:"):
            return self._find_dead(sent)
        if sent.leaf == "waveforms":
            return self._find_block(sent)
        if sent.leaf == "status":
            at = self.statuses.get((sent.device, sent.epoch, sent.seq)) or self.status_times.get(
                (sent.device, sent.time_us)
            )
            return None if at is None else ("", at)
        return self._find_reading(sent)

    def _find_reading(self, sent: Sent) -> tuple[str, int] | None:
        own = self.readings.get((sent.device, sent.epoch, sent.seq, sent.item)) if sent.epoch else None
        there = [own] if own else self.measured.get((sent.device, sent.metric, sent.site, sent.time_us, sent.index), [])
        if not there:
            refused = self.dead.get((sent.device, sent.epoch, sent.seq)) if sent.epoch else None
            return (f"refused ({', '.join(sorted(refused))})", 0) if refused else None
        for (value, code, unit, retracted), at in there:
            if sent.expect == "retracted":
                if retracted:
                    return "", at
            elif (value, code or None) == (sent.value, sent.code) and (unit or "") == sent.unit:
                return "", at if own else 0
        values = "; ".join(f"{value if code is None else code} {unit}" for (value, code, unit, _), _ in there)
        return f"stored as {values}", 0

    def _find_block(self, sent: Sent) -> tuple[str, int] | None:
        at = 0
        need, stop = sent.first_sample, sent.first_sample + sent.count
        for first, last, committed in self.blocks.get((sent.device, sent.metric, sent.recording), ()):
            if first <= need < last:
                need = last
                at = max(at, committed)
                if need >= stop:
                    return "", at
        refused = self.dead.get((sent.device, sent.epoch, sent.seq)) if sent.epoch else None
        return (f"refused ({', '.join(sorted(refused))})", 0) if refused else None

    def _find_dead(self, sent: Sent) -> tuple[str, int] | None:
        reasons = self.dead.get((sent.device, sent.epoch, sent.seq), set()) if sent.epoch else set()
        reasons = reasons | self.dead_bytes.get((sent.device, sent.payload_hash), set())
        if not reasons:
            return None
        wanted = sent.expect.removeprefix("dead:")
        return ("" if wanted in reasons else f"dead-lettered as {', '.join(sorted(reasons))}", 0)


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which that share of the values lies; None when there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
