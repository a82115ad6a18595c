"""Records for the alert engine, made short."""

from __future__ import annotations

import functools
from typing import Any

from vitalgate.alerts import rules
from vitalgate.alerts.engine import Engine
from vitalgate.alerts.events import AlertEvent
from vitalgate.devices.records import NO_SEQ, Corrects, Message, PatientInput, Reading

T0 = 1_790_000_000_000_000
S = 1_000_000


def us(seconds: float) -> int:
    return T0 + round(seconds * S)


def seconds(event: AlertEvent) -> tuple[str, str, float, float | None]:
    onset = event.onset.timestamp() - T0 / S
    cleared = None if event.cleared_at is None else round(event.cleared_at.timestamp() - T0 / S, 3)
    return event.rule, event.state, round(onset, 3), cleared


def reading(metric: str, at: float, value: float | None, item: int = 0, **fields: Any) -> Reading:
    values: dict[str, Any] = {
        "site": "", "index": 0, "value_code": None, "comparator": "", "absent": "", "unit": "", "value_sent": value,
        "unit_sent": "", "time_sent_us": us(at), "offset_min": None,
    } | fields  # fmt: skip
    return Reading(item=item, metric=metric, time_us=us(at), value_num=value, **values)


def given(
    *readings: Reading, patient: str = "p1", device: str = "d1", seq: int = 1, epoch: str = "e1", op: str = "add",
    cause: str = "live", received: float | None = None, epoch_no: int = 1,
) -> PatientInput:  # fmt: skip
    arrived = us(received) if received is not None else max((r.time_us for r in readings), default=T0)
    message = Message(
        device=device, leaf="readings", offset=seq, received_us=arrived, trace="", epoch=epoch if epoch_no else "",
        seq=seq if epoch_no else NO_SEQ, epoch_no=epoch_no, order=seq, repeat=False, skew_s=0, payload_hash=b"",
        content_hash=b"", readings=list(readings),
    )  # fmt: skip
    return PatientInput(op=op, patient=patient, message=message, cause=cause)  # type: ignore[arg-type]


def feature(
    name: str, start: float, end: float, value: float | None, revision: int = 1, withdrawn: bool = False,
    first_sample: int | None = None, patient: str = "p1",
) -> dict[str, Any]:  # fmt: skip
    return {
        "patient": patient, "device_id": "ecg1", "channel": "ecg.I", "recording": "r1", "name": name,
        "window": {"first_sample": round(start * 250) if first_sample is None else first_sample, "stop_sample": 0},
        "value": value, "algorithm": "a", "revision": revision, "withdrawn": withdrawn,
        "start_us": us(start), "end_us": us(end),
    }  # fmt: skip


def take_feature(engine: Engine, record: dict[str, Any]) -> list[AlertEvent]:
    return engine.take_feature(record, record["start_us"], record["end_us"], record["end_us"], record["end_us"])


@functools.cache
def book(*ids: str) -> rules.Book:
    """The shipped rules, or some of them."""
    everything = rules.load()
    return rules.Book(rule for name, rule in everything.rules.items() if not ids or name in ids)


def engine(*ids: str) -> Engine:
    """An engine with the shipped rules, or with some of them."""
    return Engine(book(*ids), "care")


__all__ = ["Corrects"]
