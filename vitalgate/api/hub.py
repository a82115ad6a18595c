"""Live queries of one process: changes are read by position, judged by the database for all subscribers at once.

Every change has a position, which only rises in the order in which changes became visible. A subscriber is given each
change that it may see, once, in this order; its cursor is the position. It joins at the position that the hub has taken
up to, and reads what lies between its cursor and that by itself: nothing falls between the two, and nothing is in both.
The notification of the database only wakes the hub up; a lost one costs a second. Any number of processes do the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg

from vitalgate.api import notifier
from vitalgate.api.subscribers import Bell, CursorGone, Ended, Subscriber, Wanted
from vitalgate.config.settings import Settings
from vitalgate.storage import records_changes
from vitalgate.storage.errors import TransientDatabaseError
from vitalgate.storage.records_changes import Change
from vitalgate.storage.records_database import Actor, RecordsDatabase
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)
T = TypeVar("T")
_POLL_S = 1.0
#: Wake-ups come with each batch that is stored, dozens a second: what came so long is told in one round.
_GAP_S = 0.03
_RETRY_S = 0.5
_SESSIONS_EVERY_S = 2.0
_BATCH = 500
#: Changes kept as they were sent: what is told to all at once.
_ENCODED = 256
_OPEN = """
    SELECT s.id FROM sessions s JOIN users u ON u.id = s.user_id
    WHERE s.id = ANY(%s) AND s.ended_at IS NULL AND s.expires_at > now() AND u.status = 'active'
"""


class Hub:
    """The live queries of this process."""

    def __init__(self, database: RecordsDatabase, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._subscribers: set[Subscriber] = set()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="live")
        self._taken = 0
        self._given = 0
        self._known = asyncio.Event()
        self._wake = asyncio.Event()
        self._stopping = False
        self._encoded: dict[tuple[int, str], Any] = {}
        self._checked = 0.0
        self._looked = 0.0
        self.bell = Bell()
        #: Called at each wake-up by the database, in the event loop.
        self.on_wake: Callable[[], None] = lambda: None

    @property
    def position(self) -> int:
        """Up to here every subscriber has been given what is its."""
        return self._given

    @property
    def stopping(self) -> bool:
        """Whether live queries are to end."""
        return self._stopping

    def stop(self) -> None:
        """End all live queries; clients come back by their cursors."""
        self._stopping = True
        self.bell.ring()
        for subscriber in self._subscribers:
            subscriber.end("stopping")
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        beside = [asyncio.create_task(self._listen()), asyncio.create_task(self._beat())]
        try:
            while not self._stopping:
                try:
                    await self._round()
                except (TransientDatabaseError, psycopg.OperationalError) as error:
                    log.warning("live queries wait for the database", extra={"detail": type(error).__name__})
                    await asyncio.sleep(_RETRY_S)
                except Exception:
                    # Whatever was in hand may not have been told: all come back by their cursors, and miss nothing.
                    log.exception("live queries begin anew")
                    for subscriber in self._subscribers:
                        subscriber.end("restarting")
                    await asyncio.sleep(_RETRY_S)
        finally:
            for task in beside:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            self._threads.shutdown(wait=False)

    async def _round(self) -> None:
        if not self._known.is_set():
            self._taken = self._given = await self._newest()
            self._known.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), _POLL_S)
        await asyncio.sleep(_GAP_S)
        self._wake.clear()
        if not self._subscribers:
            # Nobody listens here: who joins begins at the newest position or reads what lies before by itself.
            if time.monotonic() - self._looked < _POLL_S:
                return
            self._looked = time.monotonic()
            newest = await self._newest()
            if not self._subscribers:
                self._taken = self._given = max(self._taken, newest)
                return
        await self._call(records_changes.number, self._database)
        while True:
            changes = await self._call(records_changes.read, self._database, self._taken, _BATCH)
            if changes:
                await self._give(changes)
            if len(changes) < _BATCH:
                break
        if time.monotonic() - self._checked > _SESSIONS_EVERY_S:
            await self._end_closed(list(self._subscribers))

    async def _newest(self) -> int:
        await self._call(records_changes.number, self._database)
        return await self._call(records_changes.newest, self._database)

    async def _give(self, changes: Sequence[Change]) -> None:
        there = list(self._subscribers)
        self._taken = changes[-1].position  # whoever joins from now on reads these by itself
        while True:
            try:
                there = await self._end_closed(there)
                # Many may listen as one user, and see the same.
                users = list({(one.actor.user_id, one.actor.role): one.actor for one in there}.values())
                seen = await self._call(records_changes.deliver, self._database, changes, users)
                break
            except (TransientDatabaseError, psycopg.OperationalError):
                # These subscribers have only this way to learn of them: it is tried until it is done.
                if self._stopping:
                    return
                await asyncio.sleep(_RETRY_S)
        now = datetime.now(UTC)
        count = 0
        places = {(one.user_id, one.role): place for place, one in enumerate(users)}
        told = [(subscriber, places[subscriber.actor.user_id, subscriber.actor.role]) for subscriber in there]
        for change in changes:
            may = frozenset(seen.get(change.position, ()))
            for subscriber, place in told:
                if place in may and subscriber.wanted.takes(change):
                    subscriber.put(change)
                    count += 1
            metrics.LIVE_SECONDS.observe(max(0.0, (now - change.at).total_seconds()))
        metrics.LIVE_EVENTS.inc(count)
        self._given = self._taken

    async def _end_closed(self, there: list[Subscriber]) -> list[Subscriber]:
        """Without those whose session has ended; they are told so."""
        self._checked = time.monotonic()
        sessions = list({subscriber.actor.session_id for subscriber in there})
        if not sessions:
            return there
        still = await self._call(self._open_sessions, sessions)
        for subscriber in there:
            if subscriber.actor.session_id not in still:
                subscriber.end("logged out")
        return [subscriber for subscriber in there if not subscriber.cut]

    def _open_sessions(self, sessions: list[str]) -> set[str]:
        with self._database.accounts() as tx:
            return {row[0] for row in tx.connection.execute(_OPEN, (sessions,))}

    async def stream(self, actor: Actor, wanted: Wanted, after: int | None) -> AsyncIterator[Change | int]:
        """Changes after a position, as they come; a bare number is a position reached without one (heartbeat).

        The first item is always the position from which the live query begins.

        Raises
        ------
        CursorGone
            When changes after this position are no longer kept.
        Ended
            When the session ended, the process stops, or the subscriber is too slow.
        """
        await self._known.wait()
        newest = self._taken
        if after is None:
            if not self._subscribers:  # and so nobody has looked lately
                newest = await self._newest()
        else:
            oldest = await self._call(records_changes.oldest, self._database)
            newest = await self._call(records_changes.newest, self._database)
            if after < oldest - 1 or after > newest:
                raise CursorGone
        if self._stopping:
            raise Ended("stopping")
        start = self._taken if after is not None else max(self._taken, newest)
        subscriber = Subscriber(actor, wanted, self._settings.api.live_queue, start)
        self._subscribers.add(subscriber)
        self._wake.set()
        try:
            cursor = subscriber.start if after is None else after
            yield cursor
            while cursor < subscriber.start and not subscriber.cut:
                changes = await self._call(records_changes.read, self._database, cursor, _BATCH)
                changes = [change for change in changes if change.position <= subscriber.start]
                if not changes:
                    break
                seen = await self._call(records_changes.deliver, self._database, changes, [actor])
                for change in changes:
                    if seen.get(change.position) and wanted.takes(change):
                        yield change
                cursor = changes[-1].position
            if subscriber.cut:  # what lies between is not read: what comes after it must not be told either
                raise Ended(subscriber.cut)
            # A cursor that another process gave may be ahead of this one: what lies before it has been told.
            async for item in self._live(subscriber, max(cursor, subscriber.start)):
                yield item
        finally:
            self._subscribers.discard(subscriber)

    async def _live(self, subscriber: Subscriber, told: int) -> AsyncIterator[Change | int]:
        loop = asyncio.get_running_loop()
        while True:
            while subscriber.queue:
                change = subscriber.queue.popleft()
                if change.position > told:
                    yield change
            if subscriber.cut:
                raise Ended(subscriber.cut)
            if subscriber.beat:
                subscriber.beat = False
                # All up to here was put into the queue, which is empty.
                if self._given >= told:
                    yield self._given
                continue
            subscriber.waiter = loop.create_future()
            await subscriber.waiter

    async def _beat(self) -> None:
        """A quiet live query is told now and then up to where there was nothing for it."""
        every = self._settings.api.live_heartbeat_s
        while True:
            await asyncio.sleep(every / 4)
            quiet = time.monotonic() - every
            for subscriber in self._subscribers:
                if subscriber.heard <= quiet:
                    subscriber.heard = time.monotonic()
                    subscriber.beat = True
                    subscriber.wake()

    def once(self, change: Change, form: str, encode: Callable[[Change], T]) -> T:
        """A change in the form that it is sent in, made for the first subscriber and kept for the others."""
        found = self._encoded.get((change.position, form))
        if found is None:
            found = self._encoded[change.position, form] = encode(change)
            if len(self._encoded) > _ENCODED:
                del self._encoded[next(iter(self._encoded))]
        return found

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*arguments))

    def _noticed(self, channel: str, payload: str) -> None:
        schema, _, user = payload.partition(":")
        if schema not in ("", self._settings.database.db_schema):
            return
        if channel == notifier.CHANNEL:
            self.bell.ring(user)
        else:
            self._wake.set()
            self.on_wake()

    async def _listen(self) -> None:
        """Wake the hub at each notification."""
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._settings.database.dsn, autocommit=True, application_name="vitalgate api live"
                )
                async with connection:
                    for channel in (records_changes.CHANNEL, notifier.CHANNEL):
                        await connection.execute(f"LISTEN {channel}".encode())
                    self._wake.set()
                    self.bell.ring()
                    async for notice in connection.notifies():
                        self._noticed(notice.channel, notice.payload)
            except (OSError, psycopg.Error) as error:
                log.warning("not woken by the database for the moment", extra={"detail": type(error).__name__})
                await asyncio.sleep(_RETRY_S)
