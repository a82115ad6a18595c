"""A recording goes quiet by a clock that nobody sets.

Found by `vitalgate torture --seed 14 --faults server-clock-steps --first 51 --rounds 1`: set back by three hours, the
wall clock kept what had arrived before in the future, and the last blocks of a recording were not worked out.
"""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.analysis.test_analysis_core import _ecg, _message
from vitalgate.config.loading import load
from vitalgate.devices.records import PatientInput, encode
from vitalgate.storage.log_base import Bases
from vitalgate.stream import analysis
from vitalgate.stream.analysis_core import AnalysisCore
from vitalgate.stream.worker import Record


@pytest.mark.parametrize("step_s", [-10_800, 10_800])
def test_a_recording_goes_quiet_though_the_clock_is_set(monkeypatch: pytest.MonkeyPatch, step_s: int) -> None:
    settings = load(env={}, data="/nowhere").settings
    worker = analysis.Analysis.__new__(analysis.Analysis)
    worker.context = SimpleNamespace(settings=settings)  # type: ignore[assignment]
    worker.core, worker.partial, worker.bases, worker.stale = AnalysisCore(), {0: False}, Bases(), False

    async def nothing() -> None:
        return

    monkeypatch.setattr(worker, "_publish_due", nothing)
    samples = _ecg(5, seed=1)
    value = encode(PatientInput("add", "p1", _message(0, samples, 0)))
    worker._take(Record("patient.inputs", 0, 0, b"p1", value, [], 0))
    real_wall, real_monotonic = time.time_ns, time.monotonic_ns

    def later(seconds: float) -> list[Any]:
        monkeypatch.setattr(time, "time_ns", lambda: real_wall() + int((seconds + step_s) * 1e9))
        monkeypatch.setattr(time, "monotonic_ns", lambda: real_monotonic() + int(seconds * 1e9))
        asyncio.run(worker.tick())
        return [state.idle for state in worker.core._states.values()]

    assert later(settings.analysis.idle_s / 2) == [False]
    assert later(settings.analysis.idle_s + 5) == [True]
