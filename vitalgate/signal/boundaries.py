"""Onsets and offsets of waves, lead by lead.

At places outward from the middle of a wave, boosted trees say how likely the wave still goes on there, from slopes,
distances from the level outside and the path that is left, in the lead itself and in all leads together. The boundary
is where the probabilities add up to: the mean of what it may be, which a single noisy point moves little.

Everything is relative to the size of the wave or of the QRS, so that gain and polarity do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal.complexes import FROM_S, POINTS, RATE, Complexes, known, over_leads, smooth, span
from vitalgate.signal.grid import Float, Index
from vitalgate.signal.trees import Boosted

Floats = NDArray[np.float64]
_TINY = np.float32(1e-6)


@dataclass(frozen=True)
class Edge:
    """How one boundary is looked for: from .. to so many s outward from the wave's centre, every ``step`` points."""

    name: str
    wave: str
    outward: int
    """-1 for an onset, 1 for an offset."""
    from_s: float
    to_s: float
    step: int
    scales_s: tuple[float, float]
    around: tuple[int, ...]
    """Points outward (negative: inward) at which a place's surroundings are looked at."""
    inner_s: float
    """The wave's size is that within so long of its centre."""
    level: int
    """The level outside begins 4 of these points outward."""


_P_AROUND = (-10, -7, -4, -2, 0, 2, 4, 7, 10)
_QRS_AROUND = (-8, -5, -3, -2, -1, 0, 1, 2, 3, 5, 8)
_T_AROUND = (-20, -14, -8, -4, 0, 4, 8, 14, 20)

EDGES = (
    Edge("delineation-p-on", "p", -1, 0.0, 0.13, 1, (0.008, 0.016), _P_AROUND, 0.05, 1),
    Edge("delineation-p-off", "p", 1, 0.0, 0.12, 1, (0.008, 0.016), _P_AROUND, 0.05, 1),
    Edge("delineation-qrs-on", "qrs", -1, -0.02, 0.13, 1, (0.006, 0.012), _QRS_AROUND, 0.08, 1),
    Edge("delineation-qrs-off", "qrs", 1, -0.03, 0.17, 1, (0.006, 0.012), _QRS_AROUND, 0.08, 1),
    Edge("delineation-t-on", "t", -1, 0.0, 0.24, 2, (0.016, 0.03), _T_AROUND, 0.08, 2),
    Edge("delineation-t-off", "t", 1, 0.0, 0.22, 2, (0.016, 0.03), _T_AROUND, 0.08, 2),
)


def places(edge: Edge) -> Floats:
    """Distances outward from the centre at which it is asked, s."""
    count = int(np.floor((edge.to_s - edge.from_s) * RATE / edge.step))
    return edge.from_s + np.arange(count) * edge.step / RATE


def features(beats: Complexes, edge: Edge, centre_s: Floats, width_s: Floats) -> Float:
    """What the trees see: (n_beats, n_leads, n_places, n_features).

    Parameters
    ----------
    centre_s, width_s
        (n_beats,) of the wave, s from the middle of the QRS; how long it is about.
    """
    out = places(edge)
    view = _View(beats, edge, centre_s, out)
    qrs = np.ptp(beats.mean[:, :, span(-0.08, 0.08)], axis=2)[:, :, np.newaxis] + _TINY
    steep = beats.steepness[:, np.newaxis, np.newaxis]
    table: list[NDArray[np.floating]] = []
    for k, scale in enumerate(edge.scales_s):
        table += _slopes(beats, edge, view, scale, steep, qrs, first=k == 0)
    table += _levels(beats, edge, view, qrs)
    rhythm = beats.after_s if edge.outward > 0 else beats.before_s
    table += [
        view.times_s[:, np.newaxis], out[np.newaxis, np.newaxis], width_s[:, np.newaxis, np.newaxis],
        rhythm[:, np.newaxis, np.newaxis], np.minimum(beats.valid.sum(axis=1), 3)[:, np.newaxis, np.newaxis],
    ]  # fmt: skip
    shape = (*beats.valid.shape, len(out))
    return known(np.stack([np.broadcast_to(column, shape) for column in table], axis=-1).astype(np.float32))


def find_edges(
    beats: Complexes, edge: Edge, centre_s: Floats, width_s: Floats, trees: Boosted
) -> tuple[Floats, Floats]:
    """The boundary of each beat in each lead, s from the middle of the QRS; and how sure, 0 to 1."""
    table = features(beats, edge, centre_s, width_s)
    count, leads, steps, wide = table.shape
    going_on = trees.shares(table.reshape(-1, wide))[:, 1].reshape(count, leads, steps)
    total, doubt = np.zeros((count, leads)), np.zeros((count, leads))
    for k in range(steps):
        total += going_on[:, :, k]
        doubt += going_on[:, :, k] * (1 - going_on[:, :, k])
    pace = edge.step / RATE
    distance = edge.from_s + (total - 0.5) * pace
    # The doubt of a boundary that is spread evenly over all places would be steps / 6.
    return centre_s[:, np.newaxis] + edge.outward * distance, np.clip(1 - 6 * doubt / steps, 0, 1)


class _View:
    """Values of cuts at the places of each beat, and at points outward from them."""

    def __init__(self, beats: Complexes, edge: Edge, centre_s: Floats, out: Floats) -> None:
        self.times_s = centre_s[:, np.newaxis] + edge.outward * out
        self._outward = edge.outward
        self._at = _points(self.times_s)
        self._moved: dict[int, Index] = {}
        inner = np.arange(-edge.inner_s, edge.inner_s + 0.5 / RATE, 1 / RATE)
        self._inner = np.clip(_points(centre_s[:, np.newaxis] + inner), 0, POINTS - 1)
        self._begin = _points(centre_s)
        self._end = _points(centre_s + edge.outward * (edge.to_s + 0.04))

    def at(self, cuts: Float, outward: int = 0) -> Float:
        if outward not in self._moved:
            self._moved[outward] = np.clip(self._at + self._outward * outward, 0, POINTS - 1)
        return _pick(cuts, self._moved[outward])

    def inside(self, cuts: Float) -> Float:
        """All of the wave's inner part, (n_beats, n, points)."""
        return _pick(cuts, self._inner)

    def largest(self, cuts: Float) -> Float:
        return np.asarray(self.inside(cuts).max(axis=2, keepdims=True) + _TINY)

    def left(self, cuts: Float) -> Float:
        """Share of the sum from the centre to beyond the last place that lies beyond each place."""
        total = np.zeros((*cuts.shape[:2], POINTS + 1))
        np.cumsum(cuts, axis=2, dtype=np.float64, out=total[:, :, 1:])
        place = _pick(total, np.clip(self._at, 0, POINTS))
        begin = _pick(total, np.clip(self._begin, 0, POINTS)[:, np.newaxis])
        end = _pick(total, np.clip(self._end, 0, POINTS)[:, np.newaxis])
        return np.asarray(np.abs(end - place) / (np.abs(end - begin) + 1e-6))


def _points(times_s: Floats) -> Index:
    return np.round((times_s - FROM_S) * RATE).astype(np.int64)


def _pick(cuts: NDArray[np.floating], at: Index) -> NDArray[np.floating]:
    """Values at the same points (n_beats, n) of every lead; by one flat index, faster than ``take_along_axis``."""
    beats, leads, points = cuts.shape
    rows = np.arange(0, beats * leads * points, points).reshape(beats, leads, 1)
    return np.asarray(cuts.reshape(-1).take(rows + at[:, np.newaxis, :]))


def _slopes(
    beats: Complexes, edge: Edge, view: _View, scale: float, steep: Float, qrs: Float, *, first: bool
) -> list[NDArray[np.floating]]:
    mean = np.abs(smooth(beats.mean, scale, 1))
    own = np.abs(smooth(beats.own, scale, 1))
    together = over_leads(mean, beats.valid)[:, np.newaxis]
    own_together = over_leads(own, beats.valid)[:, np.newaxis]
    largest, largest_together = view.largest(mean), view.largest(together)
    table: list[NDArray[np.floating]] = []
    for shift in edge.around:
        table += [view.at(mean, shift) / largest, view.at(together, shift) / largest_together]
    for shift in edge.around[::2]:
        table += [view.at(mean, shift) / qrs, view.at(own, shift) / qrs]
    table += [view.at(own_together, shift) / largest_together for shift in edge.around[::3]]
    beyond = [2 * edge.level * k for k in range(1, 13)]
    for cuts, size in ((mean, largest), (together, largest_together), (own, largest)):
        furthest = view.at(cuts, beyond[0])
        for shift in beyond[1:]:
            furthest = np.maximum(furthest, view.at(cuts, shift))
        table.append(furthest / size)
    table += [view.left(mean), view.left(together), largest / largest_together]
    if first:
        noise = np.sort(mean, axis=2)[:, :, POINTS // 2, np.newaxis]
        table += [largest / steep, largest_together / steep, noise / largest]
    return table


def _levels(beats: Complexes, edge: Edge, view: _View, qrs: Float) -> list[NDArray[np.floating]]:
    """How far the signal is from the level outside, and from the line that it follows there."""
    unit = edge.level
    table: list[NDArray[np.floating]] = []
    size = _TINY
    for cuts in (smooth(beats.mean, edge.scales_s[0]), smooth(beats.own, edge.scales_s[0])):
        if not table:
            inside = view.inside(cuts)
            size = np.ptp(inside, axis=2)[:, :, np.newaxis] + _TINY
        near = _mean([view.at(cuts, unit * k) for k in (4, 5, 6, 7, 8)])
        far = _mean([view.at(cuts, unit * k) for k in (13, 15, 17, 19)])
        tilt = (near - far) / np.float32(10 * unit)
        for shift in (-4 * unit, -2 * unit, 0, 2 * unit):
            here = view.at(cuts, shift)
            off_level, off_line = np.abs(here - near), np.abs(here - near - tilt * np.float32(6 * unit - shift))
            table += [off_level / size, off_line / size, off_level / qrs]
        table.append(np.abs(near - far) / size)
    return [*table, size / qrs]


def _mean(parts: list[NDArray[np.floating]]) -> NDArray[np.floating]:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total * np.float32(1 / len(parts))
