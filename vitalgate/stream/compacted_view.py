"""Follows compacted topics of one partition from their beginning, in a thread; what is in them is the subclass's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from vitalgate.config.settings import KafkaSettings
from vitalgate.stream.errors import TransientError
from vitalgate.stream.lookback import consume, reader_configuration

log = logging.getLogger(__name__)

REFRESH_S = 5.0
_STEP_S = 0.003
#: An answer takes milliseconds; a node that takes so long is asked no more, another may lead by now.
_ANSWER_S = 1.0


class CompactedView:
    """Base of a view: `_entry` is called, in the thread, for every record.

    Parameters
    ----------
    topics
        Full names.
    what
        What is read, for errors: "the registry topics".
    """

    def __init__(self, kafka: KafkaSettings, topics: Iterable[str], what: str) -> None:
        self._kafka = kafka
        self._what = what
        self._next = dict.fromkeys(topics, 0)
        self._consumer: Consumer | None = None
        self._asker: Consumer | None = None
        """Asks for ends on a connection of its own: behind a waiting fetch the answer takes half a second."""
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
            self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
            self._thread.start()
        await self.refresh(timeout_s)

    async def refresh(self, timeout_s: float = REFRESH_S) -> None:
        """Return when everything that is on the topics now has been read (a few milliseconds).

        Raises
        ------
        TransientError
            When Kafka does not answer in time.
        """
        until = time.monotonic() + timeout_s
        ends = await asyncio.to_thread(self._ends, timeout_s)
        while any(self._next[name] < end for name, end in ends.items()):
            if time.monotonic() > until:
                raise TransientError(f"{self._what} could not be read to their end in {timeout_s:.0f} s")
            await asyncio.sleep(_STEP_S)

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _entry(self, name: str, key: str | bytes | None, value: str | bytes | None, offset: int) -> None:
        """Take one record of a topic; None is a tombstone. What it raises ends the process."""
        raise NotImplementedError

    def _ends(self, timeout_s: float) -> dict[str, int]:
        asker = self._asker
        assert asker is not None, "call ready() first"
        until = time.monotonic() + timeout_s
        while True:
            try:
                return {
                    name: asker.get_watermark_offsets(TopicPartition(name, 0), timeout=_ANSWER_S, cached=False)[1]
                    for name in self._next
                }
            except KafkaException as error:
                if time.monotonic() >= until:
                    text = f"{self._what} cannot be asked for their end ({error.args[0].str()})"
                    raise TransientError(text) from error
                # The node that led the topic may be gone; librdkafka would go on asking it until it is back.
                with contextlib.suppress(KafkaException):
                    asker.list_topics(timeout=_ANSWER_S)

    def _run(self) -> None:
        try:
            self._follow()
        except Exception:
            # A worker that does not see changes would go on by what no longer holds.
            log.critical(f"reading {self._what} failed; the process ends and is restarted", exc_info=True)
            os._exit(3)

    def _follow(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        while not self._closing.is_set():
            for message in consume(consumer, 500, 0.2):
                error, name, offset = message.error(), message.topic(), message.offset()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF and name is not None and offset is not None:
                        self._next[name] = max(self._next[name], offset)
                    continue
                assert name is not None and offset is not None
                self._entry(name, message.key(), message.value(), offset)
                self._next[name] = offset + 1
        consumer.close()
