"""Waveforms for a picture: read piece by piece, the least and greatest value of each pixel kept. No more is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vitalgate.api.downsample import Columns, min_max
from vitalgate.storage.waveforms import Stretch

PIECE = timedelta(hours=1)


@dataclass
class Line:
    """One device's samples as pixels."""

    device: str
    unit: str
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]


def pieces(start: datetime, stop: datetime) -> Iterator[tuple[datetime, datetime]]:
    """A stretch of time in parts of an hour."""
    while start < stop:
        end = min(start + PIECE, stop)
        yield start, end
        start = end


def draw(
    start: datetime, stop: datetime, pixels: int, read: Callable[[datetime, datetime], Sequence[Stretch]]
) -> list[Line]:
    """Read [start, stop) in pieces and reduce it to pixels of equal width.

    Parameters
    ----------
    read
        Gives the stretches of samples of a piece.
    """
    lines: dict[str, Line] = {}
    width = (stop - start) / pixels
    for begin, end in pieces(start, stop):
        for found in read(begin, end):
            line = lines.get(found.device)
            if line is None:
                line = lines[found.device] = Line(
                    found.device, found.scale.unit, np.full(pixels, np.nan), np.full(pixels, np.nan),
                    np.zeros(pixels, dtype=np.int64),
                )  # fmt: skip
            first = max(0, int((found.start - start) / width))
            span = timedelta(seconds=float(len(found.samples) / Fraction(found.rate)))
            last = min(pixels, int((found.start + span - start) / width) + 2)
            if first >= last:
                continue
            edges = _edges(found, start, width, first, last)
            _merge(line, first, min_max(found.physical(), edges))
    return [lines[name] for name in sorted(lines)]


def _edges(found: Stretch, start: datetime, width: timedelta, first: int, last: int) -> npt.NDArray[np.int64]:
    """The first sample of each pixel from `first` on, and the end of the last."""
    offset = (start - found.start) / timedelta(seconds=1)
    times = offset + np.arange(first, last + 1) * (width / timedelta(seconds=1))
    # A sample belongs to the pixel in which it lies; times are whole microseconds.
    edges = np.ceil(times * float(found.rate) - 1e-6).astype(np.int64)
    clipped: npt.NDArray[np.int64] = np.clip(edges, 0, len(found.samples))
    return clipped


def _merge(line: Line, first: int, found: Columns) -> None:
    into = slice(first, first + len(found.count))
    line.low[into] = np.fmin(line.low[into], found.low)
    line.high[into] = np.fmax(line.high[into], found.high)
    line.count[into] += found.count
