"""Where the P wave before a beat and the T wave behind it are, by all leads together, and whether there is a P wave.

At points 12 or 16 ms apart boosted trees say how likely a wave is there (models ``delineation-p-wave`` and
``-t-wave``), from the curvature and slope of the beat and of the mean of those like it, from how far the two agree, and
from where the beats beside it are. The wave is where the probability over its usual width is largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal.complexes import (
    CONTEXT_S,
    NEIGHBOURS,
    POINTS,
    RATE,
    TIMES_S,
    Complexes,
    known,
    over_leads,
    point,
    smooth,
)  # fmt: skip
from vitalgate.signal.grid import Bool, Float
from vitalgate.signal.trees import Boosted

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Search:
    """How one kind of wave is looked for: from .. to (s from the middle of the QRS), every ``step`` points."""

    name: str
    from_s: float
    to_s: float
    step: int
    scale_s: float
    around: tuple[int, ...]
    """Points at which a place's surroundings are looked at."""
    width: int
    """Places that a wave usually covers."""


P = Search("delineation-p-wave", -0.46, -0.03, 3, 0.02, (-20, -15, -10, -6, -3, 0, 3, 6, 10, 15, 20), 7)
T = Search("delineation-t-wave", 0.08, 0.72, 4, 0.03, (-40, -28, -18, -10, -5, 0, 5, 10, 18, 28, 40), 9)

#: A beat has a P wave when half of its own and half of its neighbours' probability come to this.
P_PRESENT = 0.35
T_PRESENT = 0.25


@dataclass(frozen=True, eq=False)
class Found:
    """(n_beats,) each: centre of the wave, s from the middle of the QRS; how long it is about, s; probability."""

    centre_s: Floats
    width_s: Floats
    share: Floats


def columns(search: Search) -> NDArray[np.int64]:
    """Points of a cut at which it is asked whether the wave is there."""
    return np.arange(point(search.from_s), point(search.to_s), search.step)


def features(beats: Complexes, search: Search) -> Floats:
    """What the trees see: (n_beats, n_places, n_features)."""
    at = columns(search)
    low, high = int(at[0]), int(at[-1]) + search.step
    scale = search.scale_s
    own, mean = _curvature(beats.own, beats.valid, scale), _curvature(beats.mean, beats.valid, scale)
    wide = _curvature(beats.mean, beats.valid, 2 * scale)
    slope = over_leads(smooth(beats.own, scale, 1), beats.valid)
    mean_slope = over_leads(smooth(beats.mean, scale, 1), beats.valid)
    agree = _agreement(beats)
    most = mean[:, low:high].max(axis=1, keepdims=True) + np.float32(1e-6)
    steepest = mean_slope[:, low:high].max(axis=1, keepdims=True) + np.float32(1e-6)
    qrs = beats.steepness[:, np.newaxis]
    shape = (len(beats.middle), len(at))
    time = np.broadcast_to(TIMES_S[at], shape)
    before, after = beats.before_s[:, np.newaxis], beats.after_s[:, np.newaxis]
    table: list[NDArray[np.floating]] = [
        time, time + before, after - time, (time + before) / before, time / after, before, after, mean[:, at] / qrs,
        own[:, at] / qrs, most / qrs, beats.alike[:, np.newaxis], _irregularity(beats)[:, np.newaxis],
        np.minimum(beats.valid.sum(axis=1), 3)[:, np.newaxis],
    ]  # fmt: skip
    for k, shift in enumerate(search.around):
        there = np.clip(at + shift, 0, POINTS - 1)
        table += [mean[:, there] / most, mean_slope[:, there] / steepest]
        if k % 2:
            table += [own[:, there] / most, slope[:, there] / qrs, wide[:, there] / most, agree[:, there]]
    return known(np.stack([np.broadcast_to(column, shape) for column in table], axis=-1).astype(np.float64))


def find_waves(beats: Complexes, search: Search, trees: Boosted) -> Found:
    """Where the wave of each beat is most likely."""
    table = features(beats, search)
    count, places, width = table.shape
    likely = trees.shares(table.reshape(-1, width))[:, 1].reshape(count, places)
    return locate(likely, search)


def locate(likely: Floats, search: Search) -> Found:
    """The wave of each beat, from the probability at each place, (n_beats, n_places)."""
    count, places = likely.shape
    half = search.width // 2
    padded = np.zeros((count, places + 2 * half))
    padded[:, half : half + places] = likely
    total = np.zeros((count, places))
    for k in range(2 * half + 1):
        total += padded[:, k : k + places]
    best = total.argmax(axis=1)
    times = TIMES_S[columns(search)]
    weight, moment = np.zeros(count), np.zeros(count)
    for shift in range(-search.width, search.width + 1):
        at = best + shift
        inside = (at >= 0) & (at < places)
        at = np.clip(at, 0, places - 1)
        here = np.where(inside, likely[np.arange(count), at], 0)
        weight += here
        moment += here * times[at]
    share = total[np.arange(count), best] / (2 * half + 1)
    return Found(moment / np.maximum(weight, 1e-9), weight * search.step / RATE, share)


def with_neighbours(beats: Complexes, share: Floats) -> Floats:
    """Half of each beat's own value and half of the mean over the beats like it."""
    total, count = np.zeros(len(share)), len(share)
    for row, shift in enumerate(range(-NEIGHBOURS, NEIGHBOURS + 1)):
        low, high = max(0, -shift), count - max(0, shift)
        if high > low:
            use = beats.members[row, low:high]
            total[low:high] += np.where(use, share[low + shift : high + shift], 0)
    return np.asarray(0.5 * share + 0.5 * total / np.maximum(beats.alike, 1))


def _curvature(cuts: Float, valid: Bool, scale_s: float) -> Float:
    return np.asarray(over_leads(smooth(cuts, scale_s, 2), valid) * np.float32(scale_s))


def _agreement(beats: Complexes) -> Float:
    """How far the beat and the others like it go together, -1 to 1, at each point; 0 when it has no others."""
    number = beats.alike.astype(np.float32)[:, np.newaxis, np.newaxis]
    others = (beats.mean * number - beats.own) / np.maximum(number - 1, 1)
    one, two = _band(beats.own), _band(np.asarray(others, np.float32))
    product, first, second = (np.zeros((one.shape[0], POINTS), np.float32) for _ in range(3))
    for lead in range(one.shape[1]):
        product += one[:, lead] * two[:, lead]
        first += one[:, lead] * one[:, lead]
        second += two[:, lead] * two[:, lead]
    window = 0.03
    both = np.maximum(smooth(first, window), 0) * np.maximum(smooth(second, window), 0)
    agree = smooth(product, window) / (np.sqrt(both) + np.float32(1e-9))
    agree[beats.alike < 2] = 0
    return np.asarray(agree)


def _band(cuts: Float) -> Float:
    return np.asarray(smooth(cuts, 0.012) - smooth(cuts, 0.08))


def _irregularity(beats: Complexes) -> Floats:
    """Middle distance of the intervals within CONTEXT_S from their median, a share of it; 0 with fewer than three."""
    count = len(beats.middle)
    intervals = np.full((count, 2 * NEIGHBOURS), np.nan)
    for column, shift in enumerate(range(-NEIGHBOURS + 1, NEIGHBOURS + 1)):
        low, high = max(0, -shift), count - max(0, shift)
        if high <= low:
            continue
        here, there = slice(low, high), slice(low + shift, high + shift)
        away = np.zeros(high - low)
        # Seconds to the beat that the interval ends with, by the intervals in between.
        for step in range(min(shift, 0) + 1, max(shift, 0) + 1):
            away += np.nan_to_num(beats.before_s[low + step : high + step], nan=2 * CONTEXT_S)
        intervals[here, column] = np.where(away <= CONTEXT_S, beats.before_s[there], np.nan)
    middle, size = _middle(intervals)
    spread, _ = _middle(np.abs(intervals - middle[:, np.newaxis]))
    return np.asarray(np.where(size >= 3, spread / np.maximum(middle, 1e-3), 0.0))


def _middle(values: Floats) -> tuple[Floats, NDArray[np.int64]]:
    ordered = np.sort(values, axis=1)
    size = np.count_nonzero(~np.isnan(values), axis=1)
    low = ordered[np.arange(len(values)), np.maximum(size - 1, 0) // 2]
    return np.where(size > 0, low, 0.0), size
