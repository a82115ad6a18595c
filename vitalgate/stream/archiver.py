"""`archiver`: beats, features, alerts, deliveries and the audit trail from their topics into their tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from vitalgate.config import topics
from vitalgate.storage.archive import Archive
from vitalgate.storage.housekeeper import Housekeeper
from vitalgate.stream.database import DatabaseThread
from vitalgate.stream.worker import Context, Record, Worker
from vitalgate.telemetry import metrics


class Archiver(Worker):
    """Every table takes a record once by its identity, and of two revisions the higher: a repeat changes nothing."""

    name = "archiver"
    topics = (topics.BEATS, topics.FEATURES, topics.ALERTS, topics.ALERT_DELIVERIES, topics.AUDIT)
    co_partitioned = False
    gather_s = 0.25

    async def start(self, context: Context) -> None:
        """Connect to the database."""
        await super().start(context)
        if not hasattr(self, "archive"):
            self.database = DatabaseThread("archiver")
            self.archive = Archive(context.settings.database)
            self.housekeeper = Housekeeper(context.settings.database)
            self.housekeeper.start()
        await self.database.call(self.archive.open)

    async def handle(self, batch: list[Record]) -> None:
        """One transaction for each topic."""
        writers: dict[str, Callable[[Sequence[Any]], int]] = {
            topics.BEATS.name: self.archive.beats,
            topics.FEATURES.name: self.archive.features,
            topics.ALERTS.name: self.archive.alerts,
            topics.ALERT_DELIVERIES.name: self.archive.deliveries,
        }
        began = time.monotonic()
        by_topic: dict[str, list[bytes]] = {}
        for record in batch:
            if record.value is not None:
                by_topic.setdefault(record.topic, []).append(record.value)
        for name, values in by_topic.items():
            if name == topics.AUDIT.name:
                await self.database.call(self.archive.audit, values)
            else:
                documents = [orjson.loads(value) for value in values]
                # What is provisional is not kept: the final one follows.
                final = [document for document in documents if not document.get("provisional")]
                await self.database.call(writers[name], final)
        metrics.BATCH_SECONDS.observe(time.monotonic() - began)

    async def stop(self) -> None:
        """Disconnect."""
        await self.database.call(self.housekeeper.stop)
        await self.database.call(self.archive.close)
        self.database.close()
