"""What intake sends on: validated batches within Kafka's record size, and the part of a message that is a patient's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator

from vitalgate.devices.records import Message, PatientInput, ValidatedBatch, encode

#: A record stays below this; Kafka takes 4 MB.
MAX_BATCH_BYTES = 3_000_000
_READING_BYTES = 160
_MESSAGE_BYTES = 400

PatientAt = Callable[[str, int], "str | None"]
"""Whose device it was: (device, event time in us) -> patient."""


def batches(partition: int, messages: Iterable[Message], by: str) -> Iterator[tuple[ValidatedBatch, bytes]]:
    """Runs of consecutive offsets, each encoded in less than `MAX_BATCH_BYTES` where more than one message long."""
    run: list[Message] = []
    size = 0
    for message in messages:
        one = _size(message)
        if run and (message.offset != run[-1].offset + 1 or size + one > MAX_BATCH_BYTES):
            yield from _encoded(partition, run, by)
            run, size = [], 0
        run.append(message)
        size += one
    if run:
        yield from _encoded(partition, run, by)


def _encoded(partition: int, run: list[Message], by: str) -> Iterator[tuple[ValidatedBatch, bytes]]:
    batch = ValidatedBatch(partition, run[0].offset, run[-1].offset, run, by)
    data = encode(batch)
    if len(data) <= MAX_BATCH_BYTES or len(run) == 1:
        yield batch, data
        return
    half = len(run) // 2
    yield from _encoded(partition, run[:half], by)
    yield from _encoded(partition, run[half:], by)


def _size(message: Message) -> int:
    size = _MESSAGE_BYTES + len(message.payload) + _READING_BYTES * len(message.readings)
    for waveform in message.waveforms:
        size += len(waveform.samples) + _READING_BYTES
    return size


def inputs(message: Message, patient_at: PatientAt, *, cause: str = "live", version: str = "") -> list[PatientInput]:
    """One input for each patient who had the device at the event time of some items of the message."""
    device = message.device
    owners: dict[str, Message] = {}
    readings, waveforms, status = message.readings, message.waveforms, message.status
    names = [patient_at(device, reading.time_us) for reading in readings]
    names += [patient_at(device, waveform.start_us) for waveform in waveforms]
    if status is not None:
        names.append(patient_at(device, status.time_us))
    distinct = set(names)
    distinct.discard(None)
    if not distinct:
        return []
    if len(distinct) == 1 and None not in names:
        owners[names[0] or ""] = message
    else:
        for patient in sorted(name for name in distinct if name):
            owners[patient] = part = copy.copy(message)
            part.readings = [r for r, name in zip(readings, names, strict=False) if name == patient]
            part.waveforms = [w for w, n in zip(waveforms, names[len(readings) :], strict=False) if n == patient]
            part.status = status if status is not None and names[-1] == patient else None
    return [PatientInput("add", patient, _plain(part), cause, version) for patient, part in owners.items()]


def _plain(message: Message) -> Message:
    """Without what was refused."""
    if not message.dead and not message.payload and not message.mqtt_topic:
        return message
    plain = copy.copy(message)
    plain.dead, plain.payload, plain.mqtt_topic = [], b"", ""
    return plain
