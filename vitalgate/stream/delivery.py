"""Hand one batch to a worker until it is done: retries of transient faults, and the search for a poison record."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable

from vitalgate.stream.errors import TransientError
from vitalgate.stream.worker import Record, Worker
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: Times a whole batch that raised is tried before it is halved.
ATTEMPTS = 3
#: Records of ours set aside one after the other, none getting through between: then it is the handler that is broken.
#: Those that do not say what they are (headers) are a stranger's, and may be as many as they like.
POISON_RUN = 20
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

Sleep = Callable[[float], Awaitable[None]]


class HandlerBrokenError(Exception):
    """The handler refuses everything: not the records' fault. The process ends and nothing is acknowledged."""


class Delivery:
    """Delivers batches to one worker. `trouble` says what is being retried, None when all is well."""

    def __init__(self, worker: Worker, sleep: Sleep = asyncio.sleep) -> None:
        self.trouble: str | None = None
        self._worker = worker
        self._sleep = sleep
        self._run = 0

    async def deliver(self, batch: list[Record]) -> None:
        """Return when every record is handled or set aside.

        Raises
        ------
        HandlerBrokenError
            When `POISON_RUN` records of ours in a row could not be handled.
        """
        for attempt in range(1, ATTEMPTS + 1):
            error = await self._try(batch)
            if error is None:
                return
            if attempt < ATTEMPTS:
                await self._sleep(FIRST_PAUSE_S * attempt)
        await self._bisect(batch)

    async def patiently(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        """Repeat `call` with growing pauses for as long as it raises TransientError."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                await call()
            except TransientError as error:
                metrics.RETRIES.labels(self._worker.name).inc()
                text = f"{what}: {error}"
                if self.trouble != text:
                    log.warning("waiting and trying again", extra={"worker": self._worker.name, "trouble": text})
                self.trouble = text
                await self._sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
            else:
                if self.trouble is not None:
                    log.info("trouble over", extra={"worker": self._worker.name, "trouble": self.trouble})
                    self.trouble = None
                return

    async def _try(self, batch: list[Record]) -> Exception | None:
        try:
            await self.patiently("handling a batch", lambda: self._worker.handle(batch))
        except MemoryError:
            raise
        except Exception as error:
            # Without the error's text, which may quote a measured value.
            log.error(
                "a batch could not be handled",
                extra={
                    "worker": self._worker.name, "records": len(batch), "trace": batch[0].header("trace"),
                    "error": type(error).__name__, "stack": "".join(traceback.format_tb(error.__traceback__)),
                },
            )  # fmt: skip
            await self._worker.recover()
            return error
        self._run = 0
        return None

    async def _bisect(self, batch: list[Record]) -> None:
        if len(batch) == 1:
            error = await self._try(batch)
            if error is not None:
                await self._set_aside(batch[0], error)
            return
        half = len(batch) // 2
        for part in (batch[:half], batch[half:]):
            if len(part) == 1 or await self._try(part) is not None:
                await self._bisect(part)

    async def _set_aside(self, record: Record, error: Exception) -> None:
        self._run += record.header("schema") == record.topic
        if self._run >= POISON_RUN:
            raise HandlerBrokenError(
                f"{self._run} records in a row could not be handled by {self._worker.name}, last "
                f"{record.topic}/{record.partition}@{record.offset}: {type(error).__name__}: {error}"
            ) from error
        metrics.POISON.labels(self._worker.name).inc()
        log.error(
            "record set aside",
            extra={
                "worker": self._worker.name, "topic": record.topic, "partition": record.partition,
                "offset": record.offset, "trace": record.header("trace"), "error": type(error).__name__,
            },
        )  # fmt: skip
        await self.patiently("setting a record aside", lambda: self._worker.poison(record, error))
