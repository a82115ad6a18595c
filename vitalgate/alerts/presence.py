"""When a device was heard: a union of stretches, so that order and repeats mean nothing."""

from __future__ import annotations

from bisect import bisect_right

import msgspec

from vitalgate.alerts.machine import NEVER

#: Stretches kept of one device; what is older is not judged any more.
KEPT = 32


class Presence(msgspec.Struct, array_like=True):
    """Stretches [first, last] of event time in which the device was heard without a silence of ``gap_us``."""

    gap_us: int
    runs: list[list[int]] = []
    floor: int | None = None
    """Stretches that end before this have been dropped: nothing is said of the time before."""
    arrived: int = NEVER
    """Tick at which something last came, of whatever event time: a device that catches up is not silent."""

    def heard(self, time: int, now: int) -> bool:
        """Take one sign of life; True when a silence that counts by ``now`` ended, moved or went away by it."""
        told = bool(self.runs) and now >= self.due()
        self.arrived = max(self.arrived, now)
        return self._take(time) or told

    def _take(self, time: int) -> bool:
        runs = self.runs
        if runs and runs[-1][0] <= time:
            last = runs[-1]
            if time <= last[1]:
                return False
            if time - last[1] <= self.gap_us:
                last[1] = time
                return False
            runs.append([time, time])
            if len(runs) > KEPT:
                del runs[0]
                self.floor = runs[0][0]
            return True
        return self._late(time)

    def _late(self, time: int) -> bool:
        runs = self.runs
        if self.floor is not None and time < self.floor:
            return False
        at = bisect_right(runs, time, key=lambda run: run[0])
        if at and time <= runs[at - 1][1]:
            return False
        runs.insert(at, [time, time])
        joined: list[list[int]] = []
        for run in runs:
            if joined and run[0] - joined[-1][1] <= self.gap_us:
                joined[-1][1] = max(joined[-1][1], run[1])
            else:
                joined.append(run)
        runs[:] = joined[-KEPT:]
        if len(joined) > KEPT:
            self.floor = runs[0][0]
        return True

    def set_gap(self, gap_us: int) -> None:
        """Another limit: stretches can be joined, but not taken apart again."""
        self.gap_us = gap_us
        runs, self.runs = self.runs, []
        for run in runs:
            if self.runs and run[0] - self.runs[-1][1] <= gap_us:
                self.runs[-1][1] = run[1]
            else:
                self.runs.append(run)

    def silences(self, now: int, windows: list[tuple[int, int | None]] | None) -> list[tuple[int, int, int | None]]:
        """(last heard, from when it counted as silent, heard again or None) of each silence up to ``now``.

        ``windows`` are the times in which the patient had the device; None: always.
        """
        found: list[tuple[int, int, int | None]] = []
        for k, (_, last) in enumerate(self.runs):
            begin = last + self.gap_us
            end = self.runs[k + 1][0] if k + 1 < len(self.runs) else None
            if end is None and self.due() > now:
                continue
            if windows is None:
                found.append((last, begin, end))
                continue
            for start, stop in windows:
                # Silent from the later of the two; over when the device is somebody else's.
                if last < start or (stop is not None and stop <= begin):
                    continue
                over = end if stop is None else stop if end is None else min(stop, end)
                found.append((last, begin, over))
        return found

    def due(self) -> int:
        """When the device counts as silent if it is not heard again."""
        return max(self.runs[-1][1], self.arrived) + self.gap_us
