"""What the annotations of a record say of the features that alert rules ask for: alarms are held against it.

The same definitions are applied to the reference beats, so that what is scored is what was found, not how a rule is
worded: rates, pauses and asystole from all reference beats; runs of ventricular beats, bigeminy and trigeminy from the
annotated types (V, E and r); ventricular fibrillation from the annotated flutter; atrial fibrillation from the rhythm
label AFIB where it lasts 30 s or more; heart rate and burden by the windows of the analysis. Signal is taken to be
present throughout. Signal quality is annotated nowhere. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vitalgate.alerts.engine import Engine
from vitalgate.alerts.rules import Book
from vitalgate.scoring.alarm_path import BEGIN_US, Alarm, finished, take
from vitalgate.scoring.databases import AAMI, Intervals, Recording, Rhythm
from vitalgate.signal.beats import BLOCK_S
from vitalgate.signal.episodes import AROUND, LEAST_BLOCKS, middle_window
from vitalgate.signal.fibrillation import fibrillation
from vitalgate.signal.rhythm import heart_rate
from vitalgate.signal.timeline import Timeline, rhythm_pieces
from vitalgate.signal.ventricular import Fibrillating
from vitalgate.stream import analysis_atrial as atrial
from vitalgate.stream.analysis_features import FeatureResult
from vitalgate.stream.analysis_grid import start_of
from vitalgate.stream.analysis_line import Key
from vitalgate.stream.analysis_windows import BURDEN_BLOCKS

#: An annotated flutter of this length or more is an event (PhysioNet/CinC Challenge 2015), seconds.
FLUTTER_S = 4.0
#: An episode of fibrillation lasts so long (HRS/EHRA/ECAS 2017), seconds.
EPISODE_S = 30.0
_FIBRILLATION = "AFIB"


@dataclass(frozen=True)
class Given:
    """What is known of a record: its beats with EC57 classes, flutter and rhythm labels; samples count at ``fs``."""

    patient: str
    fs: float
    stop: int
    beats: NDArray[np.int64]
    kinds: NDArray[np.str_]
    flutter: tuple[tuple[int, int], ...] = ()
    rhythms: tuple[Rhythm, ...] = ()

    @property
    def key(self) -> Key:
        """Its line, as the analysis would call it."""
        return Key(self.patient, self.patient, "ecg.reference", "scored", round(self.fs * 1000), 1000)

    def times(self, first: int, stop: int) -> tuple[int, int]:
        """Event times of a stretch, microseconds."""
        return tuple(BEGIN_US + round(at / self.fs * 1e6) for at in (first, stop))  # type: ignore[return-value]


def given(recording: Recording) -> Given:
    """The annotations of a record with signals."""
    kinds = np.array([AAMI[symbol] for symbol in recording.symbols], "<U1")
    return Given(
        recording.name, recording.fs, recording.signals.shape[1], recording.beats, kinds, recording.flutter,
        recording.rhythms,
    )  # fmt: skip


def given_intervals(record: Intervals) -> Given:
    """The annotations of a record of which there are only beats; their types are not annotated."""
    stop = int(record.beats[-1]) + 1 if len(record.beats) else 0
    return Given(
        record.name, record.fs, stop, record.beats, np.full(len(record.beats), "N"), rhythms=record.rhythms
    )  # fmt: skip


def reference_alarms(known: Given, book: Book) -> list[Alarm]:
    """The alarms that the rules would raise had the analysis found what is annotated."""
    found = [*_rhythm(known), *_rates(known), *_fibrillation(known)]
    return _told(found, book)


def labelled_fibrillation(known: Given, book: Book) -> list[Alarm]:
    """Only those on atrial fibrillation."""
    return _told(list(_fibrillation(known)), book)


def alarms_of_intervals(known: Given, book: Book) -> list[Alarm]:
    """Those on atrial fibrillation that the analysis raises when the reference beats are given to it.

    The classifier by intervals, the episodes, the burden and the rules are the running ones; beats, their types and P
    waves are not, for there is no signal.
    """
    at, fs = known.beats, known.fs
    blocks = range(int(known.stop // (BLOCK_S * fs)))
    first = {b: middle_window(at, fs, (start_of(b, fs) + start_of(b + 1, fs)) // 2) for b in blocks}
    asked = [(b, start) for b, start in first.items() if start is not None]
    verdicts = dict.fromkeys(blocks, atrial.Verdict(False, True))
    if asked:
        said = fibrillation(at, fs, np.array([start for _, start in asked], np.int64)).positive.tolist()
        verdicts |= {b: atrial.Verdict(positive, False) for (b, _), positive in zip(asked, said, strict=True)}
    inside = [b for b, within in atrial.in_episode(blocks, verdicts).items() if within]
    features = [_piece(known, "event.af", start_of(b, fs), start_of(b + 1, fs), _rate_in(known, b)) for b in inside]
    for low in range(0, len(blocks) - BURDEN_BLOCKS + 1, BURDEN_BLOCKS):
        members = range(low, low + BURDEN_BLOCKS)
        told = [b for b in members if not verdicts[b].withheld]
        if len(told) >= atrial.LEAST_COVERAGE * len(members):
            share = len(set(told) & set(inside)) / len(told)
            features.append(_burden(known, members, share))
    return _told(features, book)


def _told(features: Sequence[FeatureResult], book: Book) -> list[Alarm]:
    """What the rules make of features that come in order of time, each when the running analysis would give it."""
    engine = Engine(book, "care")
    events = []
    wait_us = (AROUND + LEAST_BLOCKS) * BLOCK_S * 1_000_000
    ticked = BEGIN_US
    for feature in sorted(features, key=lambda one: (one.end_us, one.name, one.first_sample)):
        now = feature.end_us + wait_us
        for at in range(ticked + 10_000_000, now + 1, 10_000_000):
            events += engine.tick(at, at)
            ticked = at
        events += take(engine, [feature], now)
    return finished(engine, events, book)


def _rhythm(known: Given) -> Iterator[FeatureResult]:
    flutter = [
        Fibrillating(onset, offset, 0.0) for onset, offset in known.flutter if offset - onset >= FLUTTER_S * known.fs
    ]
    present = np.array([[0, known.stop]], np.int64)
    timeline = Timeline(known.beats, known.kinds, present, None, flutter)
    edges = [*range(0, known.stop, round(BLOCK_S * known.fs)), known.stop]
    for events in rhythm_pieces(timeline, known.fs, edges):
        for event in events:
            yield _piece(known, f"event.{event.kind}", event.onset, event.offset, event.value)


def _rates(known: Given) -> Iterator[FeatureResult]:
    for block in range(int(known.stop // (BLOCK_S * known.fs))):
        low, high = start_of(block, known.fs), start_of(block + 1, known.fs)
        if not any(onset < high and low < offset for onset, offset in known.flutter):
            inside = known.beats[(known.beats >= low) & (known.beats < high)]
            rate = heart_rate(inside, known.fs)
            if not np.isnan(rate):
                yield _piece(known, "heart_rate", low, high, round(rate, 2), "/min")


def _fibrillation(known: Given) -> Iterator[FeatureResult]:
    fs = known.fs
    labels = [r for r in known.rhythms if r.label == _FIBRILLATION]
    for rhythm in labels:
        stop = min(rhythm.offset, known.stop)
        if stop - rhythm.onset >= EPISODE_S * fs:
            # In pieces of a block, as the analysis gives it: an alert is not told at its end.
            edges = [*range(rhythm.onset, stop, round(BLOCK_S * fs)), stop]
            for low, high in pairwise(edges):
                yield _piece(known, "event.af", low, high, 0.0)
    blocks = range(int(known.stop // (BLOCK_S * fs)))
    for low in range(0, len(blocks) - BURDEN_BLOCKS + 1, BURDEN_BLOCKS):
        members = range(low, low + BURDEN_BLOCKS)
        begin, end = start_of(members.start, fs), start_of(members.stop, fs)
        share = sum(max(0, min(r.offset, end) - max(r.onset, begin)) for r in labels) / (end - begin)
        yield _burden(known, members, share)


def _burden(known: Given, members: range, share: float) -> FeatureResult:
    begin, end = start_of(members.start, known.fs), start_of(members.stop, known.fs)
    return _piece(known, "af.burden", begin, end, round(100 * share, 1), "%")


def _rate_in(known: Given, block: int) -> float:
    low, high = start_of(block, known.fs), start_of(block + 1, known.fs)
    rate = heart_rate(known.beats[(known.beats >= low) & (known.beats < high)], known.fs)
    return 0.0 if np.isnan(rate) else round(rate, 1)


def _piece(known: Given, name: str, first: int, stop: int, value: float, unit: str = "") -> FeatureResult:
    return FeatureResult(known.key, name, first, stop, *known.times(first, stop), value, unit, revision=1)
