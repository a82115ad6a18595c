"""`intake`: raw device messages to validated batches, patient inputs, dead letters and receipts.

Thin over the pure step `devices.intake.take`. It is the sole owner of the devices of its partitions and remembers what
it has kept of each on the compacted topic device.sequences, from which it reads that memory again at every assignment.
That memory is written only after Kafka has the validated batch, so it never claims more than was kept; and not with
each batch but some times a second, for all devices that were heard meanwhile. What was taken since is not acknowledged
to Kafka before: after a kill it is taken again, from the older memory, with the same outcome.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

import msgspec

import vitalgate
from vitalgate.config import topics
from vitalgate.devices import catalogue, identity, sequences
from vitalgate.devices.intake import WHOLE, RawRecord, RegisteredDevice, take
from vitalgate.devices.reasons import Reason
from vitalgate.devices.records import Dead, DeviceSequences, Message, decode_sequences, encode
from vitalgate.storage.publics import dead_letter
from vitalgate.stream import lookback, outputs
from vitalgate.stream.audit_inbox import send_audit
from vitalgate.stream.headers import content_id, headers
from vitalgate.stream.numbering import bases_of
from vitalgate.stream.registry_view import RegistryView
from vitalgate.stream.watch import DeviceWatch
from vitalgate.stream.worker import Context, Record, Worker
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: A batch is handled by a registry that was read to its end this recently: who moves data after an assignment was
#: corrected (stream/moving.py) counts on it.
FRESH_S = 0.5

#: The devices' memory is written this often, and their receipts are told no sooner.
REMEMBER_S = 0.1
#: Gaps and devices that send too fast are looked for this often.
WATCH_S = 1.0

States = dict[str, DeviceSequences]


class Intake(Worker):
    """See the module."""

    name = "intake"
    gather_few_s = 0.004
    topics = (topics.RAW,)
    tick_s = REMEMBER_S
    deferred = True
    registry: RegistryView

    async def start(self, context: Context) -> None:
        """Read the catalogue and the registry."""
        await super().start(context)
        settings = context.settings
        self.catalogue = catalogue.load()
        if not hasattr(self, "registry"):  # this may be called again
            self.registry = RegistryView(settings.kafka)
        await self.registry.ready()
        self.refreshed = time.monotonic()
        self.bases = await bases_of(settings.kafka)
        self.by = f"intake-{context.slot} {vitalgate.__version__}"
        self.states: dict[int, States] = {}
        self.watch = DeviceWatch(settings.intake.max_messages_per_s)
        self.watch_at = 0.0
        self._forget()

    def _forget(self) -> None:
        #: What is newer than what is written, by partition; and the last record taken of each.
        self.unwritten: dict[int, States] = {}
        self.taken: dict[int, int] = {}

    async def on_assigned(self, partitions: frozenset[int]) -> None:
        """Read what was kept of the devices of these partitions."""
        self._forget()
        ordered = sorted(partitions)
        loaded = await asyncio.gather(*(self._load(partition) for partition in ordered))
        self.states = dict(zip(ordered, loaded, strict=True))
        self.watch.reset(state for states in loaded for state in states.values())

    async def on_revoked(self, partitions: frozenset[int]) -> None:
        """Forget the devices."""
        self.states.clear()
        self._forget()

    async def _load(self, partition: int) -> States:
        states: States = {}
        async for chunk in lookback.read(self.context.settings.kafka, topics.SEQUENCES, partition):
            for record in chunk:
                if record.value is None:
                    continue
                try:
                    state = decode_sequences(record.value)
                except (msgspec.MsgspecError, ValueError) as error:
                    log.error("an entry is none of ours", extra={"offset": record.offset, "error": str(error)})
                    continue
                known = states.get(state.device)
                # A late write of a process that lost the partition must not take the place of a newer one.
                if known is None or state.offset >= known.offset:
                    states[state.device] = state
        return states

    async def handle(self, batch: list[Record]) -> None:
        """Validated batches, inputs and dead letters; return when Kafka has these. Memory is written by `tick`."""
        raws = [self._raw(record) for record in batch]
        names = [parsed[0] if (parsed := topics.parse_device_topic(raw.topic)) else None for raw in raws]
        registered = self.registry.devices
        if time.monotonic() - self.refreshed > FRESH_S or any(map(self._is_new, set(names))):
            began = time.monotonic()
            await self.registry.refresh()
            self.refreshed = began
        # Apart until it is sent: a batch that fails is taken again from what was before it.
        touched: dict[int, States] = {}
        taken: dict[int, list[Message]] = {}
        for raw, name in zip(raws, names, strict=True):
            message = self._take(raw, name, registered.get(name) if name else None, touched)
            taken.setdefault(raw.partition, []).append(message)
        await self._send(taken)
        for partition, states in touched.items():
            self.unwritten.setdefault(partition, {}).update(states)
        self.taken.update((record.partition, record.offset) for record in batch)
        self._count(taken)

    def _raw(self, record: Record) -> RawRecord:
        """The record by its number for ever: its offset, after those of a Kafka that was lost."""
        number = record.offset + self.bases.of(topics.RAW, record.partition)
        return RawRecord.of(record.partition, number, record.value or b"", record.headers, record.timestamp_ms)

    def _is_new(self, name: str | None) -> bool:
        """Whether a device is unknown here, or nobody's: perhaps only not yet; or revoked: perhaps no longer."""
        if name is None:
            return False
        device = self.registry.device(name)
        return device is None or device.revoked or not self.registry.assignments(name)

    def _take(
        self, raw: RawRecord, name: str | None, device: RegisteredDevice | None, touched: dict[int, States]
    ) -> Message:
        settings = self.context.settings
        here = touched.setdefault(raw.partition, {})
        state = None
        if name is not None:
            state = here.get(name) or self.unwritten.get(raw.partition, {}).get(name)
            if state is None:
                state = self.states[raw.partition].get(name)
                state = sequences.begin(state) if state is not None else None
        message, after = take(
            raw, device, state, self.catalogue, settings.intake, max_payload_bytes=settings.mqtt.max_payload_bytes
        )
        if name is not None and after is not state and after.offset == raw.offset:
            here[name] = after
        return message

    async def _send(self, taken: dict[int, list[Message]]) -> None:
        produce, patient_at = self.context.producer.produce, self.registry.patient_at
        for partition, messages in taken.items():
            for batch, data in outputs.batches(partition, messages, self.by):
                identity_ = content_id(partition, batch.first, batch.last)
                await produce(
                    topics.VALIDATED, key=None, value=data, partition=partition,
                    headers=headers(topics.VALIDATED, batch.messages[0].trace, identity_),
                )  # fmt: skip
        for partition, messages in taken.items():
            for message in messages:
                # A repeat was sent on when it first came; what is replayed was refused then.
                if message.repeat and message.replay_of is None:
                    continue
                cause = "live" if message.replay_of is None else "replay"
                found = outputs.inputs(message, patient_at, cause=cause, version=self.by)
                if not found and not message.dead:
                    continue
                identity_ = identify(message)
                for one in found:
                    await produce(
                        topics.INPUTS, key=one.patient, value=encode(one),
                        headers=headers(topics.INPUTS, message.trace, identity_),
                    )  # fmt: skip
                for dead in message.dead:
                    public = dead_letter(message, partition, identity_, dead)
                    await produce(
                        topics.DEADLETTER, key=public.key, value=public.value,
                        headers=headers(topics.DEADLETTER, public.trace, public.message_id),
                    )  # fmt: skip
        await self.context.producer.flush_batch()

    async def _remember(self) -> None:
        """Write the memory of the devices heard since the last time; then what was taken of them is done with."""
        produce = self.context.producer.produce
        for partition, states in self.unwritten.items():
            for device, state in states.items():
                value = encode(state)
                await produce(
                    topics.SEQUENCES, key=device, value=value, partition=partition,
                    headers=headers(topics.SEQUENCES, "", content_id(value)),
                )  # fmt: skip
        await self.context.producer.flush_batch()
        for partition, states in self.unwritten.items():
            self.states[partition].update(states)
            self.watch.kept(states.values())
        for partition, offset in self.taken.items():
            self.context.acker.durable(topics.RAW.name, partition, offset)
        self.unwritten, self.taken = {}, {}
        metrics.SEQUENCE_GAPS.set(self.watch.gaps())

    def _count(self, taken: dict[int, list[Message]]) -> None:
        kinds: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        repeats = 0
        for messages in taken.values():
            for message in messages:
                repeats += message.repeat
                kinds["reading"] += len(message.readings)
                kinds["waveform"] += len(message.waveforms)
                kinds["status"] += message.status is not None
                reasons.update(dead.reason for dead in message.dead)
                self.watch.came(message.device)
        for kind, count in kinds.items():
            metrics.ITEMS.labels(kind).inc(count)
        for reason, count in reasons.items():
            metrics.DEAD_LETTERED.labels(reason).inc(count)
        metrics.REPEATS.inc(repeats)

    async def stop(self) -> None:
        """Write the memory that is not written."""
        if self.taken:
            await self._remember()

    async def tick(self) -> None:
        """Write memory; report devices that send too fast, and gaps in the numbering that stay open."""
        if self.taken:
            await self._remember()
        if time.monotonic() < self.watch_at:
            return
        self.watch_at = time.monotonic() + WATCH_S
        for event in self.watch.report(time.time_ns() // 1000):
            log.warning(event.action, extra={"device": event.entity_id, **event.detail})
            await send_audit(self.context, event)
        await self.context.producer.flush_batch()

    async def poison(self, record: Record, error: Exception) -> None:
        """A message on which intake itself fails is a dead letter too: its offset must not be missing."""
        raw = self._raw(record)
        parsed = topics.parse_device_topic(raw.topic)
        name, leaf = parsed or ((record.key or b"").decode("utf-8", "replace"), "")
        detail = f"intake failed on it ({type(error).__name__}); please report this with the payload"
        message = Message(
            name, leaf, raw.offset, raw.received_us, raw.trace, "", sequences.NOTHING, 0, raw.offset, False, 0,
            identity.payload_hash(raw.value), b"", dead=[Dead(WHOLE, Reason.INTERNAL_ERROR, detail)], payload=raw.value,
            mqtt_topic=raw.topic, replay_of=raw.replay_of,
        )  # fmt: skip
        await self._send({record.partition: [message]})
        self.taken[record.partition] = record.offset


def identify(message: Message) -> str:
    """Content identity of a device message, hex."""
    return identity.message_id(message.device, message.epoch, message.seq, message.content_hash, message.payload_hash)
