"""How many times faster than real time beat detectors are on one record, ours beside NeuroKit2's and wfdb's."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import load
from benchmarks.rest import recorded
from vitalgate.scoring import detectors
from vitalgate.signal.beats import find_beats
from vitalgate.simulators import recordings
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.signals import ecg

_DETECTORS = (detectors.OURS, "neurokit2:neurokit", "neurokit2:pantompkins1985", "wfdb:xqrs", "wfdb:gqrs", "sleepecg")
_SECONDS = 300.0
_TOGETHER = 32
_REPEATS = 3


def run(seconds: float, scale: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section: best of three on one lead; needs no stack."""
    name, fs, signal = _record(max(60.0, min(_SECONDS, seconds * 10) * scale))
    length = len(signal) / fs
    found = {}
    for detector in _DETECTORS:
        if detector not in detectors.names():
            continue
        tell(detector)
        work = detectors.detector(detector)
        work(signal[: int(20 * fs)], fs)  # imports and caches
        found[detector] = round(length / _best(partial(work, signal, fs)), 1)
    many = np.repeat(signal[np.newaxis], _TOGETHER, axis=0)
    found[f"{detectors.OURS}, {_TOGETHER} signals at once"] = round(
        _TOGETHER * length / _best(lambda: find_beats(many, fs)), 1
    )
    return {"record": name, "seconds": round(length, 1), "rate": fs, "times_real_time": found}


def _best(work: Callable[[], object]) -> float:
    took = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def _record(seconds: float) -> tuple[str, float, NDArray[np.float32]]:
    paths = recorded()
    if paths:
        record = recordings.read(paths[0], seconds)
        return record.name, float(record.rate), record.channels[0].physical().astype(np.float32)
    start = 1_700_000_000.0
    signal = ecg(Person(1, start), ["II"], start, load.RATE, 0, int(seconds * load.RATE))[0]
    return "synthetic", float(load.RATE), signal.astype(np.float32)


def text(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"record {found['record']}, {found['seconds']:g} s at {found['rate']:g} Hz, one lead; times real time:"]
    return lines + [f"  {name:<40}{value:>12,.0f}" for name, value in found["times_real_time"].items()]
