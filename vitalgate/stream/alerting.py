"""`alerting`: readings, features and ticks to alerts. Thin over `vitalgate.alerts.engine`; needs no database.

What the engine remembers of each patient is on the compacted topic alerting.memory. The order of writing is what makes
a kill harmless: first the memory, with the events that it has decided on; then the events; then the acknowledgement of
what led to them. What has been decided once is therefore never decided anew, whatever order the topics are read in
after a kill: events that the memory holds are sent again as they are, and the inputs since the last acknowledgement
come on top of a memory that has seen them and change nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Any

import msgspec
import orjson

from vitalgate.alerts import checks, rules
from vitalgate.alerts.commands import Reply
from vitalgate.alerts.engine import Engine
from vitalgate.alerts.events import AlertEvent
from vitalgate.alerts.machine import NEVER
from vitalgate.config import topics
from vitalgate.devices import times
from vitalgate.devices.records import decode_input
from vitalgate.stream import alerting_records as out
from vitalgate.stream import lookback
from vitalgate.stream.alerting_care import CareView
from vitalgate.stream.alerting_devices import DeviceTimes
from vitalgate.stream.alerting_strips import Strips
from vitalgate.stream.audit_inbox import send_audit
from vitalgate.stream.handover_records import undelivered
from vitalgate.stream.headers import headers
from vitalgate.stream.partitions import partition_of
from vitalgate.stream.registry_view import Kind, RegistryView
from vitalgate.stream.worker import Context, Record, Worker
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: Memory of patients whose alerts did not change is written, and inputs are acknowledged, at most this often.
FLUSH_S = 1.0
#: And this often when more than so many bytes were written last time: what comes again after a kill is cheap.
BUSY_FLUSH_S = 5.0
#: Open alerts are counted, over all patients, this often.
MEASURE_S = 5.0
BUSY_BYTES = 1_000_000
#: Key of the record of everybody's last sign of life; no patient's id.
HEARD = "\0heard"


class Alerting(Worker):
    """See the module."""

    name = "alerting"
    gather_few_s = 0.004
    topics = (topics.INPUTS, topics.FEATURES, topics.TICKS, topics.ALERT_COMMANDS, topics.ALERT_DELIVERIES)
    deferred = True
    tick_s = FLUSH_S

    async def start(self, context: Context) -> None:
        """Read the rules and the registry.

        Raises
        ------
        vitalgate.alerts.rules.RuleError
            When a rule file cannot be used.
        """
        await super().start(context)
        settings = context.settings
        self.book = rules.load(settings.alerting.rules)
        self.engines: dict[int, Engine] = {}
        self.pending: list[tuple[int, AlertEvent]] = []
        """Events that Kafka has not taken yet, with their partition."""
        self.replies: list[tuple[int, Reply]] = []
        """Answers to commands that Kafka has not taken yet."""
        self.strips = Strips()
        self.restated: list[tuple[int, AlertEvent]] = []
        """Open alerts whose state record is due again (another team), without an event."""
        self.unsaved: dict[tuple[int, str], bytes] = {}
        """Memory that Kafka has not taken yet, by partition and patient."""
        self.flush_at = self.measure_at = 0.0
        if not hasattr(self, "registry"):
            self.registry = RegistryView(settings.kafka)
            self.registry.on_change(self._registry_changed)
            self.care = CareView(settings.kafka, self._care_changed)
            self.devices = DeviceTimes(self.registry, frozenset(self.book.devices))
        await self.registry.ready()
        await self.care.ready()
        for rule in self.book.rules.values():
            for fault in [*checks.faults(rule), *checks.strangers(rule, self.book.rules)]:
                log.error("a rule can never do what it says", extra={"rule": rule.id, "fault": fault})
        log.info("rules", extra={"count": len(self.book.rules), "fingerprint": self.book.fingerprint})

    async def on_assigned(self, partitions: frozenset[int]) -> None:
        """Load what is remembered of the patients of these partitions."""
        self._forget()
        await self.registry.refresh()
        self.devices.read()
        ordered = sorted(partitions)
        for partition, engine in zip(ordered, await asyncio.gather(*map(self._load, ordered)), strict=True):
            self.engines[partition] = engine
            self._keep(partition, engine.recheck(_now()))

    async def on_revoked(self, partitions: frozenset[int]) -> None:
        """Forget them."""
        self._forget()

    def _forget(self) -> None:
        self.engines.clear()
        self.pending.clear()
        self.restated.clear()
        self.replies.clear()
        self.unsaved.clear()

    async def _load(self, partition: int) -> Engine:
        settings = self.context.settings
        engine = Engine(self.book, settings.alerting.default_team)
        for name, cohort in self.care.cohorts.items():
            engine.cohort_changed(name, cohort.overrides, 0)
        for patient in self.registry.patients.values():
            engine.patient_changed(patient.patient, patient.team, patient.overrides, 0, _zones(patient.zones))
        for team, roster in self.care.rosters.items():
            engine.roster_changed(team, roster)
        for name, worn in self.devices.worn.items():
            engine.devices_changed(name, worn, 0)
        for key, record in (await lookback.load_compacted(settings.kafka, topics.ALERT_MEMORY, partition)).items():
            try:
                if key == HEARD.encode():
                    engine.load_heard(record.value or b"")
                    continue
                unsent = engine.load(key.decode(), record.value or b"")
            except (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError) as error:
                # Written by another release: the patient starts afresh rather than stopping everybody's alerts.
                log.error("memory of a patient cannot be read", extra={"offset": record.offset, "error": str(error)})
                continue
            self._keep(partition, [AlertEvent.model_validate_json(event) for event in unsent])
        for name in self.devices.worn:
            if self._partition(name) == partition:
                engine.expect(name, self.devices.held(name))
        return engine

    def _partition(self, patient: str) -> int:
        return partition_of(patient, self.context.settings.kafka.partitions)

    async def handle(self, batch: list[Record]) -> None:
        """Events of these records on patient.alerts, and what they changed in the memory of alerts."""
        now = _now()
        for record in batch:
            if record.value is not None:
                self._keep(record.partition, self._take(record, now))
        if self.pending or self.restated or self.replies:
            await self._send()

    def _take(self, record: Record, now: int) -> list[AlertEvent]:
        engine = self.engines[record.partition]
        value = record.value or b""
        if record.topic == topics.INPUTS.name:
            taken = decode_input(value)
            if taken.message.waveforms:
                self.strips.take(taken)
            return engine.take(taken, now)
        if record.topic == topics.ALERT_COMMANDS.name:
            events, reply = out.obeyed(engine, record, now)
            if reply is not None:
                self.replies.append((record.partition, reply))
            return events
        document: dict[str, Any] = orjson.loads(value)
        if record.topic == topics.TICKS.name:
            return engine.tick(document["time_us"], now)
        if record.topic == topics.ALERT_DELIVERIES.name:
            at = times.parse(document["at"]).us
            change = undelivered(document, at)
            return [] if change is None else engine.take_feature(change, at, at, record.timestamp_ms * 1000, now)
        if document["name"] not in self.book.features:
            return []
        received = record.header("received_at")
        return engine.take_feature(
            document, times.parse(document["start"]).us, times.parse(document["end"]).us,
            int(received) if received else record.timestamp_ms * 1000, now,
        )  # fmt: skip

    def _keep(self, partition: int, events: list[AlertEvent]) -> None:
        self.pending += [(partition, self.strips.attach(event)) for event in events]

    async def _send(self) -> None:
        """The memory that has decided on these events, then the events themselves."""
        produce = self.context.producer.produce
        # What comes up while Kafka answers is for the next time. Nothing is awaited until all of it is packed.
        sent, stated, answered = len(self.pending), len(self.restated), len(self.replies)
        records = [(partition, event, out.event_value(event)) for partition, event in self.pending[:sent]]
        outbox: dict[tuple[int, str], list[bytes]] = {}
        for partition, event, value in records:
            outbox.setdefault((partition, event.patient), []).append(value)
        for partition, reply in self.replies[:answered]:
            outbox.setdefault((partition, reply.patient), [])
        await self._remember(
            {(n, name): self.engines[n].pack(name, events) for (n, name), events in outbox.items() if n in self.engines}
        )
        for partition, event, value in records:
            message = headers(topics.ALERTS, "", out.message_id(event))
            await produce(topics.ALERTS, key=event.patient, value=value, headers=message, partition=partition)
        restated = [(partition, event, out.event_value(event)) for partition, event in self.restated[:stated]]
        for partition, event, value in [*records, *restated]:
            await produce(
                topics.ALERT_STATE, key=out.state_key(event), value=None if event.closed else value,
                headers=headers(topics.ALERT_STATE, "", out.message_id(event)), partition=partition,
            )  # fmt: skip
        for _, event, _ in records:
            await send_audit(self.context, out.audit_event(event))
        for partition, reply in self.replies[:answered]:
            await produce(
                topics.ALERT_REPLIES, key=reply.patient, value=out.reply_value(reply), partition=partition,
                headers=headers(topics.ALERT_REPLIES, "", out.reply_id(reply)),
            )  # fmt: skip
            if reply.outcome == "refused":
                await send_audit(self.context, out.refusal(reply))
        await self.context.producer.flush_batch()
        for _, event, _ in records:
            _count(event)
        del self.pending[:sent], self.restated[:stated], self.replies[:answered]

    async def _remember(self, packed: dict[tuple[int, str], bytes]) -> None:
        self.unsaved |= packed
        writing = dict(self.unsaved)
        for (partition, patient), value in writing.items():
            await self.context.producer.produce(
                topics.ALERT_MEMORY, key=patient, value=value,
                headers=headers(topics.ALERT_MEMORY, "", out.memory_id(patient, value)), partition=partition,
            )  # fmt: skip
        await self.context.producer.flush_batch()
        self.unsaved = {key: value for key, value in self.unsaved.items() if writing.get(key) is not value}

    async def tick(self) -> None:
        """Tell what the registry brought; write memory when it is time."""
        if self.pending or self.restated or self.replies:
            await self._send()
        if time.monotonic() >= self.flush_at:
            await self._flush()

    async def _flush(self) -> None:
        """Write the memory of everybody who changed; then, and only then, everything handled so far is done."""
        changed = {(n, patient): packed for n, engine in self.engines.items() for patient, packed in engine.dirty()}
        for n, engine in self.engines.items():
            heard = engine.pack_heard()
            if heard is not None:
                changed[n, HEARD] = heard
        await self._remember(changed)
        self.context.acker.durable_all()
        busy = sum(map(len, changed.values())) > BUSY_BYTES
        now = time.monotonic()
        self.flush_at = now + (BUSY_FLUSH_S if busy else 0.0)
        if now >= self.measure_at:
            self.measure_at = now + MEASURE_S
            self._measure()

    async def stop(self) -> None:
        """Write all that is not written."""
        if self.pending or self.restated or self.replies:
            await self._send()
        await self._flush()
        self.registry.close()
        self.care.close()

    def _measure(self) -> None:
        found: Counter[str] = Counter()
        for engine in self.engines.values():
            found.update(engine.open_alerts())
        for priority in ("high", "medium", "low"):
            metrics.OPEN_ALERTS.labels(priority).set(found[priority])
        for engine in self.engines.values():
            if engine.too_late:
                log.warning("values too late to be judged", extra={"count": engine.too_late})
                engine.too_late = 0
            for text in engine.trouble:
                log.error("a patient's own limits cannot be used", extra={"trouble": text})
            engine.trouble.clear()

    def _registry_changed(self, kind: Kind, key: str) -> None:
        now = _now()
        if kind != "patient":
            for name in self.devices.changed(key):
                for partition, engine in self.engines.items():
                    self._keep(partition, engine.devices_changed(name, self.devices.worn.get(name, {}), now))
                own = self.engines.get(self._partition(name))
                if own is not None:
                    own.expect(name, self.devices.held(name))
            return
        patient = self.registry.patient(key)
        if patient is None:
            return
        for partition, engine in self.engines.items():
            before = engine.team(key)
            zones = _zones(patient.zones)
            self._keep(partition, engine.patient_changed(key, patient.team, patient.overrides, now, zones))
            if engine.team(key) != before:
                self.restated += [(partition, event) for event in engine.current(key, now)]

    def _care_changed(self, kind: str, key: str) -> None:
        now = _now()
        for partition, engine in self.engines.items():
            if kind == "roster":
                engine.roster_changed(key, self.care.rosters.get(key))
                continue
            cohort = self.care.cohorts.get(key)
            self._keep(partition, engine.cohort_changed(key, None if cohort is None else cohort.overrides, now))


def _zones(zones: tuple[tuple[int | None, str], ...]) -> tuple[tuple[int, str], ...]:
    found = tuple((NEVER if since is None else since, name) for since, name in zones)
    # Everybody lives somewhere; only a zone that makes a difference makes a book of rules of its own.
    return () if all(name == "UTC" for _, name in found) else found


def _now() -> int:
    return time.time_ns() // 1000


def _count(event: AlertEvent) -> None:
    metrics.ALERTS.labels(event.happened, event.priority).inc()
    if event.happened == "raised" and event.received_at is not None and not event.hindsight:
        metrics.DEVICE_TO_ALERT.observe(max(0.0, time.time() - event.received_at.timestamp()))
