"""Test vectors beside a rule file: samples in seconds, and the alerts that must come of them.

::

    [[vector]]
    name = "thirty-one seconds at 88 fire"
    kind = "firing"                      # or quiet, boundary
    expect = [[0, 96]]                   # [onset, cleared], or [onset] while open
    facts = { pef_best = 500 }           # the patient's own, if need be
    tick = 3600                          # time at the end; by default forty days
      [[vector.runs]]
      key = "reading/spo2"               # feature/…, flag/…, device/KIND
      first = 0
      last = 31
      every = 1
      value = 88                         # or points = [[t, value], …], or events = [[start, end, value], …]
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vitalgate.alerts.engine import Engine
from vitalgate.alerts.profile import FACTS
from vitalgate.alerts.rule import Rule
from vitalgate.alerts.rules import Book
from vitalgate.devices.records import Message, PatientInput, Reading

#: Event time of second 0 of every vector: an ordinary midnight, UTC.
START_US = 1_790_000_000_000_000 // 86_400_000_000 * 86_400_000_000
_LONG_S = 40 * 86400.0
_PATIENT = "vector"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(_Part):
    """Samples of one key."""

    key: str = Field(pattern=r"^(reading|feature|flag|device)/.+$")
    points: list[tuple[float, float | str]] = []
    events: list[tuple[float, float, float]] = []
    first: float = 0.0
    last: float = -1.0
    every: float = 0.0
    value: float | str = 0.0

    def samples(self) -> Iterator[tuple[float, str, float | str, float]]:
        """(time, key, value, end) of each."""
        for at, value in self.points:
            yield at, self.key, value, at
        for start, end, number in self.events:
            yield start, self.key, number, end
        if self.every > 0:
            count = int((self.last - self.first) / self.every + 1e-9) + 1
            for k in range(count):
                at = self.first + k * self.every
                yield at, self.key, self.value, at


class Vector(_Part):
    """One story and what must come of it."""

    name: str = Field(min_length=3)
    kind: Literal["firing", "quiet", "boundary"]
    expect: list[list[float]]
    facts: dict[str, float] = {}
    tick: float = _LONG_S
    runs: list[Run] = Field(min_length=1)


class Vectors(_Part):
    """A file of vectors."""

    vector: list[Vector] = Field(min_length=3)


def parse(text: str) -> list[Vector]:
    """Vectors of a file.

    Raises
    ------
    tomllib.TOMLDecodeError, pydantic.ValidationError
        When it is no such file.
    """
    return Vectors.model_validate(tomllib.loads(text)).vector


def come_of(rule: Rule, vector: Vector) -> list[list[float]]:
    """What the engine makes of a vector, in the form of ``expect``."""
    engine = Engine(Book([rule]), "care")
    if vector.facts:
        engine.patient_changed(_PATIENT, "", {FACTS: dict(vector.facts)}, 0)
    samples = sorted((s for run in vector.runs for s in run.samples()), key=lambda s: s[:2])
    for number, (at, key, value, end) in enumerate(samples):
        source, _, name = key.partition("/")
        if source == "feature":
            engine.take_feature(_feature(name, at, end, value), _us(at), _us(end), _us(end), _us(end))
        else:
            engine.take(_input(source, name, at, value, number), _us(at))
    engine.tick(START_US + round(vector.tick * 1e6), START_US + round(vector.tick * 1e6))
    return [
        [_s(onset)] if end_us is None else [_s(onset), _s(end_us)]
        for _, onset, state, end_us in engine.alerts(_PATIENT)
        if state != "retracted"
    ]


def faults(rule: Rule, vectors: list[Vector]) -> list[str]:
    """What is wrong with a rule by its vectors, a sentence each."""
    found = [
        f"{rule.id}: no vector is {kind}; give one"
        for kind in ("firing", "quiet", "boundary")
        if not any(vector.kind == kind for vector in vectors)
    ]
    for vector in vectors:
        if bool(vector.expect) != (vector.kind == "firing") and vector.kind != "boundary":
            found.append(f"{rule.id}: vector {vector.name!r} is {vector.kind} and expects {vector.expect}")
        got = come_of(rule, vector)
        if got != vector.expect:
            found.append(f"{rule.id}: vector {vector.name!r} gives {got}, not {vector.expect}")
    return found


def _us(at: float) -> int:
    return START_US + round(at * 1e6)


def _s(us: int) -> float:
    return (us - START_US) / 1e6


def _input(source: str, name: str, at: float, value: float | str, number: int) -> PatientInput:
    word = value if isinstance(value, str) else None
    amount = None if isinstance(value, str) else float(value)
    metric, flags = (name, None) if source == "reading" else ("perfusion_index", [name])
    reading = Reading(0, metric, "", _us(at), 0, amount, word, "", "", "", amount, "", _us(at), None, flags=flags)
    message = Message(
        device="vector-device", leaf="readings", offset=number, received_us=_us(at), trace="", epoch="e", seq=number,
        epoch_no=1, order=number, repeat=False, skew_s=0, payload_hash=b"", content_hash=b"", readings=[reading],
    )  # fmt: skip
    if source == "device":
        message.device_kind = name
        reading.metric = "steps"
        reading.flags = None
    return PatientInput("add", _PATIENT, message)


def _feature(name: str, at: float, end: float, value: float | str) -> Mapping[str, Any]:
    return {
        "patient": _PATIENT, "device_id": "vector-ecg", "channel": "ecg.I", "recording": "r", "name": name,
        "window": {"first_sample": round(at * 250), "stop_sample": round(end * 250)}, "value": value, "algorithm": "a",
        "revision": 1, "rate": "250/1",
    }  # fmt: skip
