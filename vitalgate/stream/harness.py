"""Run one worker as a process: Faust reads, the worker handles, offsets are acknowledged in order.

Faust acknowledges a batch whose handler raised, and steps over one missing offset at the head of a partition. So its
stream runs without acknowledgements into a bounded buffer; one task takes all that is there, has it handled, and then
says up to which offset it is done. Whatever is not foreseen ends the process with status 3: a supervisor starts it
again, and Kafka hands over everything that was not acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, NoReturn

import uvloop
from faust.types import TP

from vitalgate.config.settings import Settings
from vitalgate.config.topics import full
from vitalgate.stream import thrift
from vitalgate.stream.acks import Acker
from vitalgate.stream.buffer import Buffer
from vitalgate.stream.delivery import Delivery
from vitalgate.stream.errors import TransientError
from vitalgate.stream.faust_app import RunConsumer, make_app, make_channel
from vitalgate.stream.lag import report_lag
from vitalgate.stream.partitions import check_partitions
from vitalgate.stream.producer import Producer
from vitalgate.stream.slot_watch import SlotWatch
from vitalgate.stream.worker import Context, Record, Worker
from vitalgate.telemetry import collector, metrics
from vitalgate.telemetry.health import Health, serve_health
from vitalgate.telemetry.logs import start_logging
from vitalgate.telemetry.out_of_memory import end_when_out_of_memory

log = logging.getLogger(__name__)

EXIT_UNEXPECTED = 3
#: Each part of an orderly end is cut off after this long: the batch in hand, the worker's own stop, the last commit.
GRACE_S = 0.6
#: An event loop that stood still this long makes the process unhealthy.
STALLED_S = 30.0
#: The runs of one fetch, one a partition, come a moment after each other: so long is waited for them to be one batch.
_FETCH_S = 0.001
#: What a record weighs in the buffer beside its value.
_OVERHEAD = 200


def run(worker: Worker, settings: Settings, slot: str | None = None) -> NoReturn:
    """Run until SIGTERM or SIGINT (exit status 0) or until something unexpected happens (3)."""
    slot = settings.worker.slot if slot is None else slot
    start_logging(f"{worker.name}-{slot}", settings.log)
    end_when_out_of_memory()
    # Faust tells of each of its parts, and complains when a commit waits for a large batch.
    for noisy, level in (("vitalgate.stream.faust_app", logging.WARNING), ("mode.timers", logging.ERROR)):
        logging.getLogger(noisy).setLevel(level)
    thrift.install()
    collector.settle()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    try:
        status = loop.run_until_complete(_Harness(worker, settings, slot).main())
    except BaseException:
        log.critical("the process ends", exc_info=True, extra={"worker": worker.name})
        status = EXIT_UNEXPECTED
    _leave(status)


def _leave(status: int) -> NoReturn:
    # All that matters is committed by now; a normal interpreter exit would wait for Faust's threads.
    with contextlib.suppress(Exception):
        logging.shutdown()
        sys.stdout.flush()
    os._exit(status)


class _Harness:
    def __init__(self, worker: Worker, settings: Settings, slot: str) -> None:
        self.worker = worker
        self.settings = settings
        self.slot = slot
        self.health = Health()
        self.delivery = Delivery(worker)
        self.acker = Acker(self._acknowledge)
        self.names = {full(topic, settings.kafka): topic.name for topic in worker.topics}
        self.full_names = {base: name for name, base in self.names.items()}
        self.batch_max = worker.batch_max or settings.worker.batch_max
        self.buffer: Buffer[tuple[Record, int]] = Buffer(
            max(self.batch_max, settings.worker.queue_max), 2 * worker.batch_bytes
        )
        self.round = 0
        """Counts assignments; what was read in an earlier one is neither handled nor acknowledged."""
        self.assigned_round = -1
        self.loaded_round = -1
        self.assigned: frozenset[int] = frozenset()
        self.loaded: frozenset[int] = frozenset()
        self.call: asyncio.Task[None] | None = None
        """The call of the worker that is under way."""
        self.drain: asyncio.Task[None] | None = None
        self.stopping = False
        self.beat = time.monotonic()
        self.slot_watch = SlotWatch(worker.name, slot)

    # --- start and end ------------------------------------------------------------------------------------------

    async def main(self) -> int:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self.health.alive["loop"] = self._stalled
        self.health.ready["assignment"] = lambda: (
            None if self.assigned_round == self.round else "waiting for Kafka to assign partitions"
        )
        self.health.ready["handling"] = lambda: self.delivery.trouble
        self.health.ready["slot"] = self.slot_watch.trouble
        serve_health(self.health, self.settings.health)
        self.producer = Producer(self.settings.kafka, client_id=f"vitalgate-{self.worker.name}-{self.slot}")
        stopped = loop.create_task(stop.wait(), name="stop")
        work = loop.create_task(self._work(), name="work")
        await asyncio.wait({stopped, work}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            return EXIT_UNEXPECTED
        await self._finish()
        return 0

    async def _work(self) -> None:
        worker, settings = self.worker, self.settings
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pulse())
            context = Context(worker.name, self.slot, settings, self.producer, self.acker, self.health)
            await self.delivery.patiently(
                "looking for topics",
                lambda: check_partitions(worker.topics, settings.kafka, equal=worker.co_partitioned),
            )
            await self.delivery.patiently("starting", lambda: worker.start(context))
            self.app = app = make_app(worker, settings, self.slot)
            channel = make_channel(app, worker, settings)
            app.agent(channel, name=f"vitalgate.{worker.name}", concurrency=1)(self._read)
            app.on_partitions_revoked.connect(self._on_revoked)
            app.on_partitions_assigned.connect(self._on_assigned)
            app.in_worker = True
            self.drain = tasks.create_task(self._drain(), name="drain")
            tasks.create_task(self._faust(), name="faust")
            tasks.create_task(report_lag(app, worker.name, self.names, self.acker), name="lag")

    async def _faust(self) -> None:
        app: Any = self.app
        await app.start()
        await app.wait_until_stopped()
        raise RuntimeError(f"Faust ended by itself: {app.crash_reason!r}")

    async def _finish(self) -> None:
        """Finish the batch in hand, let the worker flush, commit: each bounded in time, none of it lost if cut off."""
        began = time.monotonic()
        self.stopping = True
        self.buffer.wake()
        clean = True
        if self.drain is not None:
            await asyncio.wait({self.drain}, timeout=GRACE_S)
            if not self.drain.done():
                clean = False
                log.warning("the batch in hand is left to the next start", extra={"trouble": self.delivery.trouble})
                self.drain.cancel()
            steps = [("worker", self.worker.stop)] if clean else []
            for what, step in [*steps, ("commit", self._commit)]:
                try:
                    async with asyncio.timeout(GRACE_S):
                        await step()
                except Exception as error:
                    log.warning("not finished while stopping", extra={"what": what, "error": repr(error)})
        await asyncio.to_thread(self.producer.close, 0.2)
        log.info("stopped", extra={"worker": self.worker.name, "seconds": round(time.monotonic() - began, 3)})

    async def _commit(self) -> None:
        await self.app.consumer.commit()

    # --- from Faust to the buffer -------------------------------------------------------------------------------

    async def _read(self, stream: Any) -> None:
        try:
            async for event in stream.noack().events():
                this = self.round
                for piece, size in self._pieces(event.message.records):
                    await self.buffer.put([(record, this) for record in piece], size)
        except Exception:
            log.critical("reading failed; the process ends and is restarted", exc_info=True)
            _leave(EXIT_UNEXPECTED)

    def _pieces(self, run: Sequence[Any]) -> Iterator[tuple[list[Record], int]]:
        """The records of a run in our form, in pieces that fit a batch."""
        piece: list[Record] = []
        size = 0
        most_bytes = self.worker.batch_bytes // 4
        most = max(1, self.batch_max // 4)
        name = self.names[run[0].topic]
        for it in run:
            piece.append(Record(name, it.partition, it.offset, it.key, it.value, it.headers, it.timestamp))
            size += _OVERHEAD + (len(it.value) if it.value else 0)
            if len(piece) >= most or size >= most_bytes:
                yield piece, size
                piece, size = [], 0
        if piece:
            yield piece, size

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        """Nothing of the old assignment is acknowledged from here on; the partitions are let go when all is still."""
        self.round += 1
        self.buffer.clear()
        call = self.call
        if call is not None and not call.done():
            await asyncio.wait({call}, timeout=self.settings.worker.session_timeout_s / 2)
            if not call.done():
                log.warning("handling was cut off by a rebalance", extra={"worker": self.worker.name})
                call.cancel()
                await asyncio.wait({call}, timeout=1.0)

    async def _on_assigned(self, *args: Any, **_: Any) -> None:
        assigned: set[TP] = args[1]
        by_topic = {name: frozenset(tp.partition for tp in assigned if tp.topic == name) for name in self.names}
        if self.worker.co_partitioned and len(set(by_topic.values())) > 1:
            log.critical(
                "topics were not assigned together", extra={"assigned": {k: sorted(v) for k, v in by_topic.items()}}
            )
            _leave(EXIT_UNEXPECTED)
        self.assigned = frozenset().union(*by_topic.values())
        if self.assigned_round == self.round:  # never seen without a revocation before; then this makes up for it
            self.round += 1
            self.buffer.clear()
        self.assigned_round = self.round
        self.buffer.wake()
        self.slot_watch.assigned()
        log.info("partitions", extra={"worker": self.worker.name, "assigned": sorted(self.assigned)})

    # --- from the buffer to the worker --------------------------------------------------------------------------

    async def _drain(self) -> None:
        worker, loop = self.worker, asyncio.get_running_loop()
        due = None if worker.tick_s is None else loop.time() + worker.tick_s
        while not self.stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self.buffer.wait()
            if self.assigned_round != self.round:
                # Records may come before the assignment is told; their state is not loaded yet.
                await asyncio.sleep(0.01)
                continue
            if self.loaded_round != self.round and not await self._load():
                continue
            if len(self.buffer) < self.batch_max // 4:
                await asyncio.sleep(_FETCH_S)
            await self._next_batch()
            if due is not None and loop.time() >= due and worker.tick_s is not None:
                await self._call(self._tick())
                due = loop.time() + worker.tick_s

    async def _load(self) -> bool:
        """Let the worker load the state of a new assignment; False when it went again meanwhile."""
        this = self.round
        self.acker.reset()
        if self.loaded:
            gone, self.loaded = self.loaded, frozenset()
            if not await self._call(self.worker.on_revoked(gone)):
                return False
        self.loaded = assigned = self.assigned
        if not await self._call(
            self.delivery.patiently("loading state", lambda: self.worker.on_assigned(assigned))
        ):  # fmt: skip
            return False
        self.loaded_round = this
        return True

    async def _next_batch(self) -> None:
        this = self.round
        batch = [
            record
            for record, read_in in self.buffer.take(self.batch_max, self.worker.batch_bytes)
            if read_in == this and self.acker.handed(record.topic, record.partition, record.offset)
        ]
        if not batch:
            return
        began = time.monotonic()
        if await self._call(self.delivery.deliver(batch)) and not self.worker.deferred:
            self.acker.durable_all()
        metrics.WORKER_BATCH.labels(self.worker.name).observe(len(batch))
        metrics.WORKER_SECONDS.labels(self.worker.name).observe(time.monotonic() - began)

    async def _tick(self) -> None:
        try:
            await self.worker.tick()
        except TransientError as error:
            log.warning("tick failed and will be repeated", extra={"worker": self.worker.name, "error": str(error)})

    async def _call(self, step: Coroutine[Any, Any, None]) -> bool:
        """Run one call of the worker; False when a rebalance cut it off."""
        this = self.round
        self.call = call = asyncio.ensure_future(step)
        try:
            await call
        except asyncio.CancelledError:
            if self.round == this:
                call.cancel()
                raise
            return False
        return self.round == this

    def _acknowledge(self, topic: str, partition: int, through: int) -> None:
        # While Faust rebalances, and until the worker has loaded anew, nothing that it says counts.
        app: Any = self.app
        if self.loaded_round == self.round and not app.rebalancing:
            consumer: RunConsumer = app.consumer
            consumer.durable(TP(self.full_names[topic], partition), through)

    # --- telemetry ----------------------------------------------------------------------------------------------

    async def _pulse(self) -> None:
        while True:
            self.beat = time.monotonic()
            await asyncio.sleep(0.5)

    def _stalled(self) -> str | None:
        stood = time.monotonic() - self.beat
        return f"the event loop has stood still for {stood:.0f} s" if stood > STALLED_S else None
