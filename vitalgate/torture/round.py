"""One round: devices send, faults strike at seeded moments, all goes quiet, and the results are compared."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from vitalgate.audit import chain
from vitalgate.config.topics import AUDIT, full
from vitalgate.devices.catalogue import Catalogue
from vitalgate.simulators import journal as journals
from vitalgate.simulators.cast import Registry, new_prefix
from vitalgate.simulators.reckoning import reckon
from vitalgate.storage import audit_table, in_flight, ledger
from vitalgate.storage.errors import StorageError
from vitalgate.torture import outcome, traffic
from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.outcome import Difference, Outcome
from vitalgate.torture.rig import IDLE_S, Rig
from vitalgate.torture.traffic import Traffic
from vitalgate.torture.witness import Seen, Witness

#: From registration to the first message.
_LEAD_S = 1.5
#: Latest a fault may still be at work, seconds after the start: the traffic lasts 25.
_LATEST_S = 22.0
_STILL_S = IDLE_S + 4.0
_LOOK_EVERY_S = 1.0
#: A process that is not ready so long after a fault is wedged. How soon it was ready is told apart; on a machine with
#: much else to do a start alone takes a minute.
_READY_S = 180.0


@dataclass
class Result:
    """What a round showed."""

    number: int
    seed: int
    faults: list[str]
    shape: str
    began: str
    """UTC, RFC 3339."""
    seconds: float = 0.0
    sent: int = 0
    """Messages published, repeats not counted."""
    lost: int = 0
    """Items sent by devices with outbox (or, while the broker lived, by any) that are nowhere; samples of waveforms."""
    duplicates: int = 0
    """Rows that should not be there."""
    differences: int = 0
    """Results that say something else, or are missing although what they are made of is there."""
    plain_lost: int = 0
    """Items of plain QoS 1 devices lost with the broker's memory: the stated window."""
    resume_s: float | None = None
    """From the last blow to the first row of a message made after it; None when there was none."""
    ready_s: float | None = None
    """From the last blow until every process said it was ready."""
    load: float | None = None
    """The machine's load average over the minute before the end: other work there makes recovery slow."""
    wrong: list[str] = field(default_factory=list)
    """Everything that should not be, in words."""
    notes: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    """What was done when."""

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return not (self.wrong or self.lost or self.duplicates or self.differences)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "good": self.good}


@dataclass(frozen=True)
class Bench:
    """What all rounds on one rig share."""

    rig: Rig
    registry: Registry
    catalogue: Catalogue
    folder: Path
    witness: Witness
    say: Callable[[str], None] = lambda _text: None


class Round:
    """Runs once."""

    def __init__(self, bench: Bench, number: int, seed: int, traffic_seed: int, faults: Sequence[Fault]) -> None:
        self.bench = bench
        self.faults = list(faults)
        self.traffic_seed = traffic_seed
        self.chance = random.Random(f"{seed} {number}")  # noqa: S311  no secret
        self.result = Result(
            number, seed, [fault.name for fault in faults], bench.rig.shape.name,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip
        self.seen = Seen()

    def run(self, reference: Outcome | None, patience_s: float = 120.0) -> Outcome:
        """Run it, and compare when there is something to compare with."""
        began = time.monotonic()
        field_ = asyncio.run(self._play(patience_s))
        found = self._settle(field_, reference, patience_s)
        asyncio.run(self._after(field_))
        self._reckon(field_, found)
        self.result.seconds = round(time.monotonic() - began, 1)
        self.result.load = round(os.getloadavg()[0], 1)
        self.result.wrong += field_.faults
        self.result.notes.update(field_.notes)
        field_.traffic.journal.close()
        self.bench.witness.forget()
        return found

    # --- playing ----------------------------------------------------------------------------------------------------

    async def _play(self, patience_s: float) -> Field:
        bench, prefix = self.bench, new_prefix(f"t{self.result.number}")
        folder = bench.folder / prefix
        folder.mkdir(parents=True)
        passwords = await asyncio.to_thread(
            traffic.enrol, bench.registry, prefix, self.traffic_seed, time.time() - 2 * traffic.SECONDS - 600
        )
        begin = time.time() + _LEAD_S
        played = traffic.prepare(
            passwords, bench.registry, bench.catalogue, prefix=prefix, seed=self.traffic_seed, begin=begin,
            folder=folder, port=bench.rig.device_port,
        )  # fmt: skip
        shared = Field(bench.rig, played, self.chance, told=self._tell, registry=bench.registry)
        for fault in self.faults:
            await fault.prepare(shared)
        moments = [self.chance.uniform(1.0, max(1.5, _LATEST_S - fault.seconds)) for fault in self.faults]
        strikes = [asyncio.create_task(self._strike(*pair, shared)) for pair in zip(self.faults, moments, strict=True)]
        receipted = await played.fleet.run(drain_s=patience_s)
        await asyncio.gather(*strikes)
        if not receipted:  # a fault outlived the traffic: the devices are offline by now
            pending = {device.name: device.pending for device in played.fleet.devices if device.pending}
            self.result.wrong.append(f"messages without receipt when patience ran out: {pending}")
        return shared

    async def _strike(self, fault: Fault, moment: float, shared: Field) -> None:
        await asyncio.sleep(max(0.0, shared.traffic.wall(0) + moment - time.time()))
        # Every fault has chances of its own, so that those of two do not depend on which is quicker.
        chance = random.Random(f"{self.result.seed} {self.result.number} {fault.name}")  # noqa: S311  no secret
        own = replace(shared, chance=chance)
        try:
            await fault.strike(own)
        except Exception as error:  # the harness must go on, and lift what it can
            self.result.wrong.append(f"the fault {fault.name} itself failed: {type(error).__name__}: {error}")
        shared.lifted = max(shared.lifted, own.lifted)
        blow = own.lifted
        late = await asyncio.to_thread(self.bench.rig.wait_ready, _READY_S)
        if late:
            self.result.wrong.append(f"not ready {_READY_S:g} s after {fault.name}: {', '.join(late)}")
        elif blow:
            self.result.ready_s = max(self.result.ready_s or 0.0, round(time.time() - blow, 1))

    async def _after(self, shared: Field) -> None:
        for fault in self.faults:
            await fault.after(shared)

    def _tell(self, text: str) -> None:
        self.result.log.append(text)
        self.bench.say(f"    {text}")

    # --- comparing --------------------------------------------------------------------------------------------------

    def _look(self, played: Traffic) -> Outcome:
        start_us = round(played.clock.start * 1_000_000)
        self.seen = self.bench.witness.look(played.roles(), played.patients(), start_us)
        return outcome.read(
            self.bench.rig.settings.database, played.roles(), played.patients(), start_us, self.seen.technical
        )

    def _settle(self, shared: Field, reference: Outcome | None, patience_s: float) -> Outcome:
        """Wait until nothing moves any more, or all is as it should be for a while."""
        give_up = time.monotonic() + patience_s
        hurt = frozenset(shared.hurt)
        wanted = None if reference is None else reference.without(hurt)
        before: Outcome | None = None
        moved = time.monotonic()
        while True:
            try:
                found = self._look(shared.traffic)
                waiting = in_flight.complete(
                    ledger.read(self.bench.rig.settings.database), self.bench.rig.settings.kafka
                ).in_flight
            except (psycopg.Error, StorageError) as error:
                if time.monotonic() > give_up:
                    raise
                self._tell(f"cannot look yet: {error}")
                time.sleep(_LOOK_EVERY_S)
                continue
            if found != before or waiting:
                before, moved = found, time.monotonic()
            still = time.monotonic() - moved
            difference = Difference() if wanted is None else outcome.compare(wanted, found.without(hurt))
            same = wanted is not None and not difference.any and not self.seen.against(found)
            if still > (2.5 if same else max(_STILL_S, 30.0 if wanted else 12.0)) or time.monotonic() > give_up:
                self._judge(difference, reference, found, hurt)
                return found
            time.sleep(_LOOK_EVERY_S)

    def _judge(self, difference: Difference, reference: Outcome | None, found: Outcome, hurt: frozenset[str]) -> None:
        result = self.result
        result.lost = difference.lost
        result.duplicates = difference.extra
        result.differences = difference.other + max(0, difference.missing - difference.lost)
        result.wrong += difference.told
        if hurt and reference is not None:
            kept = frozenset(role for role in _roles(reference) if role not in hurt)
            result.plain_lost = outcome.compare(reference.without(kept), found.without(kept)).lost

    def _reckon(self, shared: Field, found: Outcome) -> None:
        """The accounts of the system as a whole, and the devices' own journal."""
        result, settings, played = self.result, self.bench.rig.settings, shared.traffic
        played.journal.flush()
        book = journals.read(played.journal.path)
        (result.sent,) = book.execute("SELECT count(*) FROM messages WHERE sends > 0").fetchone()
        (unsent,) = book.execute("SELECT count(*) FROM messages WHERE sends = 0").fetchone()
        book.close()
        if unsent:
            result.wrong.append(f"{unsent} messages were never sent")
        own = reckon(played.journal.path, settings.database.dsn, settings.database.db_schema)
        if not shared.hurt:
            result.wrong += own.wrong[:5]
            if own.lost:
                result.wrong.append(f"by the devices' own journal {own.lost} items are nowhere")
        result.wrong += self.seen.against(found)
        account = in_flight.complete(ledger.read(settings.database), settings.kafka)
        if not account.balanced or account.lost or account.in_flight:
            result.wrong.append(
                f"the ledger: lost {account.lost}, in flight {account.in_flight}, {'; '.join(account.faults)}"
            )
        for where, records in (("topic", self._trail_on_kafka()), ("table", self._trail_in_table())):
            broken = chain.verify(records).broken
            if broken is not None:
                result.wrong.append(f"the audit trail ({where}) is broken at link {broken.n}: {broken.why}")
        result.resume_s = self._resumed(shared)

    def _resumed(self, shared: Field) -> float | None:
        """Seconds from the last blow to the first committed row of a reading taken after it."""
        played, database = shared.traffic, self.bench.rig.settings.database
        if not shared.lifted:
            return None
        since = played.clock.start + (shared.lifted - played.clock.wall_start) * played.clock.speed
        query = (
            "SELECT extract(epoch FROM min(l.applied_at))::float8 FROM readings r JOIN ledger l"
            " ON l.partition = r.raw_partition AND r.raw_offset BETWEEN l.first_offset AND l.last_offset"
            " WHERE r.device_id = ANY(%s) AND r.version = 1 AND r.time >= to_timestamp(%s)"
        )
        with psycopg.connect(database.dsn, options=f"-c search_path={database.db_schema}_data") as connection:
            row = connection.execute(query, (list(played.roles()), since)).fetchone()
        return None if row is None or row[0] is None else round(max(0.0, row[0] - shared.lifted), 2)

    def _trail_in_table(self) -> Iterator[dict[str, Any]]:
        for record in audit_table.read_trail(self.bench.rig.settings.database):
            yield json.loads(record)

    def _trail_on_kafka(self) -> Iterator[dict[str, Any]]:
        from kafka import KafkaConsumer, TopicPartition

        kafka = self.bench.rig.settings.kafka
        consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap.split(","), enable_auto_commit=False)
        try:
            where = TopicPartition(full(AUDIT, kafka), 0)
            consumer.assign([where])
            end = consumer.end_offsets([where])[where]
            consumer.seek_to_beginning(where)
            while consumer.position(where) < end:
                for records in consumer.poll(timeout_ms=1000).values():
                    for record in records:
                        if record.offset < end:
                            yield json.loads(record.value)
        finally:
            consumer.close()


def _roles(found: Outcome) -> set[str]:
    rows = (*found.readings, *found.statuses, *found.recordings, *found.beats, *found.features, *found.alerts)
    return {str(row[0]).partition("/")[0] for row in rows}
