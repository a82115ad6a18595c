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
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg

from vitalgate.api import notifier
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
_OPEN = """
    SELECT s.id FROM sessions s JOIN users u ON u.id = s.user_id
    WHERE s.id = ANY(%s) AND s.ended_at IS NULL AND s.expires_at > now() AND u.status = 'active'
"""


@dataclass(frozen=True)
class Wanted:
    """What a subscriber asked for; empty means everything that it may see."""

    records: frozenset[str] = frozenset()
    patient: str = ""
    statuses: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()

    def takes(self, change: Change) -> bool:
        """Whether a change is of the kind that was asked for."""
        return (
            (not self.records or change.record in self.records)
            and (not self.patient or change.patient == self.patient)
            and (not self.statuses or change.status in self.statuses)
            and (not self.verbs or change.verb in self.verbs)
        )


class CursorGone(Exception):
    """What the cursor points to is no longer kept, or never was: read the records anew and begin without it."""


class Ended(Exception):
    """The live query is over; the text says why."""


@dataclass(eq=False)
class _Subscriber:
    actor: Actor
    wanted: Wanted
    queue: asyncio.Queue[Change]
    start: int
    cut: str = ""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, change: Change) -> None:
        if self.cut:
            return
        try:
            self.queue.put_nowait(change)
        except asyncio.QueueFull:
            self.end("slow")
        self.woken.set()

    def end(self, why: str) -> None:
        self.cut = self.cut or why
        self.woken.set()


class Bell:
    """Wakes what waits for one user's notifications."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    @contextlib.contextmanager
    def hear(self, user: str) -> Iterator[asyncio.Event]:
        """An event that is set at each notification of a user."""
        heard = asyncio.Event()
        self._waiting.setdefault(user, set()).add(heard)
        try:
            yield heard
        finally:
            self._waiting[user].discard(heard)
            if not self._waiting[user]:
                del self._waiting[user]

    def ring(self, user: str | None = None) -> None:
        """Wake those of a user, or all."""
        for name in [user] if user is not None else list(self._waiting):
            for heard in self._waiting.get(name, ()):
                heard.set()


class Hub:
    """The live queries of this process."""

    def __init__(self, database: RecordsDatabase, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._subscribers: set[_Subscriber] = set()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="live")
        self._taken = 0
        self._given = 0
        self._known = asyncio.Event()
        self._wake = asyncio.Event()
        self._stopping = False
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
        listening = asyncio.create_task(self._listen())
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
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
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
                seen = await self._call(
                    records_changes.deliver, self._database, changes, [subscriber.actor for subscriber in there]
                )
                break
            except (TransientDatabaseError, psycopg.OperationalError):
                # These subscribers have only this way to learn of them: it is tried until it is done.
                if self._stopping:
                    return
                await asyncio.sleep(_RETRY_S)
        now = datetime.now(UTC)
        count = 0
        for change in changes:
            for index in seen.get(change.position, ()):
                if there[index].wanted.takes(change):
                    there[index].put(change)
                    count += 1
            metrics.LIVE_SECONDS.observe(max(0.0, (now - change.at).total_seconds()))
        metrics.LIVE_EVENTS.inc(count)
        self._given = self._taken

    async def _end_closed(self, there: list[_Subscriber]) -> list[_Subscriber]:
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
        queue: asyncio.Queue[Change] = asyncio.Queue(self._settings.api.live_queue)
        if self._stopping:
            raise Ended("stopping")
        subscriber = _Subscriber(actor, wanted, queue, self._taken if after is not None else max(self._taken, newest))
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

    async def _live(self, subscriber: _Subscriber, told: int) -> AsyncIterator[Change | int]:
        while True:
            while not subscriber.queue.empty():
                change = subscriber.queue.get_nowait()
                if change.position > told:
                    yield change
            if subscriber.cut:
                raise Ended(subscriber.cut)
            subscriber.woken.clear()
            reached = self._given
            try:
                await asyncio.wait_for(subscriber.woken.wait(), self._settings.api.live_heartbeat_s)
            except TimeoutError:
                if subscriber.queue.empty() and reached >= told:
                    yield reached

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
