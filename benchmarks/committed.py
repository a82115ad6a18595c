"""When rows were there for another connection to see: the ledger, looked at again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from types import TracebackType
from typing import Self

import numpy as np

from benchmarks.bed import BenchError
from vitalgate.config.settings import Settings
from vitalgate.storage import ledger
from vitalgate.storage.connect import connect

#: Ledger lines are looked for again among so many last ids: two workers may commit in another order than they began.
_BACK = 200


class CommitWatch:
    """Notes for each committed ledger line when it was first seen; times are late by at most `every_s`, never early."""

    def __init__(self, settings: Settings, every_s: float) -> None:
        self._database, self._every_s = settings.database, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commit-watch", daemon=True)
        self._failed: BaseException | None = None
        self.lines: dict[int, tuple[float, int, int, int, int]] = {}
        """Id -> (when seen, partition, first offset, last offset, messages)."""
        self.messages = 0

    def __enter__(self) -> Self:
        with connect(self._database, "bench-watch") as connection:
            row = connection.execute("SELECT coalesce(max(id), 0) FROM ledger").fetchone()
        self._base = int(row[0]) if row else 0
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with connect(self._database, "bench-watch", autocommit=True) as connection:
                while not self._stop.wait(self._every_s):
                    after = max(self._base, max(self.lines, default=0) - _BACK)
                    rows = connection.execute(
                        "SELECT id, partition, first_offset, last_offset, messages FROM ledger WHERE id > %s", (after,)
                    ).fetchall()
                    seen = time.time()
                    for identity, *line in rows:
                        if identity not in self.lines:
                            self.lines[identity] = (seen, *line)
                            self.messages += line[-1]
        except BaseException as error:
            self._failed = error
            raise

    def wait(self, messages: int, patience_s: float) -> None:
        """Until so many messages are committed. Raises BenchError when nothing more comes for `patience_s`."""
        before, moved = -1, time.monotonic()
        while self.messages < messages:
            if self._failed is not None:
                raise BenchError(f"the ledger could not be watched: {self._failed}")
            if self.messages != before:
                before, moved = self.messages, time.monotonic()
            if time.monotonic() - moved > patience_s:
                raise BenchError(f"{self.messages} of {messages} messages committed, and no more for {patience_s:g} s")
            time.sleep(0.02)

    def last(self) -> float:
        """When the newest line was seen."""
        return max(line[0] for line in self.lines.values())

    def middle_rate(self) -> float:
        """Messages a second between the first and the last quarter of what was committed."""
        lines = sorted(self.lines.values())
        total, so_far = sum(line[4] for line in lines), 0
        ends: list[tuple[float, int]] = []
        for line in lines:
            so_far += line[4]
            ends.append((line[0], so_far))
        low = next((e for e in ends if e[1] >= total / 4), ends[0])
        high = next((e for e in ends if e[1] >= total * 3 / 4), ends[-1])
        return (high[1] - low[1]) / (high[0] - low[0]) if high[0] > low[0] else 0.0

    def lags(self, sent: dict[tuple[str, int], float], devices: Collection[str]) -> np.ndarray:
        """Seconds from publish to the committed row, for each message of these devices that has rows."""
        with connect(self._database, "bench-lags") as connection:
            rows = connection.execute(
                "SELECT DISTINCT device_id, seq, raw_partition, raw_offset FROM ("
                " SELECT device_id, seq, raw_partition, raw_offset FROM readings WHERE device_id = ANY(%(devices)s)"
                " UNION ALL"
                " SELECT device_id, seq, raw_partition, raw_offset FROM waveforms WHERE device_id = ANY(%(devices)s)"
                ") r",
                {"devices": list(devices)},
            ).fetchall()
        by_partition: dict[int, list[tuple[int, int, float]]] = {}
        for seen, partition, first, last, _ in self.lines.values():
            by_partition.setdefault(partition, []).append((first, last, seen))
        tables = {p: np.array(sorted(lines)) for p, lines in by_partition.items()}
        found = []
        for device, seq, partition, offset in rows:
            left = sent.get((device, seq))
            table = tables.get(partition)
            if left is None or table is None:
                continue
            at = int(np.searchsorted(table[:, 0], offset, side="right")) - 1
            if at >= 0 and offset <= table[at, 1]:
                found.append(table[at, 2] - left)
        return np.array(found)


def balanced(settings: Settings) -> bool:
    """Whether every item of the ledger is in exactly one place."""
    return ledger.read(settings.database).balanced


def percentiles(seconds: np.ndarray) -> dict[str, float | int | None]:
    """p50 and p99 in milliseconds, and of how many."""
    if not len(seconds):
        return {"p50_ms": None, "p99_ms": None, "count": 0}
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {"p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1), "count": len(seconds)}
