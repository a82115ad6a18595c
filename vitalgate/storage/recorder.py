"""Applies validated batches to the database, each in one transaction with its line in the ledger."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

import orjson
import psycopg

from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.config.topics import RAW, full
from vitalgate.devices.reasons import Reason
from vitalgate.devices.records import ValidatedBatch
from vitalgate.storage import aggregates, deadletters, ledger_holes, rebuild, records_told, statuses
from vitalgate.storage.applied import Applied, merge
from vitalgate.storage.binary import Unstorable
from vitalgate.storage.connect import Connection, names
from vitalgate.storage.errors import StorageError, TransientDatabaseError, is_data
from vitalgate.storage.readings_writer import ReadingsWriter
from vitalgate.storage.session import Session
from vitalgate.storage.waveforms_writer import WaveformsWriter
from vitalgate.storage.work import Work, unencodable

log = logging.getLogger(__name__)

#: Faults of a value that are found while a row is encoded.
_ENCODING = (Unstorable, struct.error, OverflowError, UnicodeError, orjson.JSONEncodeError)


class _Trial(Exception):
    """Ends a transaction that was only tried."""


class Recorder:
    """One connection; calls come from one thread at a time.

    Parameters
    ----------
    fetch_raw
        Gives the original bytes of a raw record by (partition, offset), for dead letters that are found only here.
    """

    def __init__(
        self,
        database: DatabaseSettings,
        kafka: KafkaSettings,
        fetch_raw: Callable[[int, int], bytes | None] | None = None,
    ) -> None:
        self._settings = database
        self._topic = full(RAW, kafka)
        self._names = names(database)
        self._fetch_raw = fetch_raw
        self._session = Session(database, "recorder", database.batch_timeout_s, prepare=self._begin)
        self._readings = ReadingsWriter()
        self._waveforms = WaveformsWriter()
        self._applied: dict[int, int] = {}
        """Partition -> high-water mark as this recorder left it; anything else means another one wrote."""
        self._published: dict[int, int] = {}
        """Partition -> last offset published but not yet marked so."""

    def open(self) -> None:
        """Connect, unless connected. Raises TransientDatabaseError when the database is away."""
        self._session.open()

    def _begin(self, connection: Connection) -> None:
        self._forget()
        # Lookups are by key and few rows each; the planner must not be led to scan by statistics that lag behind.
        form = connection.execute("SELECT value FROM meta WHERE name = 'form'").fetchone()
        if self._settings.aggregates:
            timescale = form is not None and form[0] == "timescale"
            self._readings.marks = aggregates.marks_of_late if timescale else aggregates.marks
        connection.execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")

    def close(self) -> None:
        """Mark what is published and disconnect."""
        try:
            self.flush_published()
        except TransientDatabaseError:
            log.info("published ranges not marked; they will be published again")
        self._session.close()

    def __enter__(self) -> Recorder:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def high_water(self, partition: int) -> int:
        """The last raw offset applied of a partition; -1 when none is."""
        with self._transaction() as connection:
            return self._high_water(connection, partition)

    def apply(self, batch: ValidatedBatch) -> Applied:
        """Put a batch into the tables, or find that it is there already.

        A message whose content the database refuses for good is dead-lettered as `storage_refused`, item by item, so
        that one impossible value does not hold up all that follow it.

        Raises
        ------
        TransientDatabaseError
            The database is away or busy; nothing was committed, call again.
        StorageError
            The batch does not hold every offset that it claims.
        """
        _check_complete(batch)
        return self._settle(batch, fills=False)

    def _settle(self, batch: ValidatedBatch, *, fills: bool) -> Applied:
        refused: dict[int, str] = {}
        while True:
            try:
                applied = self._attempt(batch, refused, fills=fills)
                break
            except (*_ENCODING, psycopg.Error) as error:
                if isinstance(error, psycopg.Error) and not is_data(error):
                    raise
                found = {m.offset: fault for m in batch.messages if (fault := unencodable(m, batch.partition))}
                if found.keys() - refused.keys():
                    refused.update(found)
                elif isinstance(error, psycopg.Error):
                    refused.update(self._blame(batch, refused, error, fills=fills))
                else:
                    raise
                log.error("items are refused", extra={"partition": batch.partition, "messages": len(refused)})
        for first, last in applied.filled:
            part = [message for message in batch.messages if first <= message.offset <= last]
            merge(applied, self._settle(ValidatedBatch(batch.partition, first, last, part, batch.by), fills=True))
        return applied

    def mark_published(self, partition: int, last: int) -> None:
        """Note that all public records up to this raw offset are acknowledged; written with the next batch."""
        self._published[partition] = max(last, self._published.get(partition, -1))

    def flush_published(self) -> None:
        """Write what `mark_published` noted now."""
        if self._published:
            with self._transaction() as connection:
                self._mark(connection)
            self._published.clear()

    def unpublished(self, partition: int) -> Iterator[Applied]:
        """Ranges that were stored but not marked as published, with the ledger's counts and who made them.

        Their public records are made again from the tables.
        """
        with self._transaction() as connection:
            ranges = connection.execute(
                "SELECT first_offset, last_offset, messages, items, stored, duplicate, dead_lettered, derived, made_by,"
                " renumbered FROM ledger"
                " WHERE topic = %s AND partition = %s AND NOT published ORDER BY first_offset",
                (self._topic, partition),
            ).fetchall()
        for first, last, messages, items, stored, duplicate, dead, derived, by, renumbered in ranges:
            with self._transaction() as connection:
                applied = Applied(
                    partition, first, last, messages=messages, items=items, stored=stored, duplicate=duplicate,
                    dead_lettered=dead, derived=derived, by=by,
                )  # fmt: skip
                rebuild.fill(connection, applied, renumbered or [])
            yield applied

    # --- one transaction --------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._session.transaction() as connection:
                yield connection
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        self._applied.clear()
        self._readings.forget()
        self._waveforms.forget()

    def _high_water(self, connection: Connection, partition: int) -> int:
        row = connection.execute(
            "SELECT last_offset FROM ledger WHERE topic = %s AND partition = %s ORDER BY last_offset DESC LIMIT 1",
            (self._topic, partition),
        ).fetchone()
        return -1 if row is None else int(row[0])

    def _attempt(
        self, batch: ValidatedBatch, refused: dict[int, str], *, fills: bool, only: set[int] | None = None
    ) -> Applied:
        """One transaction.

        Parameters
        ----------
        refused
            Messages that the database does not take, by offset, with what it said.
        fills
            The batch lies in a hole of the ledger, below the high-water mark.
        only
            Try these offsets and roll back.
        """
        partition = batch.partition
        applied = Applied(partition, batch.first, batch.last)
        with suppress(_Trial), self._transaction() as connection:
            connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))",
                (f"{self._names.data} {self._topic}", partition),
            )
            before = self._high_water(connection, partition)
            if self._applied.get(partition, before) != before:
                log.warning("another recorder has written", extra={"partition": partition, "offset": before})
                self._readings.forget()
                self._waveforms.forget()
            due = batch.messages if fills else [message for message in batch.messages if message.offset > before]
            if only is not None:
                due = [message for message in due if message.offset in only]
            elif not fills:
                self._holes(connection, batch, before, applied)
            if due:
                work = Work(due, applied)
                for message in due:
                    if message.offset in refused:
                        work.refuse_all(message, Reason.STORAGE_REFUSED, refused[message.offset])
                self._write(connection, work)
                if only is None:
                    self._account(connection, batch, work)
                    records_told.readings(connection, work, partition, batch.first, batch.last)
            if only is not None:
                raise _Trial
            self._mark(connection)
        if only is None:
            self._published.clear()
            self._applied[partition] = max(before, batch.last)
            applied.skipped = len(batch.messages) - len(due)
        return applied

    def _write(self, connection: Connection, work: Work) -> None:
        self._readings.write(connection, work)
        self._waveforms.write(connection, work)
        statuses.write(connection, work)
        work.complete_payloads(self._fetch_raw)
        deadletters.write(connection, work)
        work.finish()

    def _holes(self, connection: Connection, batch: ValidatedBatch, before: int, applied: Applied) -> None:
        """Tell offsets that never came, and find those that came late."""
        if batch.first > before + 1:
            hole = (before + 1, batch.first - 1)
            applied.holes.append(hole)
            log.error("offsets are missing", extra={"partition": batch.partition, "first": hole[0], "last": hole[1]})
            connection.execute(
                "INSERT INTO ledger_holes (topic, partition, first_offset, last_offset) VALUES (%s, %s, %s, %s)",
                (self._topic, batch.partition, *hole),
            )
        if batch.first <= before:
            applied.filled = [
                (max(first, batch.first), min(last, batch.last))
                for first, last in connection.execute(
                    "SELECT first_offset, last_offset FROM ledger_holes WHERE topic = %s AND partition = %s"
                    " AND first_offset <= %s AND last_offset >= %s ORDER BY first_offset",
                    (self._topic, batch.partition, batch.last, batch.first),
                ).fetchall()
            ]

    def _account(self, connection: Connection, batch: ValidatedBatch, work: Work) -> None:
        applied = work.applied
        applied.messages = len(work.messages)
        applied.items = work.items
        applied.first, applied.last = work.messages[0].offset, work.messages[-1].offset
        connection.execute(
            """
            INSERT INTO ledger (topic, partition, first_offset, last_offset, messages, items, stored,
                duplicate, dead_lettered, derived, made_by, renumbered)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (
                self._topic, batch.partition, applied.first, applied.last, applied.messages, applied.items,
                applied.stored,
                applied.duplicate, applied.dead_lettered, applied.derived, batch.by,
                orjson.dumps(work.renumbered).decode() if work.renumbered else None,
            ),
        )  # fmt: skip
        if applied.last <= self._applied.get(batch.partition, -1):
            ledger_holes.fill(connection, self._topic, batch.partition, applied.first, applied.last)

    def _mark(self, connection: Connection) -> None:
        for partition, last in self._published.items():
            connection.execute(
                "UPDATE ledger SET published = true"
                " WHERE topic = %s AND partition = %s AND NOT published AND last_offset <= %s",
                (self._topic, partition, last),
            )

    def _blame(
        self, batch: ValidatedBatch, refused: dict[int, str], error: psycopg.Error, *, fills: bool
    ) -> dict[int, str]:
        """The first message with which a batch fails, found by halving: what comes before it is taken together.

        It may fail only because of what is before it; then it alone is refused, not all that has to do with it.
        """
        log.error(
            "the database refuses a batch",
            extra={"partition": batch.partition, "sqlstate": error.sqlstate, "constraint": error.diag.constraint_name},
        )
        offsets = [message.offset for message in batch.messages if message.offset not in refused]
        if not offsets:
            raise error
        taken, failing = 0, len(offsets)
        while failing - taken > 1:
            middle = (taken + failing) // 2
            try:
                self._attempt(batch, refused, fills=fills, only=set(offsets[:middle]))
                taken = middle
            except psycopg.Error as earlier:
                if not is_data(earlier):
                    raise
                failing, error = middle, earlier
        return {offsets[failing - 1]: sentence(error)}


def sentence(error: psycopg.Error) -> str:
    """What the database said, without the values it quotes in its detail."""
    return f"PostgreSQL refused it ({error.sqlstate}): {error.diag.message_primary or type(error).__name__}"


def _check_complete(batch: ValidatedBatch) -> None:
    wanted = batch.last - batch.first + 1
    if len(batch.messages) != wanted or any(m.offset != batch.first + i for i, m in enumerate(batch.messages)):
        raise StorageError(
            f"batch of partition {batch.partition} claims offsets {batch.first} to {batch.last} ({wanted}) but holds "
            f"{len(batch.messages)} messages, not one for each: intake must send every offset, in order"
        )
