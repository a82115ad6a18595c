"""Many live patients through the analysis without Kafka: how long a second's packets take, and memory a patient."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from benchmarks import load
from vitalgate.devices.records import Message, Waveform
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.signals import ecg
from vitalgate.stream.analysis_core import AnalysisCore

_START = 1_700_000_000.0
_WARM_S, _PEOPLE, _TOGETHER = 45, 16, 32


def live_patients(patients: int, seconds: int) -> dict[str, Any]:
    """Feed a packet of a second of every patient each second, as fast as it goes, and time each second's work.

    Final blocks and what is urgent are both worked out. Patients began at different times, so that every second a tenth
    of them has a block ready. The time of a second's work is how far results are behind the detector's look-ahead.
    """
    rate = load.RATE
    total = _WARM_S + seconds
    hearts = [
        np.round(ecg(Person(n, _START), ["II"], _START, rate, 0, total * rate)[0] * 200).astype("<i4")
        for n in range(_PEOPLE)
    ]
    core = AnalysisCore()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = []
    for second in range(total):
        packets = [_packet(n, second, hearts[n % _PEOPLE], rate) for n in range(patients)]
        began = time.process_time()
        for n, packet in enumerate(packets):
            core.take(f"p{n}", packet, op="add", partition=0, offset=second, partial=False, now_us=second)
        jobs = core.jobs()
        for low in range(0, len(jobs), _TOGETHER):
            core.run_together([(job, []) for job in jobs[low : low + _TOGETHER]])
        core.live()
        if second >= _WARM_S:
            took.append(time.process_time() - began)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "patients": patients,
        "rate": rate,
        "seconds": seconds,
        "p50_s": round(float(np.percentile(took, 50)), 4),
        "p99_s": round(float(np.percentile(took, 99)), 4),
        "kilobytes_each": round(grown / patients, 1),
    }


def _packet(patient: int, second: int, heart: np.ndarray[Any, np.dtype[np.int32]], rate: int) -> Message:
    """A second of one patient's ECG; recordings began up to ten seconds ago."""
    samples = heart[second * rate : (second + 1) * rate]
    first = second * rate + (patient * 7919) % (10 * rate)
    block = Waveform(
        0, "ecg.II", "r1", first, len(samples), int(_START * 1e6) + first * 1_000_000 // rate, rate, 1, 200.0, 0.0,
        "mV", samples.tobytes(),
    )  # fmt: skip
    return Message(
        f"d{patient}", "waveforms", second, 0, "t", "e", second, 1, second, False, 0, b"", b"", waveforms=[block]
    )
