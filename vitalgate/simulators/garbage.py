"""Bad messages of every sort that a device can send, each with the reason that the dead letter must give.

Each maker gets a number, so that no two are alike (a repeat of the same bytes would be a duplicate), and the time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from vitalgate.devices.catalogue import Kind
from vitalgate.devices.times import text as rfc3339
from vitalgate.simulators.firmware import Emission
from vitalgate.simulators.journal import Item

Maker = Callable[[Kind, int, float], Emission]


def _whole(at: float, leaf: str, reason: str, *, raw: bytes | None = None, **document: Any) -> Emission:
    return Emission(at, leaf, document, [Item(f"dead:{reason}", item=-1)], f"garbage {reason}", raw)


def _reading(at: float, reason: str, **reading: Any) -> Emission:
    document = {"readings": [{"time": rfc3339(round(at * 1_000_000)), **reading}]}
    return Emission(at, "readings", document, [Item(f"dead:{reason}")], f"garbage {reason}")


def _number(kind: Kind) -> tuple[str, str, float, float]:
    """A numeric metric of the kind with its unit and limits."""
    metric = next(m for m in kind.metrics.values() if not m.coded)
    return metric.name, metric.unit, metric.low, metric.high


def _undecodable(_kind: Kind, n: int, at: float) -> Emission:
    noise = hashlib.blake2b(f"{n} {at}".encode(), digest_size=48).digest()
    return _whole(at, "readings", "undecodable", raw=b"\x00\xff" + noise)


def _truncated(_kind: Kind, n: int, at: float) -> Emission:
    text = json.dumps({"readings": [{"metric": "spo2", "value": 97, "n": n, "at": at}]}).encode()
    return _whole(at, "readings", "undecodable", raw=text[:-5])


def _schema(_kind: Kind, n: int, at: float) -> Emission:
    return _whole(at, "readings", "schema", readings=f"number {n}")


def _unknown_metric(_kind: Kind, n: int, at: float) -> Emission:
    return _reading(at, "unknown_metric", metric=f"mood.level{n}", value=n, unit="%")


def _unknown_unit(kind: Kind, n: int, at: float) -> Emission:
    name, _, low, _ = _number(kind)
    return _reading(at, "unknown_unit", metric=name, value=low + n, unit="furlong")


def _unknown_code(kind: Kind, n: int, at: float) -> Emission:
    metric = next((m for m in kind.metrics.values() if m.coded), None)
    if metric is None:
        raise ValueError(f"{kind.name} has no coded metric, so unknown-code is not a garbage it can send")
    return _reading(at, "unknown_code", metric=metric.name, value=f"mystery-{n}")


def _not_a_number(kind: Kind, n: int, at: float) -> Emission:
    name, unit, *_ = _number(kind)
    return _reading(at, "not_a_number", metric=name, value=f"ninety-{n}", unit=unit)


def _out_of_range(kind: Kind, n: int, at: float) -> Emission:
    name, unit, _, high = _number(kind)
    return _reading(at, "out_of_range", metric=name, value=high * 2 + n + 1, unit=unit)


def _future(kind: Kind, n: int, at: float) -> Emission:
    name, unit, low, high = _number(kind)
    emission = _reading(at, "time_unexplained", metric=name, value=(low + high) / 2, unit=unit)
    emission.document["readings"][0]["time"] = rfc3339(round((at + 30 * 86400 + n) * 1_000_000))
    return emission


def _ancient(kind: Kind, n: int, at: float) -> Emission:
    name, unit, low, high = _number(kind)
    emission = _reading(at, "time_unexplained", metric=name, value=(low + high) / 2, unit=unit)
    emission.document["readings"][0]["time"] = rfc3339(round((at - 400 * 86400 - n) * 1_000_000))
    return emission


def _waveform(at: float, reason: str, **changes: Any) -> Emission:
    block = {
        "channel": "ecg.II", "recording": "garbage", "first_sample": 0, "start": rfc3339(round(at * 1_000_000)),
        "rate": 250, "gain": 1000, "offset": 0, "unit": "mV", "samples": [1, 2, 3], **changes,
    }  # fmt: skip
    return Emission(at, "waveforms", {"waveforms": [block]}, [Item(f"dead:{reason}")], f"garbage {reason}")


def _channel(kind: Kind) -> dict[str, Any]:
    if not kind.channels:
        raise ValueError(f"{kind.name} has no waveform, so this is not a garbage it can send")
    channel = next(iter(kind.channels.values()))
    return {"channel": channel.name, "unit": channel.unit}


def _waveform_shape(kind: Kind, n: int, at: float) -> Emission:
    return _waveform(at, "waveform_shape", **_channel(kind), samples=[], first_sample=n)


def _unknown_channel(_kind: Kind, n: int, at: float) -> Emission:
    return _waveform(at, "unknown_channel", channel="ecg.V99", first_sample=n)


def _wrong_topic(_kind: Kind, n: int, at: float) -> Emission:
    document = {"waveforms": [{"channel": "ecg.II", "samples": [n, n + 1]}]}
    return Emission(at, "readings", document, [Item("dead:wrong_topic", item=-1)], "garbage wrong_topic")


def _bad_correction(kind: Kind, n: int, at: float) -> Emission:
    name, unit, low, high = _number(kind)
    return _reading(
        at, "bad_correction", metric=name, value=(low + high) / 2, unit=unit, corrects={"nothing": f"useful {n}"}
    )


def _oversize(_kind: Kind, n: int, at: float) -> Emission:
    raw = b'{"readings":[],"padding":"' + str(n).encode() + b"x" * 1_100_000 + b'"}'
    return _whole(at, "readings", "oversize", raw=raw)


MAKERS: dict[str, Maker] = {
    "undecodable": _undecodable,
    "truncated": _truncated,
    "schema": _schema,
    "unknown-metric": _unknown_metric,
    "unknown-unit": _unknown_unit,
    "unknown-code": _unknown_code,
    "not-a-number": _not_a_number,
    "out-of-range": _out_of_range,
    "future": _future,
    "ancient": _ancient,
    "waveform-shape": _waveform_shape,
    "unknown-channel": _unknown_channel,
    "wrong-topic": _wrong_topic,
    "bad-correction": _bad_correction,
    "oversize": _oversize,
}
"""What `what` of a garbage event may be."""


def make(what: str, kind: Kind, number: int, at: float) -> Emission:
    """One bad message. Raises ValueError when there is none of this sort for the kind."""
    if what not in MAKERS:
        raise ValueError(f"garbage {what!r} is not known; there is {', '.join(MAKERS)}")
    return MAKERS[what](kind, number, at)
