"""What the simulators sent, and what was receipted: one SQLite file, the devices' own word against the system's.

Nothing in it comes from the system but the receipts. Joined with the database (``reckoning``) it says what became of
every item, independently of any counter.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_TABLES = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    kind TEXT NOT NULL,
    patient TEXT NOT NULL,
    leaf TEXT NOT NULL,
    epoch TEXT NOT NULL,          -- '' when the device numbers nothing
    seq INTEGER NOT NULL,         -- -1 when the device numbers nothing
    made_us INTEGER NOT NULL,     -- virtual time
    sent_us INTEGER NOT NULL,     -- the machine's time of the first publish; 0 before it
    sends INTEGER NOT NULL,       -- publishes so far
    acks INTEGER NOT NULL,        -- of these, acknowledged by the broker
    payload_hash BLOB NOT NULL,   -- BLAKE2b-128 of the bytes
    bytes INTEGER NOT NULL,
    wire TEXT NOT NULL,           -- json, cbor or raw
    note TEXT NOT NULL            -- what a scenario did here
);
CREATE TABLE IF NOT EXISTS items (
    message INTEGER NOT NULL REFERENCES messages (id),
    item INTEGER NOT NULL,        -- -1: the message as a whole
    expect TEXT NOT NULL,         -- stored, duplicate, version, retracted or dead:<reason>
    metric TEXT NOT NULL,         -- metric of a reading, channel of a waveform, '' otherwise
    site TEXT NOT NULL,
    time_us INTEGER NOT NULL,     -- event time as the right clock has it
    idx INTEGER NOT NULL,
    value REAL,
    code TEXT,
    unit TEXT NOT NULL,
    recording TEXT NOT NULL,
    first_sample INTEGER NOT NULL,
    count INTEGER NOT NULL,       -- samples of a waveform
    samples_hash BLOB,            -- BLAKE2b-128 of them as little-endian int32
    PRIMARY KEY (message, item)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipts (
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    kept_through INTEGER NOT NULL,
    rejected TEXT NOT NULL,       -- JSON
    at_us INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS messages_numbered ON messages (device, epoch, seq);
"""
_MESSAGE = "INSERT INTO messages VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_ITEM = "INSERT INTO items VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"


@dataclass(frozen=True)
class Item:
    """One item of a message and what must become of it."""

    expect: str
    metric: str = ""
    site: str = ""
    time_us: int = 0
    index: int = 0
    value: float | None = None
    code: str | None = None
    unit: str = ""
    recording: str = ""
    first_sample: int = 0
    count: int = 0
    samples_hash: bytes | None = None
    item: int | None = None
    """Its number in the message; its place in the list when None."""


def digest(data: bytes) -> bytes:
    """BLAKE2b-128, as the system hashes payloads."""
    return hashlib.blake2b(data, digest_size=16).digest()


class Journal:
    """Append only; rows are written by `flush`, which the run calls a few times a second. Not for several threads."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(self.path)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;" + _TABLES)
        (last,) = self._db.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
        self._next = int(last) + 1
        self._messages: list[tuple[object, ...]] = []
        self._items: list[tuple[object, ...]] = []
        self._sends: list[tuple[int, int]] = []
        self._acks: list[tuple[int]] = []
        self._receipts: list[tuple[object, ...]] = []
        self.messages = 0
        """Messages written down by this object."""
        self.items = 0
        self.receipts = 0

    def made(
        self, *, device: str, kind: str, patient: str, leaf: str, epoch: str, seq: int, made_us: int, payload: bytes,
        wire: str, items: Sequence[Item], note: str = "",
    ) -> int:  # fmt: skip
        """Write a message down before it is sent; its number."""
        number = self._next
        self._next += 1
        self._messages.append(
            (
                number,
                device,
                kind,
                patient,
                leaf,
                epoch,
                seq,
                made_us,
                0,
                0,
                0,
                digest(payload),
                len(payload),
                wire,
                note,
            )
        )
        for place, item in enumerate(items):
            self._items.append(
                (
                    number, place if item.item is None else item.item, item.expect, item.metric, item.site,
                    item.time_us, item.index, item.value, item.code, item.unit, item.recording, item.first_sample,
                    item.count, item.samples_hash,
                )
            )  # fmt: skip
        self.messages += 1
        self.items += len(items)
        return number

    def sent(self, number: int, at_us: int) -> None:
        """The message was handed to the broker (again)."""
        self._sends.append((at_us, number))

    def acked(self, number: int) -> None:
        """The broker acknowledged a publish of the message."""
        self._acks.append((number,))

    def receipt(self, device: str, epoch: str, kept_through: int, rejected: Iterable[object], at_us: int) -> None:
        """A receipt came."""
        self._receipts.append((device, epoch, kept_through, json.dumps(list(rejected)), at_us))
        self.receipts += 1

    def note(self, name: str, value: object) -> None:
        """Write down something about the run as a whole."""
        self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, json.dumps(value)))
        self._db.commit()

    def flush(self) -> None:
        """Write all that is waiting, in one transaction."""
        if not (self._messages or self._sends or self._acks or self._receipts):
            return
        with self._db:
            self._db.executemany(_MESSAGE, self._messages)
            self._db.executemany(_ITEM, self._items)
            self._db.executemany(
                "UPDATE messages SET sends = sends + 1, sent_us = CASE WHEN sent_us = 0 THEN ? ELSE sent_us END"
                " WHERE id = ?",
                self._sends,
            )
            self._db.executemany("UPDATE messages SET acks = acks + 1 WHERE id = ?", self._acks)
            self._db.executemany("INSERT INTO receipts VALUES (?,?,?,?,?)", self._receipts)
        for waiting in (self._messages, self._items, self._sends, self._acks, self._receipts):
            waiting.clear()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._db.close()


def read(path: Path | str) -> sqlite3.Connection:
    """The journal for reading. Raises FileNotFoundError when there is none."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no journal at {path}")
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)
