"""What a worker is: the small contract between one job (intake, recorder, analysis, …) and the harness that runs it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import orjson

from vitalgate.config.settings import Settings
from vitalgate.config.topics import SETASIDE, Topic
from vitalgate.stream.acks import Acker
from vitalgate.stream.producer import Producer
from vitalgate.telemetry.health import Health

#: Larger values would not fit a record of Kafka once they are base64.
_MAX_ASIDE = 3_000_000


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record, as light as can be."""

    topic: str
    """Base name, without the deployment's prefix: compare with ``topics.RAW.name``."""
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    """None: a tombstone."""
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int

    def header(self, name: str) -> str:
        """Text of a header, '' when there is none."""
        for key, value in self.headers:
            if key == name:
                return value.decode("utf-8", "replace")
        return ""


@dataclass(frozen=True)
class Context:
    """What the harness hands to a worker at its start."""

    name: str
    """The worker's."""
    slot: str
    settings: Settings
    producer: Producer
    acker: Acker
    health: Health


class Worker:
    """Base of all workers. Everything here is called from one task, one call at a time: no locks are needed.

    The order is ``start``, then for every assignment ``on_assigned``, then ``handle`` and ``tick`` in turn,
    ``on_revoked`` when the partitions go, and ``stop`` last. A killed worker gets no call at all, so whatever
    matters must be durable when ``handle`` returns (or, with ``deferred``, when the acker is told).
    """

    name: ClassVar[str]
    """Kafka group and slot are made from it."""
    topics: ClassVar[tuple[Topic, ...]]
    """Read together; a process gets the same partition numbers of each."""
    co_partitioned: ClassVar[bool] = True
    """False: the topics may differ in their partition counts, and then need not go together."""
    deferred: ClassVar[bool] = False
    """True: the return of ``handle`` acknowledges nothing; the worker tells ``context.acker`` what is durable."""
    tick_s: ClassVar[float | None] = None
    """How often ``tick`` is called, also when nothing arrives. None: never."""
    gather_s: ClassVar[float] = 0.02
    """Least time between two fetches that brought something. Under load every fetch, batch, transaction and flush costs
    the same whatever it holds; a worker on whose result nobody waits lets more come together."""
    gather_few_s: ClassVar[float | None] = None
    """The same after a fetch that brought few records, where somebody waits for each: with little to do a fetch for one
    record costs nothing that is missing elsewhere. None: `gather_s`."""
    batch_max: ClassVar[int | None] = None
    """Records in one batch, when other than the setting worker.batch_max."""
    batch_bytes: ClassVar[int] = 16 * 1024 * 1024
    """Bytes of values after which a batch is closed; the read-ahead buffer holds twice as much."""
    context: Context

    async def start(self, context: Context) -> None:
        """Open what is needed. Raise TransientError to be called again; anything else ends the process."""
        self.context = context

    async def on_assigned(self, partitions: frozenset[int]) -> None:
        """Load the state of these partition numbers; no record of theirs has been handed over yet."""

    async def on_revoked(self, partitions: frozenset[int]) -> None:
        """Forget the state of these partitions: somebody else may already be writing it."""

    async def handle(self, batch: list[Record]) -> None:
        """Do the job for these records, in order within each partition; return when all of it is durable.

        Raise TransientError to have the same batch again after a pause. Any other exception is taken for the
        fault of a record: the batch is tried again, then halved until the record is found, and ``poison`` gets it.
        """
        raise NotImplementedError

    async def recover(self) -> None:
        """Put memory back to what is durable, after ``handle`` raised and before it is called again."""

    async def poison(self, record: Record, error: Exception) -> None:
        """Set one record aside that ``handle`` cannot take; it is acknowledged afterwards.

        The base class keeps it, with its bytes and the error, on the topic ``worker.setaside``.
        """
        await set_aside(self.context, self.name, record, error)

    async def tick(self) -> None:
        """Periodic work between batches (finishing what went idle, flushing memory). TransientError is logged."""

    async def stop(self) -> None:
        """Orderly end: flush and tell the acker. Cut off after half a second."""


async def set_aside(context: Context, worker: str, record: Record, error: Exception) -> None:
    """Keep a record that made a handler fail on ``worker.setaside``, and wait until Kafka has it."""
    text = f"{type(error).__name__}: {error}"
    value = record.value
    if value is not None and len(value) > _MAX_ASIDE:
        text = f"{text} (too large to be set aside; its bytes are where it came from until they expire there)"
        value = None
    body = {
        "worker": worker,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "error": text[-2000:],
        "key": None if record.key is None else record.key.decode("utf-8", "replace"),
        "headers": {key: value.decode("utf-8", "replace") for key, value in record.headers},
        "value_base64": None if value is None else base64.b64encode(value).decode(),
    }
    await context.producer.produce(
        SETASIDE,
        key=f"{record.topic}/{record.partition}/{record.offset}",
        value=orjson.dumps(body),
        headers=[("schema", b"worker.setaside"), ("schema_version", b"1")],
    )
    await context.producer.flush_batch()
