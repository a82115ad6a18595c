"""A long line for a narrow picture: the least and the greatest value of each pixel, so that no peak is lost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Columns:
    """One entry a pixel; `count` 0 where nothing was measured, and low and high are NaN there."""

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]


def min_max(values: npt.NDArray[np.float64], edges: npt.NDArray[np.int64]) -> Columns:
    """The least and greatest value between consecutive edges.

    Parameters
    ----------
    values
        Shape (n,); NaN where nothing is there.
    edges
        Shape (pixels + 1,), rising sample numbers from 0 to n at most; pixel i covers [edges[i], edges[i + 1]).
    """
    pixels = len(edges) - 1
    low = np.full(pixels, np.nan)
    high = np.full(pixels, np.nan)
    count = np.zeros(pixels, dtype=np.int64)
    filled = np.flatnonzero(edges[:-1] < edges[1:])
    if not len(filled):
        return Columns(low, high, count)
    there = ~np.isnan(values)
    # reduceat runs from each start to the next: between filled pixels nothing lies, so only the end must be cut.
    starts, end = edges[:-1][filled], int(edges[1:][filled][-1])
    low[filled] = np.minimum.reduceat(np.where(there, values, np.inf)[:end], starts)
    high[filled] = np.maximum.reduceat(np.where(there, values, -np.inf)[:end], starts)
    count[filled] = np.add.reduceat(there[:end].astype(np.int64), starts)
    empty = count == 0
    low[empty] = high[empty] = np.nan
    return Columns(low, high, count)


def edges_of(length: int, pixels: int) -> npt.NDArray[np.int64]:
    """Edges of `pixels` pixels over `length` samples, as even as whole numbers allow."""
    return np.arange(pixels + 1, dtype=np.int64) * length // pixels
