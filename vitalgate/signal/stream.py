"""Beats from packets as they come: the same final beats as ``find_beats`` on the whole recording, bit for bit.

Nothing is decided anew here. Finite support makes a stream out of the one function: keep BEFORE_S of history, and when
AFTER_S has come behind a stretch, its beats are final.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.beats import AFTER_S, BEFORE_S, find_beats
from vitalgate.signal.grid import Index, as_signals

#: Final beats are worked out in steps of at least this many seconds, so that tiny packets cost little.
STEP_S = 1.0


class BeatStream:
    """Final beats of one or more signals that come in packets.

    Parameters
    ----------
    fs
        Sampling rate, 100 to 1000 Hz.
    first
        Absolute index of the first sample that will come.
    """

    def __init__(self, fs: float, first: int = 0) -> None:
        self.fs = float(fs)
        self._kept: NDArray[Any] | None = None
        self._kept_from = first
        self._done = first

    def push(self, packet: ArrayLike) -> list[Index]:
        """Take the next samples, (n_signals, n) or (n,); give the beats that have become final, for each signal.

        Raises
        ------
        ValueError
            If the number of signals changes.
        """
        samples = as_signals(packet)
        if self._kept is None:
            self._kept = samples.astype(np.float32)
        elif samples.shape[0] != self._kept.shape[0]:
            raise ValueError(f"a packet of {samples.shape[0]} signals after packets of {self._kept.shape[0]}")
        else:
            self._kept = np.concatenate([self._kept, samples.astype(np.float32)], axis=1)
        final = self._kept_from + self._kept.shape[1] - int(np.ceil(AFTER_S * self.fs))
        if final - self._done < STEP_S * self.fs:
            return [np.empty(0, np.int64)] * samples.shape[0]
        return self._up_to(final)

    def finish(self) -> list[Index]:
        """No more will come: the remaining beats, for each signal (none if there never was a packet)."""
        if self._kept is None:
            return [np.empty(0, np.int64)]
        return self._up_to(self._kept_from + self._kept.shape[1])

    def _up_to(self, stop: int) -> list[Index]:
        assert self._kept is not None
        beats = find_beats(self._kept, self.fs, self._kept_from, self._done, stop)
        self._done = stop
        spare = max(0, self._done - int(np.ceil(BEFORE_S * self.fs)) - self._kept_from)
        if spare:
            self._kept = self._kept[:, spare:].copy()
            self._kept_from += spare
        return beats
