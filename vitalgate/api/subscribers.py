"""Live queries of one process that go on: what each wants, what waits for it, and how it is woken."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from vitalgate.storage.records_changes import Change
from vitalgate.storage.records_database import Actor


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
class Subscriber:
    """One live query that goes on.

    Attributes
    ----------
    most
        Changes that may wait for a slow client; above that it is cut, and comes back by its cursor.
    start
        The position up to which it reads by itself.
    cut
        Why it is over, once it is.
    beat
        It was quiet for a while: to be told the position.
    """

    actor: Actor
    wanted: Wanted
    most: int
    start: int
    queue: deque[Change] = field(default_factory=deque)
    cut: str = ""
    beat: bool = False
    heard: float = field(default_factory=time.monotonic)
    waiter: asyncio.Future[None] | None = None

    def put(self, change: Change) -> None:
        """Hand it a change."""
        if self.cut:
            return
        if len(self.queue) >= self.most:
            self.end("slow")
            return
        self.queue.append(change)
        self.heard = time.monotonic()
        self.wake()

    def end(self, why: str) -> None:
        """It is over."""
        self.cut = self.cut or why
        self.wake()

    def wake(self) -> None:
        """There is something for it."""
        # A thousand wait at once: a bare future costs a tenth of a timeout each.
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


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
