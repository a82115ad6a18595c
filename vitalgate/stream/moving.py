"""Data follows an assignment: what was claimed or corrected is sent on patient.inputs again, to and from the patients.

For every stretch whose patient changed, the stored items go out as `remove` for the former patient and `add` for the
present one. That is done when intake has handed out, and the recorder has stored, all that may have gone by the former
assignments: everything that was in device.raw a moment after the new ones were published. Intake commits an offset when
Kafka has all that came of it, so nothing of the former patient's comes after the `remove`. A move that was
interrupted is done again from its beginning; the same items twice change nothing.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.devices.records import Message, PatientInput, encode
from vitalgate.gateway.address import backoff
from vitalgate.gateway.confirmed import ConfirmedProducer, NotDelivered, Record
from vitalgate.storage import moves
from vitalgate.storage.errors import StorageError
from vitalgate.storage.ledger import high_water
from vitalgate.storage.log_base import Bases, read_bases
from vitalgate.storage.registry import OutboxRow
from vitalgate.stream.audit_inbox import audit_body
from vitalgate.stream.errors import TransientError
from vitalgate.stream.groups import group
from vitalgate.stream.headers import content_id
from vitalgate.stream.lookback import committed_now
from vitalgate.stream.registry_records import EVENTS
from vitalgate.stream.stretches import Stretch, changed
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: Within this time after the new assignments were published, every intake works by them.
GRACE_S = 1.0
_PORTION_BYTES = 3_000_000
_POLL_S = 0.2


@dataclass
class Move:
    """One change of assignments whose data has to follow."""

    row: int
    """The outbox row, marked applied when the move is done."""
    device: str
    stretches: list[Stretch]
    since: float
    """When the new assignments were published, by the monotonic clock."""
    ends: dict[int, int] | None = None
    """End offsets of device.raw that intake and the recorder have to reach."""


@dataclass
class Moved:
    """What one stretch came to."""

    removed: int = 0
    added: int = 0
    patients: list[str] = field(default_factory=list)


def move_of(row: OutboxRow, before: Mapping[str, Any] | None, *, fresh: bool) -> Move | None:
    """The move that a row of the outbox calls for, or None.

    Parameters
    ----------
    before
        What the row before it said of the same device.
    fresh
        True when the device has only just been added: it cannot have sent anything.
    """
    if row.topic != topics.REGISTRY_ASSIGNMENTS.name or (fresh and before is None):
        return None
    was = before.get("assignments", []) if before else []
    stretches = changed(was, orjson.loads(row.value)["assignments"])
    return Move(row.id, row.key, stretches, time.monotonic()) if stretches else None


class Mover:
    """Does moves one after the other, in a thread of its own.

    Parameters
    ----------
    done
        Called with the outbox row of each move that is done, on that thread.
    """

    def __init__(self, settings: Settings, done: Callable[[int], None]) -> None:
        self._settings = settings
        self._raw = topics.full(topics.RAW, settings.kafka)
        self._bases: Bases | None = None
        self._done = done
        self._producer = ConfirmedProducer(settings.kafka, "vg-mover")
        self._changed = threading.Condition()
        self._moves: dict[int, Move] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mover", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End after the portion in hand; what is not done is done by the next registrar."""
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._producer.close()

    def add(self, move: Move) -> None:
        """Take a move; one that is known already is left as it is."""
        with self._changed:
            self._moves.setdefault(move.row, move)
            self._changed.notify_all()

    def rows(self) -> set[int]:
        """Outbox rows whose moves are not done yet."""
        with self._changed:
            return set(self._moves)

    def _run(self) -> None:
        waits = backoff(0.2, 5.0)
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._stop.is_set() or bool(self._moves), 1.0)
                waiting = list(self._moves.values())
            try:
                for move in waiting:
                    if self._stop.is_set():
                        return
                    if self._ready(move):
                        self._carry_out(move)
                        self._done(move.row)
                        with self._changed:
                            del self._moves[move.row]
                if waiting:
                    waits = backoff(0.2, 5.0)
                    self._stop.wait(_POLL_S)
            except (StorageError, NotDelivered, TransientError) as error:
                metrics.RETRIES.labels("mover").inc()
                log.warning("data has to wait for its move", extra={"detail": str(error)})
                self._stop.wait(next(waits))

    def _ready(self, move: Move) -> bool:
        """Whether everything that went by the former assignments is handed out and stored."""
        if move.ends is None:
            if time.monotonic() - move.since < GRACE_S:
                return False
            move.ends = self._producer.ends(topics.RAW)
        if not move.ends:
            return True
        marks = high_water(self._settings.database, self._raw)
        self._bases = self._bases or read_bases(self._settings.kafka)
        numbers = self._bases.ends(topics.RAW, move.ends)
        if any(marks.get(partition, -1) < end - 1 for partition, end in numbers.items()):
            return False
        kafka = self._settings.kafka
        handed = committed_now(kafka, group(self._settings, "intake"), topics.RAW, move.ends)
        return all((handed.get(partition) or 0) >= end for partition, end in move.ends.items())

    def _carry_out(self, move: Move) -> None:
        for place, stretch in enumerate(move.stretches):
            moved = Moved()
            for batch in moves.items(self._settings.database, move.device, stretch.start, stretch.stop):
                if self._stop.is_set():
                    raise NotDelivered("the registrar stops; the move is done again at its next start")
                self._send(batch, stretch, moved)
            self._producer.send([_event(move, place, stretch, moved)])
            log.info(
                "data moved with its assignment",
                extra={"device": move.device, "removed": moved.removed, "added": moved.added},
            )

    def _send(self, batch: list[Message], stretch: Stretch, moved: Moved) -> None:
        cause = "claim" if stretch.before is None else "move"
        records: list[Record] = []
        size = 0
        for message in batch:
            identity = content_id(message.device, message.epoch, message.epoch_no, message.order, cause)
            for op, patient in (("remove", stretch.before), ("add", stretch.after)):
                if patient is None:
                    continue
                value = encode(
                    PatientInput("remove" if op == "remove" else "add", patient, message, cause, "registrar")
                )
                records.append(Record(topics.INPUTS, patient, value, content_id(identity, op, patient), message.trace))
                size += len(value)
                items = len(message.readings) + len(message.waveforms)
                if op == "remove":
                    moved.removed += items
                else:
                    moved.added += items
            if size > _PORTION_BYTES:
                self._producer.send(records)
                records, size = [], 0
        if records:
            self._producer.send(records)


def _event(move: Move, place: int, stretch: Stretch, moved: Moved) -> Record:
    """The audit event of one stretch; its id is the same when the move is done again."""
    event_id = str(uuid.uuid5(EVENTS, f"move:{move.row}:{place}"))
    action = "data.claimed" if stretch.before is None else "data.moved"
    detail = {
        "change": move.row, "from": stretch.start.isoformat(), "to": stretch.stop.isoformat(),
        "before": stretch.before, "after": stretch.after, "removed": moved.removed, "added": moved.added,
    }  # fmt: skip
    value = audit_body(event_id, "registry", action, ("device", move.device), datetime.now(UTC), "registrar", detail)
    return Record(topics.AUDIT_INBOX, None, value, content_id("audit", event_id), event_id.replace("-", ""))
