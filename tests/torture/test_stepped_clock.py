"""A stepped clock is seen by all that reads it in a process, and by nothing that waits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitalgate.torture.stepped_clock import SteppedClock, compiler

_TELLS = """
import sys, threading, time, queue
from datetime import datetime
for _ in sys.stdin:
    began = time.monotonic()
    condition = threading.Condition()
    with condition:
        condition.wait(0.05)
    waited = time.monotonic() - began
    print(time.time(), time.time_ns() / 1e9, datetime.now().timestamp(), time.monotonic(), waited, flush=True)
"""


@pytest.mark.skipif(compiler() is None, reason="no C compiler on this machine")
def test_a_process_sees_its_clock_stepped_and_waits_as_long_as_before(tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path)
    clock.build()
    with subprocess.Popen(
        [sys.executable, "-c", _TELLS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **clock.environment},
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout
        try:
            for step in (0.0, 7200.0, -5.5, 0.0):
                clock.set(step)
                process.stdin.write("\n")
                process.stdin.flush()
                *walls, monotonic, waited = (float(word) for word in process.stdout.readline().split())
                assert all(abs(wall - time.time() - step) < 2 for wall in walls), (step, walls)
                assert abs(monotonic - time.monotonic()) < 2
                assert 0.04 < waited < 2
        finally:
            process.kill()
