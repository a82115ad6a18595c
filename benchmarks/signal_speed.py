"""The signal engine alone: detectors side by side (speed and accuracy), the whole analysis, and live patients."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import load
from benchmarks.live_patients import live_patients
from benchmarks.rest import recorded
from vitalgate.scoring import databases, detectors
from vitalgate.signal.beats import find_beats
from vitalgate.signal.scoring import gross, match_beats
from vitalgate.signal.whole import analyse
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.signals import ecg

_DETECTORS = (
    detectors.OURS, "sleepecg", "neurokit2:neurokit", "neurokit2:pantompkins1985", "neurokit2:hamilton2002",
    "neurokit2:elgendi2010", "wfdb:xqrs", "wfdb:gqrs",
)  # fmt: skip
_SECONDS = 300.0
_TOGETHER = 64
_REPEATS = 5
_LIVE = 2_000

Float = NDArray[np.float32]


def run(seconds: float, scale: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section: best of five, CPU time of one process; needs no stack."""
    length = max(60.0, min(_SECONDS, seconds * 10) * scale)
    records = _records(length)
    fs = records[0].fs
    found: dict[str, dict[str, float | None]] = {}
    for name in _DETECTORS:
        if name not in detectors.names():
            continue
        tell(name)
        work = detectors.detector(name)
        work(records[0].signals[0][: int(20 * fs)], fs)  # imports and caches
        found[name] = {
            "times_real_time": round(length / _best(partial(work, records[0].signals[0], fs)), 1),
            "f1": _f1(records, work),
        }
    signals = [record.signals[0] for record in records]
    many = np.stack([np.roll(signals[k % len(signals)], 997 * k) for k in range(_TOGETHER)])
    tell(f"{_TOGETHER} signals at once")
    together = round(_TOGETHER * length / _best(lambda: find_beats(many, fs)), 1)
    whole = round(_TOGETHER * length / _best(lambda: analyse(many, fs)), 1)
    tell("live patients")
    return {
        "records": [record.name for record in records],
        "seconds": round(length, 1),
        "rate": fs,
        "detectors": found,
        "signals_at_once": _TOGETHER,
        "beats_at_once_times_real_time": together,
        "whole_analysis_times_real_time": whole,
        "live": live_patients(max(20, int(_LIVE * min(1.0, scale))), max(3, int(10 * min(1.0, scale)))),
    }


def _best(work: Callable[[], object]) -> float:
    took = []
    for _ in range(_REPEATS):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def _f1(records: list[databases.Recording], work: detectors.Detector) -> float | None:
    """Gross F1 over the records (EC57), percent; None when nobody marked their beats."""
    if not all(len(record.beats) for record in records):
        return None
    scores = [
        match_beats(record.beats, work(record.signals[0], record.fs), record.fs, exclude=record.flutter).score
        for record in records
    ]
    return round(100 * gross(scores).f1, 2)


def _records(seconds: float) -> list[databases.Recording]:
    """The begin of annotated recordings where there are some, else one synthetic ECG without marks."""
    found = [record for path in recorded() if (record := _begin(path, seconds)) is not None]
    alike = [record for record in found if record.fs == found[0].fs]
    if alike:
        return alike
    start = 1_700_000_000.0
    signal = ecg(Person(1, start), ["II"], start, load.RATE, 0, int(seconds * load.RATE)).astype(np.float32)
    nothing = np.empty(0, np.int64)
    return [databases.Recording("synthetic", ("II",), signal, float(load.RATE), nothing, np.empty(0, "<U1"))]


def _begin(path: Path, seconds: float) -> databases.Recording | None:
    if not path.with_suffix(".atr").is_file():
        return None
    whole = databases.read_recording(path.parent, path.stem)
    count = int(seconds * whole.fs)
    inside = whole.beats < count
    if whole.signals.shape[1] < count:
        return None
    return databases.Recording(
        whole.name, whole.leads, np.ascontiguousarray(whole.signals[:, :count]), whole.fs, whole.beats[inside],
        whole.symbols[inside], whole.flutter, whole.rhythms,
    )  # fmt: skip


def text(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [
        f"records {', '.join(found['records'])}: {found['seconds']:g} s at {found['rate']:g} Hz, one lead; CPU time",
        f"  {'detector':<28}{'times real time':>17}{'F1 %':>9}",
    ]
    for name, figures in found["detectors"].items():
        f1 = "-" if figures["f1"] is None else f"{figures['f1']:.2f}"
        lines.append(f"  {name:<28}{figures['times_real_time']:>17,.0f}{f1:>9}")
    count, live = found["signals_at_once"], found["live"]
    return [
        *lines,
        f"  beats of {count} signals at once: {found['beats_at_once_times_real_time']:,.0f} times real time",
        f"  whole analysis (quality, beats, classes, rhythm, HRV) of {count} signals at once: "
        f"{found['whole_analysis_times_real_time']:,.0f} times real time",
        f"  {live['patients']:,} live patients at {live['rate']:g} Hz in packets of a second, one core: a second's "
        f"packets take p50 {live['p50_s']:.3f} s, p99 {live['p99_s']:.3f} s, {live['kilobytes_each']:.0f} KB a patient",
    ]
