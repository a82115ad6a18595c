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
    """Tick at which something last came, of whatever event time: a device that catches up is not silent. Before
    anything has, the tick at which it became known that the device is there."""
    missed: int | None = None
    """Beginning of the patient's time with the device, once it was told that nothing at all had come in it."""

    def heard(self, time: int, now: int) -> bool:
        """Take one sign of life; True when a silence that counts by ``now`` ended, moved or went away by it."""
        told = now >= self.due() if self.runs else self.missed is not None
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
        found = self._never(now, windows)
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

    def _never(
        self, now: int, windows: list[tuple[int, int | None]] | None
    ) -> list[tuple[int, int, int | None]]:  # fmt: skip
        """The silence from the beginning of the patient's time with the device to the first sign of life.

        It is one only when it was told before that sign came: who registers a device that has been in use for long
        does not want to hear what was.
        """
        starts = dict(windows or ())
        if not self.runs:
            due = self.due_first(windows)
            if due is None or due > now:
                return []
            self.missed = max(start for start, stop in starts.items() if stop is None)
        if self.missed is None or self.missed not in starts:
            return []
        begin, stop = self.missed + self.gap_us, starts[self.missed]
        first = self.runs[0][0] if self.runs else None
        over = first if stop is None else stop if first is None else min(stop, first)
        return [] if over is not None and over <= begin else [(self.missed, begin, over)]

    def due(self) -> int:
        """When the device counts as silent if it is not heard again; it has been heard."""
        return max(self.runs[-1][1], self.arrived) + self.gap_us

    def due_first(self, windows: list[tuple[int, int | None]] | None) -> int | None:
        """When a device that was never heard counts as silent; None when the patient does not have it now."""
        starts = [start for start, stop in windows or () if stop is None]
        return max(max(starts), self.arrived) + self.gap_us if starts else None
