"""What a device has measured and nobody has confirmed yet: in SQLite, so that it outlives a power cut."""

from __future__ import annotations

import itertools
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vitalgate.client.protocol import Key, Receipt, Rejected, Settled

#: Payload bytes that an outbox holds unless told otherwise: a day of one 250 Hz lead is about 22 MB packed.
DEFAULT_MAX_BYTES = 256 * 1024 * 1024
_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, epoch TEXT NOT NULL, seq INTEGER NOT NULL, leaf TEXT NOT NULL,
    body BLOB NOT NULL, UNIQUE (epoch, seq));
CREATE TABLE IF NOT EXISTS rejected (
    number INTEGER PRIMARY KEY AUTOINCREMENT, epoch TEXT NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL,
    detail TEXT NOT NULL, leaf TEXT NOT NULL, body BLOB NOT NULL);
"""
#: Rejected messages kept for a look, the latest.
REJECTED_MAX = 1000


class OutboxFull(Exception):
    """The outbox has reached its bound: nothing was taken, nothing was lost that was in it."""


class OutboxError(Exception):
    """The outbox file cannot be used; the text says why and what to do."""


class Stored(NamedTuple):
    """One message in the outbox."""

    epoch: str
    seq: int
    leaf: str
    """readings, waveforms or status."""
    body: bytes
    """Encoded without epoch, seq and sent_at; `protocol.message` puts them in."""


def new_epoch() -> str:
    """A name that no other opening of this device's outbox has had: 48 random bits."""
    return secrets.token_hex(6)


class Outbox:
    """Messages without a receipt, in an SQLite file; thread-safe.

    Each opening begins a new epoch, with numbers from 1: a file restored from a backup, or cloned with its device,
    can therefore never give a number twice to different content. Messages of earlier epochs keep theirs.

    Parameters
    ----------
    path
        The file, made when it is not there; `:memory:` keeps nothing over a restart.
    max_bytes
        Bound on the stored payload bytes.
    durable
        True: a message is on the disk before `add` returns (WAL with full sync). False: a power cut, not a crash,
        may take the latest.

    Raises
    ------
    OutboxError
        When the file cannot be opened.
    """

    def __init__(self, path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES, durable: bool = True) -> None:
        self.path = str(path)
        self.max_bytes = max_bytes
        self.epoch = new_epoch()
        self._seq = 0
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=2.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            # One process at a time: a second one would number beside us and delete what we have not sent.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("COMMIT")
            self._db.executescript(_SCHEMA)
            self._bytes = int(self._db.execute("SELECT coalesce(sum(length(body)), 0) FROM outbox").fetchone()[0])
        except sqlite3.Error as error:
            raise OutboxError(
                f"the outbox {self.path} cannot be opened ({error}); is another process using it, or the disk full?"
            ) from error

    def add(self, leaf: str, body: bytes) -> Key:
        """Store one message and return its number.

        Raises
        ------
        OutboxFull
            When `max_bytes` would be exceeded; the device decides what to give up (`discard`).
        OutboxError
            When the disk does not take it.
        """
        with self._lock:
            if self._bytes + len(body) > self.max_bytes:
                raise OutboxFull(
                    f"the outbox {self.path} holds {self._bytes} bytes of messages without a receipt and has no room "
                    f"for {len(body)} more (limit {self.max_bytes}): is the device offline for longer than planned, "
                    "or are its messages not receipted?"
                )
            seq = self._seq + 1
            try:
                self._db.execute(
                    "INSERT INTO outbox (epoch, seq, leaf, body) VALUES (?, ?, ?, ?)", (self.epoch, seq, leaf, body)
                )
            except sqlite3.Error as error:
                raise OutboxError(f"the outbox {self.path} did not take a message: {error}") from error
            self._seq = seq
            self._bytes += len(body)
            return self.epoch, seq

    def get(self, key: Key) -> Stored | None:
        """One message, or None when it is not there any more."""
        with self._lock:
            row = self._db.execute("SELECT epoch, seq, leaf, body FROM outbox WHERE epoch=? AND seq=?", key).fetchone()
        return None if row is None else Stored(*row)

    def front(self, after: int = 0, limit: int = 1000) -> list[tuple[int, Key]]:
        """The oldest messages behind place `after`, as (place, key): read on from the last place got."""
        with self._lock:
            rows = self._db.execute(
                "SELECT number, epoch, seq FROM outbox WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
            )
            return [(number, (epoch, seq)) for number, epoch, seq in rows]

    def settle(self, receipt: Receipt) -> Settled:
        """Remove what a receipt names: kept messages go, refused ones move to the `rejected` table."""
        settled = Settled()
        with self._transaction():
            for item in receipt.rejected:
                row = self._db.execute(
                    "SELECT number, leaf, body FROM outbox WHERE epoch=? AND seq=?", (item.epoch, item.seq)
                ).fetchone()
                if row is not None:
                    self._remove(row[0], len(row[2]))
                    self._db.execute(
                        "INSERT INTO rejected (epoch, seq, reason, detail, leaf, body) VALUES (?, ?, ?, ?, ?, ?)",
                        (*item, *row[1:]),
                    )
                    settled.rejected.append(item)
            if settled.rejected:
                self._db.execute(
                    "DELETE FROM rejected WHERE number <= (SELECT max(number) FROM rejected) - ?", (REJECTED_MAX,)
                )
            for first, last in ((0, receipt.kept_through), *receipt.beyond):
                rows = self._db.execute(
                    "SELECT number, seq, length(body) FROM outbox WHERE epoch=? AND seq BETWEEN ? AND ? ORDER BY seq",
                    (receipt.epoch, first, last),
                ).fetchall()
                for number, seq, size in rows:
                    self._remove(number, size)
                    settled.kept.append((receipt.epoch, seq))
        return settled

    def discard(self, key: Key) -> Stored | None:
        """Give one message up; returns it, or None when it was not there."""
        with self._transaction():
            row = self._db.execute("SELECT number, leaf, body FROM outbox WHERE epoch=? AND seq=?", key).fetchone()
            if row is None:
                return None
            self._remove(row[0], len(row[2]))
        return Stored(*key, row[1], row[2])

    def replace(self, key: Key, leaf: str, body: bytes) -> bool:
        """Put other content under a number that is in the outbox; False when it is not there any more."""
        with self._transaction():
            row = self._db.execute("SELECT number, length(body) FROM outbox WHERE epoch=? AND seq=?", key).fetchone()
            if row is None:
                return False
            self._db.execute("UPDATE outbox SET leaf=?, body=? WHERE number=?", (leaf, body, row[0]))
            self._bytes += len(body) - row[1]
        return True

    def _remove(self, number: int, size: int) -> None:
        self._db.execute("DELETE FROM outbox WHERE number=?", (number,))
        self._bytes -= size

    def rejected(self) -> list[tuple[Rejected, Stored]]:
        """The latest refused messages, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT epoch, seq, reason, detail, leaf, body FROM rejected ORDER BY number")
            return [(Rejected(*row[:4]), Stored(row[0], row[1], row[4], row[5])) for row in rows]

    def size(self) -> int:
        """Payload bytes stored."""
        return self._bytes

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def close(self) -> None:
        """Close the file; messages stay in it."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            before = self._bytes
            try:
                self._db.execute("BEGIN")
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                self._bytes = before
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise OutboxError(f"the outbox {self.path} cannot be written: {error}") from error
                raise


class MemoryOutbox:
    """The same in memory, for programs that lose nothing by a restart (simulators, tests)."""

    def __init__(self, *, max_bytes: int = DEFAULT_MAX_BYTES, epoch: str | None = None) -> None:
        self.path = ":memory:"
        self.max_bytes = max_bytes
        self.epoch = epoch or new_epoch()
        self._seq = 0
        self._bytes = 0
        self._rows: dict[Key, Stored] = {}
        self._rejected: list[tuple[Rejected, Stored]] = []
        self._lock = threading.Lock()

    def add(self, leaf: str, body: bytes) -> Key:
        """As `Outbox.add`."""
        with self._lock:
            if self._bytes + len(body) > self.max_bytes:
                raise OutboxFull(f"the outbox holds {self._bytes} bytes, {len(body)} more exceed {self.max_bytes}")
            self._seq += 1
            key = self.epoch, self._seq
            self._rows[key] = Stored(*key, leaf, body)
            self._bytes += len(body)
            return key

    def get(self, key: Key) -> Stored | None:
        """As `Outbox.get`."""
        return self._rows.get(key)

    def front(self, after: int = 0, limit: int = 1000) -> list[tuple[int, Key]]:
        """As `Outbox.front`."""
        with self._lock:
            keys = ((key[1], key) for key in self._rows if key[1] > after)
            return list(itertools.islice(keys, limit))

    def settle(self, receipt: Receipt) -> Settled:
        """As `Outbox.settle`."""
        settled = Settled()
        if receipt.epoch != self.epoch:
            return settled
        with self._lock:
            for item in receipt.rejected:
                row = self._rows.pop((item.epoch, item.seq), None)
                if row is not None:
                    self._bytes -= len(row.body)
                    self._rejected.append((item, row))
                    settled.rejected.append(item)
            del self._rejected[:-REJECTED_MAX]
            last = max([receipt.kept_through, *(stop for _, stop in receipt.beyond)])
            for key in list(itertools.takewhile(lambda key: key[1] <= last, self._rows)):
                if receipt.covers(key[1]):
                    self._bytes -= len(self._rows.pop(key).body)
                    settled.kept.append(key)
        return settled

    def discard(self, key: Key) -> Stored | None:
        """As `Outbox.discard`."""
        with self._lock:
            row = self._rows.pop(key, None)
            if row is not None:
                self._bytes -= len(row.body)
            return row

    def replace(self, key: Key, leaf: str, body: bytes) -> bool:
        """As `Outbox.replace`."""
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                return False
            self._rows[key] = Stored(*key, leaf, body)
            self._bytes += len(body) - len(row.body)
            return True

    def rejected(self) -> list[tuple[Rejected, Stored]]:
        """As `Outbox.rejected`."""
        return list(self._rejected)

    def size(self) -> int:
        """Payload bytes stored."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._rows)

    def close(self) -> None:
        """Forget everything."""
        self._rows.clear()
