"""Rosters and cohorts in memory, kept up to date from their compacted topics by a thread."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from pydantic import ValidationError

from vitalgate.alerts.roster import Cohort, Roster
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import REGISTRY_COHORTS, REGISTRY_ROSTERS, full
from vitalgate.stream.errors import TransientError
from vitalgate.stream.lookback import consume, reader_configuration

log = logging.getLogger(__name__)

#: Told what changed: "roster" or "cohort", and its key.
OnChange = Callable[[str, str], None]
_STEP_S = 0.003


class CareView:
    """Reads registry.rosters and registry.cohorts from their beginning and follows them."""

    def __init__(self, kafka: KafkaSettings, on_change: OnChange) -> None:
        self.rosters: dict[str, Roster] = {}
        self.cohorts: dict[str, Cohort] = {}
        self._on_change = on_change
        self._next = {full(REGISTRY_ROSTERS, kafka): 0, full(REGISTRY_COHORTS, kafka): 0}
        self._rosters = full(REGISTRY_ROSTERS, kafka)
        self._kafka = kafka
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ready(self, timeout_s: float = 30.0) -> None:
        """Start reading, and return when everything written so far has been read. May be called again.

        Raises
        ------
        TransientError
            When Kafka does not answer in time.
        """
        self._loop = asyncio.get_running_loop()
        if self._thread is None:
            self._consumer = Consumer(reader_configuration(self._kafka))
            self._asker = Consumer(reader_configuration(self._kafka))
            self._consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING) for name in self._next])
            self._thread = threading.Thread(target=self._run, name="care", daemon=True)
            self._thread.start()
        until = time.monotonic() + timeout_s
        ends = await asyncio.to_thread(self._ends, timeout_s)
        while any(self._next[name] < end for name, end in ends.items()):
            if time.monotonic() > until:
                raise TransientError(f"rosters and cohorts could not be read to their end in {timeout_s:.0f} s")
            await asyncio.sleep(_STEP_S)

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _ends(self, timeout_s: float) -> dict[str, int]:
        try:
            return {
                name: self._asker.get_watermark_offsets(TopicPartition(name, 0), timeout=timeout_s, cached=False)[1]
                for name in self._next
            }
        except KafkaException as error:
            raise TransientError(f"rosters and cohorts cannot be read ({error.args[0].str()})") from error

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                for message in consume(self._consumer, 500, 0.2):
                    error, name, offset = message.error(), message.topic(), message.offset()
                    if error is not None:
                        if error.code() == KafkaError._PARTITION_EOF and name is not None and offset is not None:
                            self._next[name] = max(self._next[name], offset)
                        continue
                    assert name is not None and offset is not None
                    self._take(name, message.key(), message.value(), offset)
                    self._next[name] = offset + 1
            self._consumer.close()
        except Exception:
            log.critical("reading rosters failed; the process ends and is restarted", exc_info=True)
            os._exit(3)

    def _take(self, name: str, raw_key: str | bytes | None, value: Any, offset: int) -> None:
        key = raw_key.decode("utf-8", "replace") if isinstance(raw_key, bytes) else raw_key or ""
        roster = name == self._rosters
        try:
            if value is None:
                (self.rosters if roster else self.cohorts).pop(key, None)
            elif roster:
                self.rosters[key] = Roster.model_validate(orjson.loads(value))
            else:
                self.cohorts[key] = Cohort.model_validate(orjson.loads(value))
        except (ValidationError, ValueError) as fault:
            # The one before stays in force: an unreadable entry must not take an escalation away.
            log.error(
                "a roster or cohort cannot be read and is left as it was",
                extra={"topic": name, "key": key, "offset": offset, "error": str(fault).partition("\n")[0]},
            )
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_change, "roster" if roster else "cohort", key)
