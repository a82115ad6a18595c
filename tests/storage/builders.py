"""Messages, batches and records for the tests of this room."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitalgate.devices import identity
from vitalgate.devices.records import (
    NO_SEQ,
    Corrects,
    Dead,
    Message,
    Reading,
    Status,
    ValidatedBatch,
    Waveform,
)

T0 = 1_792_000_000_000_000
"""2026-10-14T17:46:40Z in microseconds since 1970."""
SECOND = 1_000_000


def reading(
    value: float | None = 97.0,
    *,
    item: int = 0,
    metric: str = "spo2",
    time_us: int = T0,
    site: str = "",
    index: int = 0,
    unit: str = "%",
    corrects: Corrects | None = None,
    **more: Any,
) -> Reading:
    """A validated reading whose value as sent is the canonical one."""
    fields: dict[str, Any] = {
        "value_code": None, "comparator": "", "absent": "", "value_sent": value, "unit_sent": unit,
        "time_sent_us": time_us, "offset_min": 60,
    }  # fmt: skip
    fields.update(more)
    return Reading(item, metric, site, time_us, index, value, unit=unit, corrects=corrects, **fields)


def waveform(
    samples: Sequence[int],
    *,
    first: int = 0,
    item: int = 0,
    channel: str = "ecg.II",
    recording: str = "r1",
    rate: int = 250,
    start_us: int | None = None,
    gain: float = 200.0,
    **more: Any,
) -> Waveform:
    """A validated block; its start follows from its first sample unless given."""
    start = T0 + first * SECOND // rate if start_us is None else start_us
    data = np.asarray(samples, dtype="<i4")
    return Waveform(item, channel, recording, first, len(data), start, rate, 1, gain, 0.0, "mV", data.tobytes(), **more)


class Log:
    """A partition of device.raw: gives messages their offsets and puts them into batches."""

    def __init__(self, partition: int = 0) -> None:
        self.partition = partition
        self.next = 0
        self._serial = itertools.count()

    def message(
        self,
        device: str = "ox-1",
        seq: int = NO_SEQ,
        *,
        readings: Sequence[Reading] = (),
        waveforms: Sequence[Waveform] = (),
        status: Status | None = None,
        dead: Sequence[Dead] = (),
        epoch: str = "e1",
        epoch_no: int = 1,
        repeat: bool = False,
        payload: bytes | None = None,
        content: bytes | None = None,
        received_us: int = T0 + SECOND,
        **more: Any,
    ) -> Message:
        """The next record of the partition."""
        numbered = seq != NO_SEQ
        offset = self.next
        self.next += 1
        body = payload if payload is not None else f"{device} {epoch} {seq} {next(self._serial)}".encode()
        return Message(
            device,
            "waveforms" if waveforms else "status" if status else "readings",
            offset,
            received_us,
            f"{offset:032x}",
            epoch if numbered else "",
            seq,
            epoch_no if numbered else 0,
            seq if numbered else offset,
            repeat,
            0,
            identity.payload_hash(body),
            content if content is not None else identity.payload_hash(body)[:8],
            readings=list(readings),
            waveforms=list(waveforms),
            status=status,
            dead=list(dead),
            payload=body if dead else b"",
            mqtt_topic=f"v1/devices/{device}/readings" if dead else "",
            **more,
        )

    def batch(self, *messages: Message) -> ValidatedBatch:
        """Consecutive messages as one batch."""
        return ValidatedBatch(self.partition, messages[0].offset, messages[-1].offset, list(messages), "test")
