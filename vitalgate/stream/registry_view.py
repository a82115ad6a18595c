"""Devices, assignments and patients in memory, kept up to date from the compacted registry topics by a thread."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import REGISTRY_ASSIGNMENTS, REGISTRY_DEVICES, REGISTRY_PATIENTS, full
from vitalgate.devices import times
from vitalgate.devices.intake import RegisteredDevice
from vitalgate.devices.reasons import Refused
from vitalgate.stream.errors import TransientError
from vitalgate.stream.lookback import consume, reader_configuration

log = logging.getLogger(__name__)

Kind = Literal["device", "assignments", "patient"]
#: Told which entry changed: its kind and key.
OnChange = Callable[[Kind, str], None]
_REFRESH_S = 5.0
_STEP_S = 0.003


@dataclass(frozen=True)
class Assignment:
    """A patient has the device in [from_us, to_us); to_us None: still."""

    id: int
    patient: str
    from_us: int
    to_us: int | None


@dataclass(frozen=True)
class Patient:
    """What workers know of a patient: time zones with their history, care team, rule overrides."""

    patient: str
    zones: tuple[tuple[int | None, str], ...]
    """(from_us or None for ever, IANA name), oldest first."""
    team: str
    overrides: dict[str, Any] = field(default_factory=dict)
    change: int = 0


class RegistryView:
    """Reads the three registry topics from their beginning and follows them.

    Look-ups are plain dictionary reads, for use in the event loop without waiting.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self.devices: dict[str, RegisteredDevice] = {}
        """All devices ever registered, revoked ones too."""
        self._device_change: dict[str, int] = {}
        self.patients: dict[str, Patient] = {}
        self._assignments: dict[str, tuple[list[int], list[Assignment]]] = {}
        self._assignments_change: dict[str, int] = {}
        self._take = {
            full(REGISTRY_DEVICES, kafka): self._take_device,
            full(REGISTRY_ASSIGNMENTS, kafka): self._take_assignments,
            full(REGISTRY_PATIENTS, kafka): self._take_patient,
        }
        self._next = dict.fromkeys(self._take, 0)
        self._consumer: Consumer | None = None
        self._asker: Consumer | None = None
        """Asks for ends on a connection of its own: behind a waiting fetch the answer takes half a second."""
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callbacks: list[OnChange] = []

    # --- look-ups -----------------------------------------------------------------------------------------------

    def device(self, device: str) -> RegisteredDevice | None:
        """The device, revoked ones too; None when it was never registered."""
        return self.devices.get(device)

    def assignments(self, device: str) -> list[Assignment]:
        """All assignments of a device, oldest first."""
        return self._assignments.get(device, ([], []))[1]

    def assignment_at(self, device: str, time_us: int) -> Assignment | None:
        """The assignment in force at an event time (microseconds); None when the device was nobody's."""
        found = self._assignments.get(device)
        if found is None:
            return None
        at = bisect_right(found[0], time_us) - 1
        if at < 0:
            return None
        assignment = found[1][at]
        return assignment if assignment.to_us is None or time_us < assignment.to_us else None

    def patient_at(self, device: str, time_us: int) -> str | None:
        """Whose device it was at an event time."""
        assignment = self.assignment_at(device, time_us)
        return None if assignment is None else assignment.patient

    def patient(self, patient: str) -> Patient | None:
        """The patient, None when unknown."""
        return self.patients.get(patient)

    # --- life ---------------------------------------------------------------------------------------------------

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
            self._consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING) for name in self._take])
            self._thread = threading.Thread(target=self._run, name="registry", daemon=True)
            self._thread.start()
        await self.refresh(timeout_s)

    async def refresh(self, timeout_s: float = _REFRESH_S) -> None:
        """Return when everything that is on the registry topics now has been read (a few milliseconds).

        Raises
        ------
        TransientError
            When Kafka does not answer in time.
        """
        until = time.monotonic() + timeout_s
        ends = await asyncio.to_thread(self._ends, timeout_s)
        while any(self._next[name] < end for name, end in ends.items()):
            if time.monotonic() > until:
                raise TransientError(f"the registry topics could not be read to their end in {timeout_s:.0f} s")
            await asyncio.sleep(_STEP_S)

    def on_change(self, callback: OnChange) -> None:
        """Call back in the event loop for every entry that changes from now on."""
        self._callbacks.append(callback)

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2.0)

    # --- reading ------------------------------------------------------------------------------------------------

    def _ends(self, timeout_s: float) -> dict[str, int]:
        assert self._asker is not None, "call ready() first"
        try:
            return {
                name: self._asker.get_watermark_offsets(TopicPartition(name, 0), timeout=timeout_s, cached=False)[1]
                for name in self._take
            }
        except KafkaException as error:
            raise TransientError(
                f"the registry topics cannot be asked for their end ({error.args[0].str()})"
            ) from error

    def _run(self) -> None:
        try:
            self._follow()
        except Exception:
            # A worker that does not see the registry change would refuse what it should take.
            log.critical("reading the registry failed; the process ends and is restarted", exc_info=True)
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
                try:
                    self._take_one(name, _text(message.key()), message.value())
                except (ValueError, KeyError, TypeError, Refused) as fault:
                    # One unreadable entry must not take the whole registry away from the workers.
                    log.error(
                        "registry entry cannot be read and is left out",
                        extra={"topic": name, "offset": offset, "error": f"{type(fault).__name__}: {fault}"},
                    )
                self._next[name] = offset + 1
        consumer.close()

    def _take_one(self, name: str, key: str, value: str | bytes | None) -> None:
        kind = self._take[name](key, None if value is None else orjson.loads(value))
        if kind is not None and self._callbacks and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, kind, key)

    def _tell(self, kind: Kind, key: str) -> None:
        for callback in self._callbacks:
            callback(kind, key)

    def _take_device(self, key: str, body: dict[str, Any] | None) -> Kind | None:
        if body is None:
            self.devices.pop(key, None)
            self._device_change.pop(key, None)
            return "device"
        change = int(body.get("change", 0))
        if change < self._device_change.get(key, 0):
            return None
        rate = body.get("sample_rate")
        self.devices[key] = RegisteredDevice(
            device=key,
            kind=body["kind"],
            revoked=body["state"] != "active",
            revoked_at_us=_time(body.get("revoked_at")),
            sample_rate=None if rate is None else Fraction(rate),
        )
        self._device_change[key] = change
        return "device"

    def _take_assignments(self, key: str, body: dict[str, Any] | None) -> Kind | None:
        if body is None:
            self._assignments.pop(key, None)
            self._assignments_change.pop(key, None)
            return "assignments"
        change = int(body.get("change", 0))
        if change < self._assignments_change.get(key, 0):
            return None
        rows = sorted(
            (
                Assignment(int(row["id"]), row["patient"], _time(row["from"]) or 0, _time(row.get("to")))
                for row in body["assignments"]
            ),
            key=lambda row: row.from_us,
        )
        self._assignments[key] = ([row.from_us for row in rows], rows)
        self._assignments_change[key] = change
        return "assignments"

    def _take_patient(self, key: str, body: dict[str, Any] | None) -> Kind | None:
        if body is None:
            self.patients.pop(key, None)
            return "patient"
        change = int(body.get("change", 0))
        known = self.patients.get(key)
        if known is not None and change < known.change:
            return None
        zones = sorted(
            ((_time(row.get("from")), row["zone"]) for row in body.get("zones", [])), key=lambda z: z[0] or 0
        )
        self.patients[key] = Patient(key, tuple(zones), body.get("team") or "", body.get("overrides") or {}, change)
        return "patient"


def _text(key: str | bytes | None) -> str:
    return key.decode() if isinstance(key, bytes) else key or ""


def _time(text: str | None) -> int | None:
    """Microseconds since 1970 of an RFC 3339 time."""
    if text is None:
        return None
    return times.parse(text).us
