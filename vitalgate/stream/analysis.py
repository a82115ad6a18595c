"""`analysis`: ECG samples of patient inputs to beats, heart rate, HRV and rhythm events.

Thin over `analysis_core`. What inputs made final is published within a second. After a restart the last
stretch of inputs is read back into memory (`analysis.lookback_s`), with what had been published of it; samples older
than that are read from the database when a late one makes an old block due, as soon as the recorder has stored them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import orjson

from vitalgate.config import topics
from vitalgate.config.topics import Topic
from vitalgate.devices.records import PatientInput, decode_input
from vitalgate.signal import beats as detector
from vitalgate.stream import lookback
from vitalgate.stream.analysis_beats import BeatsResult
from vitalgate.stream.analysis_core import AnalysisCore
from vitalgate.stream.analysis_features import ALGORITHM, ALGORITHM_VERSION, FeatureResult
from vitalgate.stream.analysis_history import History
from vitalgate.stream.analysis_line import Key, Packet
from vitalgate.stream.analysis_records import beats_document, feature_document, message_id, read_beats, read_feature
from vitalgate.stream.analysis_state import Job
from vitalgate.stream.analysis_windows import LONGEST
from vitalgate.stream.errors import TransientError
from vitalgate.stream.groups import group
from vitalgate.stream.headers import Headers, headers
from vitalgate.stream.numbering import bases_of
from vitalgate.stream.recorded import Ends, Recorded
from vitalgate.stream.registry_view import RegistryView
from vitalgate.stream.worker import Context, Record, Worker
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: Results are read back further than inputs: by the longest window.
_RESULTS_S = LONGEST * detector.BLOCK_S
#: A line that has been finished and quiet for so long is forgotten.
_RETIRE_S = 600
#: Jobs of so many lines are worked out at once: that costs a fraction of one by one.
_TOGETHER = 32
#: What has become due is gathered for so long: many lines at once cost a fraction of one by one.
_GATHER_S = 0.5
#: A database that did not answer is left alone for so long.
_HISTORY_PAUSE_S = 5.0


class Analysis(Worker):
    """See the module."""

    name = "analysis"
    topics = (topics.INPUTS,)
    tick_s = 1.0
    gather_s = 0.1

    async def start(self, context: Context) -> None:
        """Read the registry."""
        await super().start(context)
        self.registry = getattr(self, "registry", None) or RegistryView(context.settings.kafka)
        await self.registry.ready()
        self.history = History(context.settings.database, self.registry)
        self.bases = await bases_of(context.settings.kafka)
        self.recorded = Recorded(context.settings)
        self.core = AnalysisCore()
        self.partial: dict[int, bool] = {}
        self.stale = False
        self.history_again = 0.0
        self.gathered_at = 0.0
        self.awaited: dict[Key, Ends] = {}
        """How far the recorder has to be before old samples of a line are read."""

    async def on_assigned(self, partitions: frozenset[int]) -> None:
        """Read back the last stretch of inputs, and what had been published of it."""
        self.core, self.partial, self.stale, self.awaited = AnalysisCore(), {}, False, {}
        kafka = self.context.settings.kafka
        ends = await lookback.committed(kafka, group(self.context.settings, self.name), topics.INPUTS, partitions)
        for partition in sorted(partitions):
            self.partial[partition] = False
            if ends.get(partition):
                await self._read_back(partition, ends[partition] or 0)
        await self._publish_due()

    async def _read_back(self, partition: int, end: int) -> None:
        kafka, settings = self.context.settings.kafka, self.context.settings.analysis
        newest = 0
        async for chunk in lookback.read(kafka, topics.INPUTS, partition, start=end - 1, stop=end):
            newest = chunk[-1].timestamp_ms
        since = newest - int(settings.lookback_s * 1000)
        self.partial[partition] = True
        async for chunk in lookback.read(kafka, topics.INPUTS, partition, since_ms=since, stop=end):
            if chunk[0].offset == 0:
                self.partial[partition] = False
            for record in chunk:
                with suppress(*_UNREADABLE):  # set aside when it first came
                    self._take(record)
            await asyncio.sleep(0)
        since -= int(_RESULTS_S * 1000)
        async for chunk in lookback.read(kafka, topics.BEATS, partition, since_ms=since):
            for document in _readable(chunk):
                with suppress(*_UNREADABLE):
                    if _ours(document, detector.NAME, detector.VERSION):
                        self.core.restore(*read_beats(document), partition, int(document["revision"]))
        async for chunk in lookback.read(kafka, topics.FEATURES, partition, since_ms=since):
            for document in _readable(chunk):
                with suppress(*_UNREADABLE):
                    if _ours(document, ALGORITHM, ALGORITHM_VERSION):
                        self.core.restore_feature(read_feature(document))

    async def on_revoked(self, partitions: frozenset[int]) -> None:
        """Forget the lines of these partitions."""
        self.core.drop(partitions)

    async def recover(self) -> None:
        """What was worked out may not have been published: memory is built anew from what was."""
        if self.stale:
            await self.on_assigned(frozenset(self.partial))

    async def handle(self, batch: list[Record]) -> None:
        """Take the samples; publish what has become final."""
        await self.recover()
        for record in batch:
            self._take(record)
        # What waits for the next time is not lost by a kill: it is worked out again from what is read back.
        if time.monotonic() >= self.gathered_at:
            await self._publish_due()
            self.gathered_at = time.monotonic() + _GATHER_S

    def _take(self, record: Record) -> None:
        if record.value is None:
            return
        found: PatientInput = decode_input(record.value)
        if not found.message.waveforms:
            return
        self.core.take(
            found.patient, found.message, op=found.op, partition=record.partition,
            offset=record.offset + self.bases.of(topics.INPUTS, record.partition),
            partial=self.partial.get(record.partition, True), now_us=time.monotonic_ns() // 1000,
            again=found.cause == "reprocess", wall_us=time.time_ns() // 1000,
        )  # fmt: skip

    async def tick(self) -> None:
        """Finish recordings that have gone quiet, and try again what waited for the database."""
        await self.recover()
        now_us = time.monotonic_ns() // 1000  # the wall clock may be set while a recording goes on
        self.core.go_idle(now_us - int(self.context.settings.analysis.idle_s * 1_000_000))
        await self._publish_due()
        self.core.retire(now_us - _RETIRE_S * 1_000_000)

    async def _publish_due(self) -> None:
        self.stale = True
        self.recorded.begin_round()
        jobs: list[tuple[Job, list[Packet]]] = []
        for job in self.core.jobs():
            further: list[Packet] = []
            if not job.complete:
                read = await self._history(job)
                if read is None:
                    continue  # stays due; the next tick asks again
                further = read
            jobs.append((job, further))
            if len(jobs) == _TOGETHER or not job.complete:
                await self._work_out(jobs)
                jobs = []
        await self._work_out(jobs)
        await self._publish([], self.core.live())
        await self.context.producer.flush_batch()
        self.stale = False

    async def _work_out(self, jobs: list[tuple[Job, list[Packet]]]) -> None:
        if jobs:
            await asyncio.sleep(0)  # heartbeats go on while a backlog is worked off
            for job, _ in jobs:
                self.awaited.pop(job.key, None)  # packets may leave memory now
            await self._publish(*self.core.run_together(jobs))

    async def _history(self, job: Job) -> list[Packet] | None:
        if time.monotonic() < self.history_again:
            return None
        try:
            return await asyncio.to_thread(self._read_stored, job)
        except TransientError as error:
            self.history_again = time.monotonic() + _HISTORY_PAUSE_S
            log.warning("older samples cannot be read now; asked again", extra={"error": str(error)})
            return None

    def _read_stored(self, job: Job) -> list[Packet] | None:
        """Samples from the database; None while not all that has left memory is there."""
        if job.key not in self.awaited:
            self.awaited[job.key] = self.recorded.ends()
        if not self.recorded.covers(self.awaited[job.key]):
            return None
        return self.history.read(job.key, job.first, job.stop)

    async def _publish(self, beats: list[BeatsResult], features: list[FeatureResult]) -> None:
        produce = self.context.producer.produce
        for block in beats:
            document = beats_document(block)
            identity = message_id(document)
            document["message_id"] = identity
            await produce(
                topics.BEATS, key=block.key.patient, value=orjson.dumps(document),
                headers=self._headers(topics.BEATS, identity, block.key),
            )  # fmt: skip
        metrics.BEAT_BLOCKS.inc(len(beats))
        for feature in features:
            document = feature_document(feature)
            identity = message_id(document)
            document["message_id"] = identity
            await produce(
                topics.FEATURES, key=feature.key.patient, value=orjson.dumps(document),
                headers=self._headers(topics.FEATURES, identity, feature.key),
            )  # fmt: skip
            if not feature.provisional:
                metrics.FEATURES.labels(feature.name).inc()

    def _headers(self, topic: Topic, identity: str, key: Key) -> Headers:
        received = self.core.received_us(key)
        return [*headers(topic, "", identity), *([("received_at", str(received).encode())] if received else [])]


def _ours(document: dict[str, Any], algorithm: str, version: str) -> bool:
    """Whether a result is by the algorithm that runs now; what an older version gave is worked out again when asked."""
    return bool(document["algorithm"] == algorithm and document["algorithm_version"] == version)


#: What a record that a stranger wrote may raise.
_UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, OverflowError)


def _readable(chunk: list[Record]) -> Iterator[dict[str, Any]]:
    """The documents of records that hold one; whatever else is there is none of ours."""
    for record in chunk:
        try:
            document = orjson.loads(record.value or b"null")
        except ValueError:
            continue
        if isinstance(document, dict):
            yield document
