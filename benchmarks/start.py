"""How long the whole stack takes to be ready, from nothing and again, and to its first committed row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks import load
from benchmarks.bed import Bed, now
from benchmarks.committed import CommitWatch
from benchmarks.throughput import publish

_PATIENCE_S = 60.0


def run(bed: Bed, first_s: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section: stops the stack and starts it in the same folder."""
    _, oximeters = load.cast("s", 0, 1)
    bed.enrol(oximeters)
    time.sleep(1)
    tell("stopping and starting again")
    began = time.monotonic()
    bed.stack.stop()
    stopped = time.monotonic()
    bed.stack.start()
    ready = time.monotonic()
    bed.settings = bed.stack.settings.settings
    with CommitWatch(bed.settings, 0.005) as watch:
        publish(bed, load.Departures([load.readings(oximeters[0].device, "s1", 1, now(), 97, 70)]), 1, None)
        watch.wait(1, _PATIENCE_S)
    return {
        "first_start_s": round(first_s, 2),
        "stop_s": round(stopped - began, 2),
        "start_s": round(ready - stopped, 2),
        "start_to_first_row_s": round(time.monotonic() - stopped, 2),
    }


def text(found: dict[str, Any]) -> list[str]:
    """For people."""
    return [
        f"ready from nothing {found['first_start_s']:g} s, again {found['start_s']:g} s; first row "
        f"{found['start_to_first_row_s']:g} s after that start began (bar: 15 s); stop {found['stop_s']:g} s"
    ]
