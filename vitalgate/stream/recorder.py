"""`recorder`: validated batches to the database, each with its line in the ledger; then the public records.

Thin over `storage.recorder`. What was stored and perhaps not published when a recorder died is published again at the
next assignment, from the tables. While the database is away the batch in hand is tried again for ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

from vitalgate.config import topics
from vitalgate.config.topics import Topic
from vitalgate.devices.intake import WHOLE
from vitalgate.devices.reasons import Reason
from vitalgate.devices.records import Dead, Message, ValidatedBatch, decode_batch
from vitalgate.storage.applied import Applied, Public
from vitalgate.storage.recorder import Recorder as Store
from vitalgate.stream.audit_inbox import AuditEvent, send_audit
from vitalgate.stream.database import DatabaseThread
from vitalgate.stream.errors import TransientError
from vitalgate.stream.headers import headers
from vitalgate.stream.lookback import fetch
from vitalgate.stream.numbering import bases_of
from vitalgate.stream.worker import Context, Record, Worker, set_aside
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: Messages of one transaction; more only when one record holds more.
MAX_MESSAGES = 2000


class Recorder(Worker):
    """See the module."""

    name = "recorder"
    topics = (topics.VALIDATED,)
    batch_max = 500
    gather_s = 0.2
    tick_s = 5.0

    async def start(self, context: Context) -> None:
        """Connect to the database."""
        await super().start(context)
        settings = context.settings
        self.unsure: set[int] = set()
        """Partitions of which a batch may be stored and not published."""
        if not hasattr(self, "store"):
            bases = await bases_of(settings.kafka)
            self.database = DatabaseThread("recorder")
            self.store = Store(
                settings.database,
                settings.kafka,
                lambda partition, number: fetch(
                    settings.kafka, topics.RAW, partition, number - bases.of(topics.RAW, partition)
                ),
            )
        await self.database.call(self.store.open)

    async def on_assigned(self, partitions: frozenset[int]) -> None:
        """Publish and audit again what was stored and not marked as published: one event too many tells no untruth."""
        for partition in sorted(partitions):
            rest = await self.database.call(self.store.unpublished, partition)
            while (applied := await self.database.call(next, rest, None)) is not None:
                log.info(
                    "publishing again",
                    extra={"partition": partition, "first": applied.first, "last": applied.last},
                )
                await self._audit(applied, applied.by, again=True)
                await self._publish(applied)
        await self.database.call(self.store.flush_published)

    async def handle(self, batch: list[Record]) -> None:
        """One transaction for each run of consecutive batches of a partition, then its public records.

        What was stored when Kafka refused its public records is known to the store when it comes again, and has no
        public records then: it is published from the tables first.
        """
        if self.unsure:
            await self.on_assigned(frozenset(self.unsure))
            self.unsure.clear()
        for part in merged(decode_batch(record.value or b"") for record in batch):
            await self._record(part)

    async def _record(self, batch: ValidatedBatch) -> None:
        began = time.monotonic()
        self.unsure.add(batch.partition)
        applied = await self.database.call(self.store.apply, batch)
        metrics.BATCH_SECONDS.observe(time.monotonic() - began)
        if applied.messages:
            committed_us = time.time_ns() // 1000
            for message in batch.messages[-applied.messages :]:
                metrics.DEVICE_TO_ROW.observe(max(0, committed_us - message.received_us) / 1e6)
            await self._audit(applied, batch.by)
        await self._publish(applied)
        self.unsure.discard(batch.partition)
        _count(applied)

    async def _publish(self, applied: Applied) -> None:
        for topic, records in (
            (topics.READINGS, applied.public_readings),
            (topics.WAVEFORMS, applied.public_waveforms),
            (topics.DEADLETTER, applied.dead),
        ):
            await self._produce(topic, records)
        await self.context.producer.flush_batch()
        self.store.mark_published(applied.partition, applied.last)

    async def _produce(self, topic: Topic, records: Iterable[Public]) -> None:
        for record in records:
            await self.context.producer.produce(
                topic, key=record.key, value=record.value, headers=headers(topic, record.trace, record.message_id)
            )

    async def _audit(self, applied: Applied, by: str, *, again: bool = False) -> None:
        where = f"{topics.RAW.name}/{applied.partition}/{applied.first}-{applied.last}"
        counts = {
            name: value
            for name in ("messages", "items", "stored", "duplicate", "dead_lettered", "versions")
            if (value := getattr(applied, name))
        }
        detail: dict[str, Any] = {**counts, "by": by}
        if again:
            detail["again"] = True
        if applied.reasons:
            detail["reasons"] = applied.reasons
        if applied.holes:
            detail["missing"] = applied.holes
        outcome = "failed" if applied.holes else "success"
        await send_audit(self.context, AuditEvent("batch.recorded", "batch", where, "", detail, outcome))

    async def tick(self) -> None:
        """Mark as published what no later batch has marked."""
        await self.database.call(self.store.flush_published)

    async def poison(self, record: Record, error: Exception) -> None:
        """Store the batch message by message; one that cannot be stored at all becomes a dead letter."""
        try:
            batch = decode_batch(record.value or b"")
        except Exception:
            await set_aside(self.context, self.name, record, error)
            return
        for message in batch.messages:
            part = ValidatedBatch(batch.partition, message.offset, message.offset, [message], batch.by)
            try:
                await self._record(part)
            except TransientError:
                raise
            except Exception as fault:
                log.exception("a message cannot be stored", extra={"device": message.device, "trace": message.trace})
                part.messages = [refused(message, fault)]
                await self._record(part)

    async def stop(self) -> None:
        """Mark what is published."""
        await self.database.call(self.store.close)
        self.database.close()


def merged(batches: Iterable[ValidatedBatch]) -> Iterator[ValidatedBatch]:
    """Consecutive batches of each partition as one, up to `MAX_MESSAGES`; repeated offsets are left out.

    Order within a partition is kept; a hole ends a run, so that the recorder sees it.
    """
    runs: dict[int, ValidatedBatch] = {}
    for batch in batches:
        run = runs.get(batch.partition)
        if run is not None and run.first <= batch.first and batch.last <= run.last:
            continue
        if run is not None and run.first <= batch.first <= run.last + 1 and len(run.messages) < MAX_MESSAGES:
            run.messages += batch.messages[run.last + 1 - batch.first :]
            run.last = batch.last
            continue
        if run is not None:
            yield run
        runs[batch.partition] = ValidatedBatch(batch.partition, batch.first, batch.last, list(batch.messages), batch.by)
    yield from runs.values()


def refused(message: Message, fault: Exception) -> Message:
    """The message as one dead letter; its original bytes are fetched from the raw topic."""
    detail = f"it could not be stored ({type(fault).__name__}); please report this with the payload"
    return Message(
        message.device, message.leaf, message.offset, message.received_us, message.trace, message.epoch, message.seq,
        message.epoch_no, message.order, message.repeat, message.skew_s, message.payload_hash, message.content_hash,
        dead=[Dead(WHOLE, Reason.STORAGE_REFUSED, detail)], payload=message.payload, mqtt_topic=message.mqtt_topic,
        replay_of=message.replay_of, device_kind=message.device_kind,
    )  # fmt: skip


def _count(applied: Applied) -> None:
    waveforms = len(applied.public_waveforms)
    metrics.STORED.labels("waveform").inc(waveforms)
    metrics.STORED.labels("other").inc(max(0, applied.stored - waveforms))
    metrics.DUPLICATES.inc(applied.duplicate)
    metrics.VERSIONS.inc(applied.versions)
