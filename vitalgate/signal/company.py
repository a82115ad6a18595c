"""What each beat is like beside the beats round it: the company it keeps.

Beats are judged by blocks of BLOCK_S seconds on the absolute grid. The *company* of a block is its own beats and those
up to CONTEXT_S before it and AHEAD_S after it. In it alike beats are counted (correlation of the QRS complex), and two
templates are made: the *common* one, of the beats that have most like them, and the *norm*, of the narrowest among
those that have many, so that a run of ventricular beats does not become the norm.

Every sum over the company is of whole numbers in single precision below 2^24, exact in any order. So what is said of a
beat depends on its block's company alone, bit for bit, and the products can be left to BLAS.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.signal.forms import (
    EARLY,
    P_WAVE,
    QRS,
    SHAPE,
    SHIFT_S,
    T_WAVE,
    WHOLE,
    Floats,
    Forms,
    alike,
    measure,
    outline,
)
from vitalgate.signal.grid import Bool, Float, Index

BLOCK_S, CONTEXT_S, AHEAD_S = 10.0, 120.0, 5.0
#: What is said of the beats of a block depends on beats (and their forms) within these of the block.
BEFORE_S, AFTER_S = CONTEXT_S + 6.0, AHEAD_S
#: Of more beats than these in one company the oldest are left out, so that sums stay exact: 220 a minute.
MOST = 500

RHYTHM = (
    "rr", "next", "before", "after_next", "rr_over_next", "rr_over_before", "sum", "spread", "step", "rr_of_last_four",
    "rr_norm", "next_norm", "rank",
)  # fmt: skip
#: Relative to the norm of the company, but the last row: those are of the beat by itself.
FORM = (
    "like", "like_whole", "like_t", "like_p", "like_early", "size", "area", "slope", "wide", "broad", "steep",
    "duration", "length", "height", "depth", "t_size", "t_mean", "p", "p_less",
    "like_common", "size_common", "length_common", "like_last", "like_next",
    "share", "share_very", "share_of_most",
    "group_length", "group_rr", "group_next", "group_like", "group_wide", "group_size", "group_p",
    "own_wide", "own_length", "own_duration", "t_over_qrs", "t_against", "sharpness", "skew", "noise",
)  # fmt: skip
NAMES = RHYTHM + FORM

#: Length of a QRS complex in ``unit``.
UNIT = 1024.0
_ALIKE, _VERY_ALIKE = 0.9, 0.96
#: The norm is made of beats with at least so many alike (of all; of the largest group's), at most so much longer than
#: the shortest of such.
_MANY, _MANY_OF_MOST, _NARROW, _COMMON = 0.12, 0.25, 1.15, 0.7
#: Blocks worked on at once, so that they stay in the processor's cache.
_BLOCKS = 8
#: So many blocks apart nobody is in another's company.
_APART_BLOCKS = 20
_LONGEST_RR_S = 6.0
_BACK, _ON, _BACK_S = 16, 4, 24.0


def describe(
    forms: Forms, beats: ArrayLike, fs: float, block_s: float = BLOCK_S, wanted: slice | Index | None = None
) -> Floats:
    """What each beat is like beside its company.

    Parameters
    ----------
    forms
        (n, POINTS), of ``cut_forms``.
    beats
        The same beats, absolute samples, increasing.
    fs
        Sampling rate, Hz.
    block_s
        Length of a block: that of a whole strip makes one company of it.
    wanted
        Which beats are wanted, increasing; the others are company. By default all.

    Several people can be described at once when their beats are put one after the other, moved by whole blocks, and
    more than CONTEXT_S and a block apart.

    Returns
    -------
    (n_wanted, len(NAMES)), NaN where a neighbour is missing.
    """
    at = np.asarray(beats, np.int64).ravel()
    rows = np.arange(len(at)) if wanted is None else np.arange(len(at))[wanted]
    if not len(rows):
        return np.empty((0, len(NAMES)))
    shapes = np.asarray(forms)[:, :SHAPE].astype(np.float32)
    rr = _intervals(at, np.asarray(forms)[:, SHAPE].astype(np.int64), fs)
    step = round(block_s * fs)
    block = at[rows] // step
    firsts = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]]))
    bounds = np.append(firsts, len(rows))
    start = block[firsts] * step
    high = np.searchsorted(at, start + step + round(AHEAD_S * fs))
    low = np.maximum(np.searchsorted(at, start - round(CONTEXT_S * fs)), high - MOST)
    of = np.repeat(np.arange(len(firsts)), np.diff(bounds))
    company = _Company(rr, shapes, low, high)
    parts = []
    for begin in range(0, len(firsts), _BLOCKS):
        end = min(begin + _BLOCKS, len(firsts))
        part = slice(int(bounds[begin]), int(bounds[end]))
        parts.append(company.blocks(begin, end, rows[part], of[part]))
    norm, common, norm_rr = (np.concatenate([part[k] for part in parts]) for k in range(3))
    groups = np.concatenate([part[3] for part in parts])
    own = measure(shapes[rows])
    of_norm, of_common = ({name: values[of] for name, values in measure(each).items()} for each in (norm, common))
    following = np.where(rows + 1 < high[of], np.append(rr, np.nan)[rows + 1], np.nan)
    size = np.maximum(of_norm["size"], 1)
    length, wide = np.maximum(of_norm["length"], 1e-4), np.maximum(of_norm["wide"], 1e-4)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = [
            *_rhythm(at, fs, rr, following, rows), rr[rows] / norm_rr[of], following / norm_rr[of], groups[:, 0],
            *_beside(shapes[rows], own, norm[of], of_norm), *_beside_common(shapes[rows], own, common[of], of_common),
            *_adjacent(shapes, rr, rows, high[of]), *groups[:, 1:4].T,
            groups[:, 4] / length, groups[:, 5], groups[:, 6], groups[:, 7], groups[:, 8] / wide, groups[:, 9] / size,
            (groups[:, 10] - of_norm["p_height"]) / size, *_alone(own),
        ]  # fmt: skip
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def put_apart(lines: Sequence[Index], fs: float) -> Index:
    """Beats of several people one after the other, moved by whole blocks, and too far apart to see one another.

    Parameters
    ----------
    lines
        Absolute samples of each person's beats, increasing; may be empty.
    fs
        Sampling rate, Hz.
    """
    step, moved, at = round(BLOCK_S * fs), 0, []
    for beats in lines:
        if len(beats):
            at.append(beats + (moved - int(beats[0]) // step) * step)
            moved = int(at[-1][-1]) // step + _APART_BLOCKS
    return np.concatenate(at) if at else np.empty(0, np.int64)


def unit(body: Float) -> Float:
    """QRS complexes (columns QRS of forms) of length UNIT, in whole numbers."""
    body = body - body.mean(axis=1, keepdims=True)
    return np.asarray(np.round(body * (np.float32(UNIT) / (np.sqrt((body * body).sum(axis=1, keepdims=True)) + 1))))


class _Company:
    """The blocks' companies: beats ``low`` up to ``high`` of each."""

    def __init__(self, rr: Floats, shapes: Float, low: Index, high: Index) -> None:
        self.rr, self.shapes, self.low, self.high = rr, shapes, low, high
        self.unit = unit(shapes[:, QRS])
        length, others = outline(shapes)
        self.pair = np.column_stack([np.ones(len(shapes), np.float32), _whole(length, 1e5, 0.2)])
        self.others = np.stack(
            [_whole(*each) for each in zip(others, (1e4, 1.0, 1.0), (1.0, 2e4, 5e3), strict=True)], 1
        )

    def blocks(self, begin: int, end: int, rows: Index, of: Index) -> tuple[Float, Float, Floats, Floats]:
        """Templates and typical interval of the blocks ``begin`` to ``end``, and what groups their beats are in.

        Returns
        -------
        norm, common (n_blocks, SHAPE); norm interval (n_blocks,); (n_rows, 11): rank of the interval, share, very,
        of most, and the group's mean length, interval, next, likeness, width, size, P wave.
        """
        low, high = self.low[begin:end], self.high[begin:end]
        sizes = high - low
        index = low[:, np.newaxis] + np.arange(int(sizes.max()))
        there = index < high[:, np.newaxis]
        index = np.minimum(index, len(self.rr) - 1)
        bounds = np.searchsorted(of, np.arange(begin, end + 1))
        own = [rows[i:j] for i, j in itertools.pairwise(bounds)]
        # Two sums in one product: how many are alike, and their lengths.
        sums = np.zeros((*index.shape, 2), np.float32)
        mine: list[Float] = []
        very = []
        for k, alike_to, like, mates in self._alike(low, high, own):
            sums[k, : sizes[k]] = alike_to @ self.pair[low[k] : high[k]]
            mine.append(mates)
            very.append(np.count_nonzero(like > np.float32(_VERY_ALIKE * UNIT**2), axis=1))
        count = sums[:, :, 0]
        total = sizes[:, np.newaxis]
        share = count / total
        most = share.max(axis=1, keepdims=True)
        length = sums[:, :, 1] / (np.maximum(count, 1) * 1e5)
        many = there & ((share >= np.maximum(_MANY, _MANY_OF_MOST * most)) | (share >= most))
        narrowest = np.where(many, length, np.inf).min(axis=1, keepdims=True)
        norm = many & (length <= _NARROW * narrowest)
        template = self._mean(norm, low, high)
        common = self._mean(there & (share >= _COMMON * most), low, high)
        rr = self.rr[index]
        norm_rr = middle(np.where(norm, rr, np.nan))
        near = np.zeros(index.shape, np.float32)
        for k, complex_ in enumerate(unit(template[:, QRS])):
            near[k, : sizes[k]] = self.unit[low[k] : high[k]] @ complex_
        near /= np.float32(UNIT**2)
        with np.errstate(invalid="ignore", divide="ignore"):
            early = rr / norm_rr[:, np.newaxis]
        following = np.full_like(early, np.nan)
        following[:, :-1] = early[:, 1:]
        following[:, :-1][~there[:, 1:]] = np.nan
        known = [_whole(early, 1e3, 4.0), _whole(following, 1e3, 4.0), _whole(near, 1e4, 1.0)]
        values = np.concatenate([np.stack(known, axis=2), self.others[index]], axis=2)
        # From here for the blocks' own beats only.
        b = of - begin
        c = rows - low[b]
        means = np.concatenate([mates @ values[k, : sizes[k]] for k, mates in enumerate(mine)])
        mates = np.maximum(np.concatenate([mates.sum(axis=1) for mates in mine]), 1)
        means = means / mates[:, np.newaxis] / np.array([1e3, 1e3, 1e4, 1e4, 1.0, 1.0], np.float32)
        normal = np.where(norm, rr, np.nan)[b]
        known_rr = np.count_nonzero(~np.isnan(normal), axis=1)
        rank = np.count_nonzero(normal < self.rr[rows, np.newaxis], axis=1) / np.maximum(known_rr, 1)
        part = share[b, c]
        groups = np.column_stack(
            [rank, part, np.concatenate(very) / total[b, 0], part / np.maximum(most[b, 0], 1e-6), length[b, c], means]
        )
        return template, common, norm_rr, groups

    def _alike(self, low: Index, high: Index, own: list[Index]) -> Iterator[tuple[int, Float, Float, Float]]:
        """Of each company who is alike, and of its block's own beats how much so: (n, n), (n_own, n), (n_own, n).

        Companies of neighbouring blocks have most beats in common, and these are compared once.
        """
        first = 0
        while first < len(low):
            last = first
            while last + 1 < len(low) and low[last + 1] < high[last]:
                last += 1
            origin = int(low[first])
            unit = self.unit[origin : int(high[last])]
            like = unit @ unit.T
            alike_to = (like > np.float32(_ALIKE * UNIT**2)).astype(np.float32)
            for k in range(first, last + 1):
                inside = slice(int(low[k]) - origin, int(high[k]) - origin)
                mine = own[k] - origin
                yield k, alike_to[inside, inside], like[mine, inside], alike_to[mine, inside]
            first = last + 1

    def _mean(self, chosen: Bool, low: Index, high: Index) -> Float:
        """Mean form of the chosen beats of each block, (n_blocks, SHAPE)."""
        weights = chosen.astype(np.float32)
        sums = [row[: end - begin] @ self.shapes[begin:end] for row, begin, end in zip(weights, low, high, strict=True)]
        return np.asarray(np.stack(sums) / np.maximum(weights.sum(axis=1), 1)[:, np.newaxis])


def _whole(values: NDArray[Any], scale: float, limit: float) -> Float:
    """Whole numbers, so that sums of MOST of them are exact."""
    return np.asarray(np.round(np.clip(np.where(np.isnan(values), 0, values), -limit, limit) * scale), np.float32)


def _intervals(at: Index, delay: Index, fs: float) -> Floats:
    """The interval that ends at each beat, centre to centre; NaN for the first, and where it is too long to be one.

    Of differences of whole numbers: the same wherever the beats are put.
    """
    rr = np.concatenate([[np.nan], np.diff(at) / fs + np.diff(delay) * SHIFT_S])
    rr[rr > _LONGEST_RR_S] = np.nan
    return rr


def _rhythm(at: Index, fs: float, rr: Floats, following: Floats, rows: Index) -> list[Floats]:
    near = _neighbours(rr, _BACK, _ON)[rows].copy()
    away = (_neighbours(at, _BACK, _ON)[rows] - at[rows, np.newaxis]) / fs
    near[~((away >= -_BACK_S) & (away <= AHEAD_S))] = np.nan
    here = rr[rows]
    near[:, _BACK] = np.nan
    ordered = np.sort(near, axis=1)
    last = np.maximum(np.count_nonzero(~np.isnan(ordered), axis=1) - 1, 0)
    row = np.arange(len(rows))
    typical = ordered[row, last // 2]
    typical = np.where(np.isnan(typical), here, typical)
    spread = ordered[row, 3 * last // 4] - ordered[row, last // 4]
    step = middle(np.abs(np.diff(near, axis=1)))
    # A beat before counts only if no interval since is too long to be one: what was before a gap says nothing.
    broken = np.cumsum(np.isnan(rr)).astype(np.float64)
    unbroken = (_neighbours(broken, 4, 0) == broken[:, np.newaxis])[rows, :4]
    four = middle(np.where(unbroken, _neighbours(rr, 4, 0)[rows, :4], np.nan))
    before = np.where(np.isnan(here), np.nan, np.concatenate([[np.nan], rr[:-1]])[rows])
    after = near[:, _BACK + 2]
    return [
        here / typical, following / typical, before / typical, after / typical, here / following, here / before,
        (here + following) / typical, spread / typical, step / typical, here / four,
    ]  # fmt: skip


def _beside(shapes: Float, own: dict[str, Float], norm: Float, of_norm: dict[str, Float]) -> list[NDArray[Any]]:
    """Each beat beside the norm."""
    size = np.maximum(of_norm["size"], 1)
    compared = ("size", "area", "slope", "wide", "broad", "steep", "duration", "length")
    return [
        alike(shapes, norm, QRS), alike(shapes, norm, WHOLE), alike(shapes, norm, T_WAVE), alike(shapes, norm, P_WAVE),
        alike(shapes, norm, EARLY), *(own[name] / np.maximum(of_norm[name], 1e-4) for name in compared),
        own["height"] / size, own["depth"] / size, own["t_size"] / np.maximum(of_norm["t_size"], 1e-4),
        (own["t_mean"] - of_norm["t_mean"]) / size, own["p_height"] / size,
        (own["p_height"] - of_norm["p_height"]) / size,
    ]  # fmt: skip


def _beside_common(
    shapes: Float, own: dict[str, Float], common: Float, of_common: dict[str, Float]
) -> list[NDArray[Any]]:
    return [
        alike(shapes, common, QRS), own["size"] / np.maximum(of_common["size"], 1),
        own["length"] / np.maximum(of_common["length"], 1e-4),
    ]  # fmt: skip


def _adjacent(shapes: Float, rr: Floats, rows: Index, high: Index) -> list[NDArray[Any]]:
    """Likeness to the beat before, if an interval joins them, and to the one after."""
    before, after = np.maximum(rows - 1, 0), np.minimum(rows + 1, len(shapes) - 1)
    here = shapes[rows]
    return [
        np.where(~np.isnan(rr[rows]), alike(here, shapes[before], QRS), np.nan),
        np.where(rows + 1 < high, alike(here, shapes[after], QRS), np.nan),
    ]


def _alone(own: dict[str, Float]) -> list[NDArray[Any]]:
    size, t_size = np.maximum(own["size"], 1), np.maximum(own["t_size"], 1)
    both = own["height"] + own["depth"]
    return [
        own["wide"], own["length"], own["duration"], own["t_size"] / size, -own["t_mean"] / t_size * np.sign(both),
        own["slope"] / size, both / size, own["noise"],
    ]  # fmt: skip


def _neighbours(values: Floats | Index, before: int, after: int) -> Floats:
    """(n, before + 1 + after): each value's neighbours, NaN beyond the ends."""
    padded = np.full(len(values) + before + after, np.nan)
    padded[before : before + len(values)] = values
    return np.lib.stride_tricks.sliding_window_view(padded, before + after + 1)


def middle(values: NDArray[Any]) -> Floats:
    """The lower median of each row, NaN left out."""
    ordered = np.sort(values, axis=1)
    size = np.count_nonzero(~np.isnan(ordered), axis=1)
    return np.asarray(ordered[np.arange(len(values)), np.maximum(size - 1, 0) // 2])
