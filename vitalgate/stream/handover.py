"""`handover`: alert events to webhooks, mails and phones. Thin over `vitalgate.handover`; needs no database.

What is due, gathered and tried again is remembered on the compacted topic handover.memory. The order of writing is what
makes a kill harmless: first the memory, in which a notification counts as under way and which holds the records that
tell of it; then these records; only then the notification goes out. After a kill whatever was under way goes out again
under the same id, by which a receiver drops it; nothing is decided twice.

It runs on the clock on the wall: receivers live by it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import orjson

from vitalgate.config import topics
from vitalgate.handover.delivery import AlertDelivery
from vitalgate.handover.memory import Delivery, Memory, pack, unpack
from vitalgate.handover.notice import notice
from vitalgate.handover.outcome import Outcome
from vitalgate.handover.post import Limits, Post
from vitalgate.stream import handover_records as out
from vitalgate.stream import lookback
from vitalgate.stream.audit_inbox import AuditEvent, send_audit
from vitalgate.stream.groups import group
from vitalgate.stream.handover_clinicians import ClinicianTeams
from vitalgate.stream.handover_ways import Way, Ways
from vitalgate.stream.headers import content_id, headers
from vitalgate.stream.worker import Context, Record, Worker
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: How often the file of destinations is looked at.
REFRESH_S = 2.0
#: What is already on the topic is read first, so that nobody is told of what has long been answered; but when nothing
#: more comes for so long, there is nothing more.
CATCH_UP_S = 5.0
#: A sender that says nothing for so many timeouts of an attempt is given up; its thread may be stuck.
_STUCK = 6.0

#: The memory is written again without what it has told after this long.
AGAIN_US = 1_000_000

Key = tuple[int, str]
"""Partition and patient."""


@dataclass
class _Under:
    """One attempt."""

    key: Key
    delivery: str
    destination: str
    way: Way
    outcome: Outcome | None = None


class Handover(Worker):
    """See the module."""

    name = "handover"
    topics = (topics.ALERTS,)
    tick_s = 0.25

    async def start(self, context: Context) -> None:
        """Read the destinations and who the clinicians are.

        Raises
        ------
        vitalgate.handover.destinations.DestinationsError
            When the file of destinations cannot be used.
        """
        await super().start(context)
        settings = context.settings.handover
        times = (settings.window_s, settings.moment_s, settings.deadline_s, settings.give_up_s, settings.stale_s)
        self.limits = Limits(*(round(seconds * 1e6) for seconds in times))
        self.posts: dict[Key, Post] = {}
        self.wakes: dict[Key, int] = {}
        """When each patient is to be looked at next, us."""
        self.dirty: set[Key] = set()
        """Whose memory Kafka has not as it is."""
        self.again: dict[Key, int] = {}
        """Whose memory is to be written once more without the records that have been told since, and when, us."""
        self.begun: list[_Under] = []
        """To go out as soon as Kafka has that they do."""
        self.ended: list[_Under] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.behind: dict[int, int] = {}
        """Where the topic ended when partitions came that have not been read so far yet."""
        self.moved = time.monotonic()
        self.refresh_at = 0.0
        if not hasattr(self, "ways"):
            self.ways = Ways(settings.destinations, settings.attempt_s)
            self.clinicians = ClinicianTeams(context.settings.kafka)
            await self.ways.load()
            if not self.ways.by_name:
                log.info("no destinations (handover.destinations): alerts are on Kafka and MQTT only")
        await self.clinicians.ready()

    async def on_assigned(self, partitions: frozenset[int]) -> None:
        """Load what is remembered of the patients of these partitions."""
        self._forget()
        now = _now()
        kafka = self.context.settings.kafka
        done = await lookback.committed(kafka, group(self.context.settings, self.name), topics.ALERTS, partitions)
        for partition in sorted(partitions):
            end = await lookback.end_offset(kafka, topics.ALERTS, partition)
            if end > (done[partition] or 0):
                self.behind[partition] = end
            records = await lookback.load_compacted(kafka, topics.HANDOVER_MEMORY, partition)
            for key, record in records.items():
                try:
                    memory = unpack(record.value or b"")
                    place = (partition, key.decode())
                except (msgspec.MsgspecError, ValueError) as error:
                    # Written by another release: the patient starts afresh rather than stopping everybody's alerts.
                    log.error("memory cannot be read", extra={"offset": record.offset, "error": str(error)})
                    continue
                post = self.posts[place] = Post(memory, self.limits)
                post.resume(now)
                self.dirty.add(place)
        self.moved = time.monotonic()

    async def on_revoked(self, partitions: frozenset[int]) -> None:
        """Forget them; what is under way ends, and counts for nothing."""
        self._forget()

    def _forget(self) -> None:
        for attempt in self.begun:
            attempt.way.lane.end(True)
        for state in (self.posts, self.wakes, self.dirty, self.again, self.begun, self.ended, self.behind):
            state.clear()

    async def handle(self, batch: list[Record]) -> None:
        """What these events ask for, in memory that Kafka has."""
        now = _now()
        self.moved = time.monotonic()
        for record in batch:
            if record.value is not None:
                self._take(record, now)
            if record.offset + 1 >= self.behind.get(record.partition, record.offset + 2):
                self.behind.pop(record.partition, None)
        await self._work(now)

    def _take(self, record: Record, now: int) -> None:
        event = orjson.loads(record.value or b"")
        teams = self.clinicians.teams
        wanting = {
            name: destination for name, destination in self.ways.destinations.items() if destination.wants(event, teams)
        } if event.get("notify") else {}  # fmt: skip
        key = (record.partition, event["patient"])
        post = self.posts.get(key)
        if post is None:
            if not wanting:
                return  # nothing was told of this patient that could still matter
            post = self.posts[key] = Post(Memory(event["patient"]), self.limits)
        if post.take(event, wanting, now):
            self.dirty.add(key)

    async def tick(self) -> None:
        """What has become due, and what came of attempts."""
        if self.behind and time.monotonic() - self.moved > CATCH_UP_S:
            self.behind.clear()
        if time.monotonic() >= self.refresh_at:
            self.refresh_at = time.monotonic() + REFRESH_S
            if await self.ways.refresh():
                self.wakes |= dict.fromkeys(self.posts, 0)
                await self._tell_change()
            self._measure()
        await self._work(_now())

    async def stop(self) -> None:
        """Write what came of attempts; those under way are made again at the next start."""
        await self._save(self._settle(_now()))
        for task in self.tasks:
            task.cancel()
        self.clinicians.close()
        await self.ways.close()

    # --- the work ---------------------------------------------------------------------------------------------------

    async def _work(self, now: int) -> None:
        self.dirty |= {key for key, at in self.again.items() if at <= now}
        touched = self._settle(now) | {key for key, at in self.wakes.items() if at <= now} | self.dirty
        for key in touched:
            if key in self.posts:
                self.posts[key].advance(self.ways.destinations, now)
        self._begin(touched, now)
        await self._save(touched)
        for attempt in self.begun:
            task = asyncio.create_task(self._attempt(attempt))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        self.begun.clear()

    def _settle(self, now: int) -> set[Key]:
        """Take in what came of attempts."""
        touched: set[Key] = set()
        ended, self.ended = self.ended, []
        for attempt in ended:
            post = self.posts.get(attempt.key)
            if post is None or attempt.outcome is None:
                continue
            post.end(attempt.delivery, attempt.outcome, now)
            touched.add(attempt.key)
            if attempt.outcome.result == "delivered":
                name, told = attempt.destination, ((key, post) for key, post in self.posts.items() if post.memory.told)
                touched |= {key for key, other in told if other.revive(name, now)}
        self.dirty |= touched
        return touched

    def _begin(self, keys: Iterable[Key], now: int) -> None:
        """Let go what may go, the most pressing first."""
        ready: list[tuple[int, int, Key, Delivery]] = []
        for key in keys:
            post = self.posts.get(key)
            if post is not None and key[0] not in self.behind:
                ready += [(-one.group.rank, one.created, key, one) for one in post.ready(now)]
        for _, _, key, one in sorted(ready, key=lambda entry: entry[:2]):
            way = self.ways.by_name.get(one.destination)
            if way is not None and way.lane.may(one.high, now):
                way.lane.begin(one.high, now)
                self.posts[key].begin(one, now)
                self.dirty.add(key)
                self.begun.append(_Under(key, one.id, one.destination, way))

    async def _attempt(self, attempt: _Under) -> None:
        """Send one; nothing that happens here stops the others."""
        post = self.posts.get(attempt.key)
        one = None if post is None else next((d for d in post.memory.deliveries if d.id == attempt.delivery), None)
        if post is None or one is None:
            attempt.way.lane.end(True)
            return
        way = attempt.way
        said = notice(one, post.memory.patient, way.destination.detail, self.ways.book.link, post.over(one))
        try:
            async with asyncio.timeout(_STUCK * self.context.settings.handover.attempt_s):
                outcome = await way.sender.send(said)
        except TimeoutError:
            outcome = Outcome("retry", "no answer")
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.error("a sender failed", extra={"destination": one.destination, "error": type(error).__name__})
            outcome = Outcome("retry", f"the sender failed ({type(error).__name__})")
        pause = 0 if outcome.retry_after_s is None else _now() + round(min(900.0, outcome.retry_after_s) * 1e6)
        way.lane.end(outcome.result != "retry", pause)
        attempt.outcome = outcome
        self.ended.append(attempt)

    # --- what Kafka has ---------------------------------------------------------------------------------------------

    async def _save(self, touched: set[Key]) -> None:
        """The memory of whoever changed, then the records that it holds. What fails here is done again."""
        for key in touched:
            post = self.posts.get(key)
            found = [] if post is None else post.drain()
            if post is not None and found:
                post.memory.outbox += [out.value(record) for record in found]
                self.dirty.add(key)
        saving = {key: list(self.posts[key].memory.outbox) for key in self.dirty if key in self.posts}
        if saving:
            for key in saving:
                await self._produce_memory(key)
            await self.context.producer.flush_batch()
            await self._tell([(key, value) for key, values in saving.items() for value in values])
        self.dirty.clear()
        now = _now()
        for key in touched | saving.keys():
            if key in self.posts:
                self._look_again(key, now, saving.get(key))

    def _look_again(self, key: Key, now: int, told: list[bytes] | None) -> None:
        """When a patient is to be looked at next; never again, when there is nothing left to remember."""
        memory = self.posts[key].memory
        if told:
            memory.outbox = []
            self.again[key] = now + AGAIN_US
        elif told is not None:
            self.again.pop(key, None)
            if memory.empty:
                self.posts.pop(key)
                self.wakes.pop(key, None)
                return
        elif memory.empty:
            self.again.setdefault(key, now)
        at = self.posts[key].wake()
        if at is None:
            self.wakes.pop(key, None)
        else:
            self.wakes[key] = at

    async def _produce_memory(self, key: Key) -> None:
        partition, patient = key
        memory = self.posts[key].memory
        value = None if memory.empty else pack(memory)
        await self.context.producer.produce(
            topics.HANDOVER_MEMORY, key=patient, value=value, partition=partition,
            headers=headers(topics.HANDOVER_MEMORY, "", content_id("handover.memory", patient, value or b"")),
        )  # fmt: skip

    async def _tell(self, told: list[tuple[Key, bytes]]) -> None:
        records = [AlertDelivery.model_validate_json(value) for _, value in told]
        for ((partition, patient), value), record in zip(told, records, strict=True):
            await self.context.producer.produce(
                topics.ALERT_DELIVERIES, key=patient, value=value, partition=partition,
                headers=headers(topics.ALERT_DELIVERIES, "", out.message_id(record)),
            )  # fmt: skip
            event = out.audit_event(record)
            if event is not None:
                await send_audit(self.context, event)
        if told:
            await self.context.producer.flush_batch()
        for record in records:
            metrics.HANDOVER.labels(record.destination, record.state).inc()
            if record.state == "delivered":
                metrics.HANDOVER_SECONDS.observe((record.at - record.created_at).total_seconds())

    async def _tell_change(self) -> None:
        names = sorted(self.ways.destinations)
        log.info("destinations", extra={"count": len(names), "fingerprint": self.ways.fingerprint})
        await send_audit(
            self.context,
            AuditEvent(
                "handover.configured", "handover", self.context.settings.stack.name, self.ways.fingerprint,
                {"destinations": names, "fingerprint": self.ways.fingerprint},
            ),
        )  # fmt: skip
        await self.context.producer.flush_batch()

    def _measure(self) -> None:
        pending: Counter[str] = Counter()
        undelivered = 0
        for post in self.posts.values():
            pending.update(one.destination for one in post.memory.deliveries if not one.ended)
            undelivered += post.memory.told
        for name in self.ways.destinations:
            metrics.HANDOVER_PENDING.labels(name).set(pending[name])
        metrics.HANDOVER_UNDELIVERED.set(undelivered)


def _now() -> int:
    return time.time_ns() // 1000
