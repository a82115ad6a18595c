"""The Faust app of a worker process: measured settings, and a consumer that hands over fetched runs of records.

Faust takes about 100 microseconds for each event on its way from the fetcher through conductor, channel, stream and
acknowledgement. So one event here is a *run*: all records of one partition that one fetch brought. Group membership,
co-partitioned assignment, rebalancing, seeking and committing remain Faust's. The offset to commit is told to the
consumer (`RunConsumer.durable`), as Faust's own search for it steps over one missing offset at the head of a
partition.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, cast

import faust
from faust.tables import TableManager
from faust.transport.drivers.aiokafka import Consumer as _Consumer
from faust.transport.drivers.aiokafka import Transport as _Transport
from faust.types import TP, AppT, EventT
from faust.types.tuples import ConsumerMessage

from vitalgate.config.settings import Settings
from vitalgate.config.topics import full
from vitalgate.config.transport import context, kafka_python_options
from vitalgate.stream.groups import group
from vitalgate.stream.worker import Worker

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
_LONG_S = 86_400.0
#: Runs that may wait in Faust's channel; each is at most one fetch of one partition (about 1 MB, or one record).
_RUNS_AHEAD = 8
#: Records of one fetch up to which `Worker.gather_few_s` holds: at 1,000 a second a fetch each 20 ms brings more.
_FEW = 8


class Run(ConsumerMessage):
    """Consecutive records of one partition as one Faust message; its offset is the last one's."""

    __slots__ = ("records",)
    records: Sequence[Any]
    """aiokafka's ConsumerRecord each."""


class RunConsumer(_Consumer):
    """Faust's aiokafka consumer, handing over runs, and committing what `durable` was told."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._durable: dict[TP, int] = {}
        self._gather_s = cast("_App", self.app).gather_s
        self._gather_few_s = cast("_App", self.app).gather_few_s
        self._few = False
        self._fetched = 0.0

    def durable(self, tp: TP, through: int) -> None:
        """Everything of the partition up to and with this offset is done; it is committed at the next interval."""
        self._durable[tp] = through

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Run]]:
        """One run for each partition that the fetcher has something of.

        What has been fetched of a partition is not fetched beyond until it is taken, so that taking it now and then
        keeps the number of requests to Kafka low.
        """
        early = self._fetched + (self._gather_few_s if self._few else self._gather_s) - time.monotonic()
        if early > 0:
            await asyncio.sleep(early)
        found, unpaused = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if self.should_stop:
            return
        if not self.flow_active:
            try:
                await self.perform_seek()
            except Exception as error:
                log.debug("no seek", extra={"error": repr(error)})
            return
        if found:
            self._fetched = time.monotonic()
            self._few = sum(map(len, found.values())) <= _FEW
        usable = (unpaused or set()) | self._buffered_partitions
        for tp, records in (found or {}).items():
            if self._changed(generation):
                break
            if records and tp in usable:
                yield tp, self._run(tp, cast("Sequence[Any]", records))

    def _changed(self, generation: int) -> bool:
        return not self.flow_active or self.app.consumer_generation_id != generation

    def _run(self, tp: TP, records: Sequence[Any]) -> Run:
        last = records[-1]
        run = Run(
            last.topic, last.partition, last.offset, last.timestamp / 1000, last.timestamp_type, None, b"", b"", None,
            tp=tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        run.records = records
        return run

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        # As the base class, without the table of offsets that it draws at each commit for a log that nobody keeps.
        assignment = self.assignment()
        mine = {tp: offset for tp, offset in offsets.items() if tp in assignment}
        if not mine:
            return False
        done = bool(await self._commit(mine))
        self._committed_offset.update(mine)
        return done

    async def verify_all_partitions_active(self) -> None:
        """Nothing: the harness watches its own loop, and handlers may wait for the database for hours."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what was durable: another assignment begins with what is committed."""
        self._durable.clear()
        await super().on_partitions_revoked(revoked)
        self._durable.clear()

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        return  # only needed by the search for the offset to commit

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter(list(self._durable))

    def _new_offset(self, tp: TP) -> int | None:
        through = self._durable.get(tp)
        return None if through is None else through + 1


class _RunTransport(_Transport):
    Consumer = RunConsumer


class _App(faust.App):
    """Faust with our consumer, and without its working directory: there are no tables to keep in it."""

    gather_s = gather_few_s = 0.0
    """`Worker.gather_s`, `Worker.gather_few_s`."""

    def _new_transport(self) -> _RunTransport:
        return _RunTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        return


class _Quiet(faust.Monitor):
    """Faust keeps statistics of each event; the harness measures batches instead."""

    def _sample(self, prev_event_total: int, prev_message_total: int) -> tuple[int, int]:
        return prev_event_total, prev_message_total

    def on_message_in(self, tp: TP, offset: int, message: Any) -> None:
        return

    def on_stream_event_in(self, tp: TP, offset: int, stream: Any, event: EventT[Any]) -> None:
        return

    def on_stream_event_out(self, tp: TP, offset: int, stream: Any, event: EventT[Any], state: Any = None) -> None:
        return

    def on_message_out(self, tp: TP, offset: int, message: Any) -> None:
        return


class _NoTables(TableManager):
    """Faust waits a second at every start for tables to be declared; there are none."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


def _credentials(settings: Settings) -> Any:
    """How Faust's Kafka client says who it is; None in the clear."""
    kafka = settings.kafka
    if kafka.username:
        options = kafka_python_options(kafka)
        return faust.SASLCredentials(
            mechanism=options["sasl_mechanism"],
            username=kafka.username,
            password=options["sasl_plain_password"],
            ssl_context=options.get("ssl_context"),
        )
    return faust.SSLCredentials(made) if (made := context(kafka, "kafka")) is not None else None


def make_app(worker: Worker, settings: Settings, slot: str) -> AppT:
    """The app, not started; call inside the event loop it shall run in."""
    app = _App(
        group(settings, worker.name),
        broker=[f"kafka://{node.strip()}" for node in settings.kafka.bootstrap.split(",")],
        broker_credentials=_credentials(settings),
        broker_client_id=f"vitalgate-{worker.name}-{slot}",
        # A static member: a killed worker has its partitions back in 1.6 s instead of 59.
        consumer_group_instance_id=f"{worker.name}-{slot}",
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.worker.session_timeout_s,
        broker_heartbeat_interval=min(HEARTBEAT_S, settings.worker.session_timeout_s / 3),
        broker_rebalance_timeout=max(10.0, 2 * settings.worker.session_timeout_s),
        broker_commit_interval=settings.worker.commit_interval_s,
        # A handler that waits hours for the database is no reason to leave the group or to fill the log.
        broker_max_poll_interval=_LONG_S,
        stream_processing_timeout=_LONG_S,
        broker_commit_livelock_soft_timeout=_LONG_S,
        # True would let SIGTERM hang for as long as the database is away.
        stream_wait_empty=False,
        stream_buffer_maxsize=_RUNS_AHEAD,
        topic_allow_declare=False,
        topic_disable_leader=True,
        store="memory://",
        web_enabled=False,
        autodiscover=False,
        key_serializer="raw",
        value_serializer="raw",
        Monitor=_Quiet,
        TableManager=_NoTables,
    )
    app.gather_s = worker.gather_s
    app.gather_few_s = worker.gather_s if worker.gather_few_s is None else worker.gather_few_s
    return app


def make_channel(app: AppT, worker: Worker, settings: Settings) -> Any:
    """All topics of the worker as one Faust topic; its events are runs (``event.message.records``)."""
    names = [full(topic, settings.kafka) for topic in worker.topics]
    return app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
