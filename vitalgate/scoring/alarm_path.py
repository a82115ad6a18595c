"""From signals to alerts as the running system comes to them, on a clock of its own: analysis, then alert engine. Pure.

The parts are those of the workers, in their order and with their timing: packets of a second (what an ECG patch sends),
blocks worked out as soon as their samples are there, urgent looks between, features to the engine with a tick a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitalgate.alerts.conditions import Event
from vitalgate.alerts.engine import Engine
from vitalgate.alerts.events import AlertEvent
from vitalgate.alerts.rules import Book
from vitalgate.devices.records import Message, Waveform
from vitalgate.stream.analysis_core import AnalysisCore
from vitalgate.stream.analysis_features import FeatureResult
from vitalgate.stream.analysis_line import Packet
from vitalgate.stream.analysis_records import feature_document
from vitalgate.stream.analysis_state import Job

#: The clock of a run begins here, microseconds since 1970; the samples of every record do, too.
BEGIN_US = 1_700_000_000_000_000
#: How long after its last packet a recording is taken to be finished (the setting analysis.idle_s as shipped).
IDLE_S = 10
#: So long after the end everything that waits for time has happened: the longest settle time is a day or less.
AFTER_US = 2 * 86400 * 1_000_000
_GAIN = 1000.0
_TOGETHER = 32
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alert, from its first event to its last.

    Attributes
    ----------
    onset_us, end_us
        The cause, in event time: of a rule on rhythm events without the quiet time that ends it. An open one ends with
        the last event.
    told_us
        When people were told of it for the first time; None: never (suppressed, or over when it was found).
    retracted
        True: taken back in the end.
    """

    patient: str
    rule: str
    onset_us: int
    end_us: int
    told_us: int | None
    retracted: bool


@dataclass(frozen=True, eq=False)
class Line:
    """One lead of one recording: (n,) samples in mV, NaN where missing, at ``fs`` Hz, of one patient."""

    patient: str
    channel: str
    fs: float
    samples: NDArray[np.float32]


def alarms_of_signals(lines: Sequence[Line], book: Book) -> list[Alarm]:
    """The alarms that these recordings raise, all on one clock, each patient by themselves."""
    core, engine = AnalysisCore(), Engine(book, "care")
    events: list[AlertEvent] = []
    raw = [np.where(np.isnan(line.samples), 0, np.rint(line.samples * _GAIN)).astype("<i4") for line in lines]
    longest = max((len(line.samples) / line.fs for line in lines), default=0.0)
    for second in range(1, int(np.ceil(longest)) + IDLE_S + 2):
        now = BEGIN_US + second * _SECOND_US
        came = False
        for line, samples in zip(lines, raw, strict=True):
            first, stop = round((second - 1) * line.fs), min(len(samples), round(second * line.fs))
            if first < stop:
                came = True
                message = _packet(line, samples, first, stop, second, now)
                core.take(line.patient, message, op="add", partition=0, offset=second, partial=False, now_us=now)
        if not came:
            core.go_idle(now - IDLE_S * _SECOND_US)
        jobs: list[tuple[Job, list[Packet]]] = [(job, []) for job in core.jobs()]
        features: list[FeatureResult] = []
        for at in range(0, len(jobs), _TOGETHER):
            features += core.run_together(jobs[at : at + _TOGETHER])[1]
        events += take(engine, [*features, *core.live()], now)
        events += engine.tick(now, now)
    return finished(engine, events, book)


def take(engine: Engine, features: Iterable[FeatureResult], now_us: int) -> list[AlertEvent]:
    """Give an engine the features that its rules ask for."""
    return [
        event
        for feature in features
        if feature.name in engine.book.features
        for event in engine.take_feature(feature_document(feature), feature.start_us, feature.end_us, now_us, now_us)
    ]


def finished(engine: Engine, events: list[AlertEvent], book: Book) -> list[Alarm]:
    """Let time go by until nothing waits for it any more, and put the events together."""
    end = engine.now + AFTER_US
    found: dict[str, list[AlertEvent]] = {}
    for event in [*events, *engine.tick(end, end)]:
        found.setdefault(event.alert_id, []).append(event)
    return [_alarm(story, _quiet_us(book)) for story in found.values()]


def _quiet_us(book: Book) -> Mapping[str, int]:
    """By rule: how long its alerts stand after the last rhythm event."""
    return {
        name: round(max((c.quiet_s for c in rule.when if isinstance(c, Event)), default=0.0) * 1e6)
        for name, rule in book.rules.items()
    }


def _alarm(story: Sequence[AlertEvent], quiet_us: Mapping[str, int]) -> Alarm:
    last, told = story[-1], next((event for event in story if event.notify), None)
    onset = _us(last.onset.timestamp())
    ends = [_us(event.cleared_at.timestamp()) for event in story if event.cleared_at is not None]
    end = ends[-1] - quiet_us[last.rule] if ends else _us(last.detected_at.timestamp())
    return Alarm(
        last.patient, last.rule, onset, max(onset, end), None if told is None else _us(told.detected_at.timestamp()),
        last.state == "retracted",
    )  # fmt: skip


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _packet(line: Line, raw: NDArray[np.int32], first: int, stop: int, second: int, now: int) -> Message:
    missing = np.flatnonzero(np.isnan(line.samples[first:stop])).tolist()
    rate = round(line.fs * 1000)
    block = Waveform(
        item=0, channel=line.channel, recording="scored", first_sample=first, count=stop - first,
        start_us=BEGIN_US + round(first / line.fs * 1e6), rate_num=rate, rate_den=1000, gain=_GAIN, offset=0.0,
        unit="mV", samples=raw[first:stop].tobytes(), missing=[(at, 1) for at in missing] or None,
    )  # fmt: skip
    return Message(
        device=line.patient, leaf="waveforms", offset=second, received_us=now, trace="", epoch="scored", seq=second,
        epoch_no=1, order=second, repeat=False, skew_s=0, payload_hash=b"", content_hash=b"", waveforms=[block],
    )  # fmt: skip
