"""Each beat with what is round it, on a common grid: the P wave before it, the QRS complex, the T wave behind it.

Cut from means over bins of the absolute grid and put on RATE points a second by straight lines. A beat is also given
as the mean of the beats like it within CONTEXT_S, which quiets noise and leaves what comes with every beat.

What a beat's cut holds depends on samples from CONTEXT_S + REACH_S before it to as much after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from vitalgate.signal.grid import Bool, Float, Index, average, check_rate, fill

Floats = NDArray[np.float64]

LOWEST_RATE, HIGHEST_RATE = 100.0, 1000.0

#: Points a second of a cut, and its beginning and end relative to the middle of the QRS complex.
RATE = 250.0
FROM_S, TO_S = -0.64, 0.88
POINTS = round((TO_S - FROM_S) * RATE) + 1
TIMES_S = FROM_S + np.arange(POINTS) / RATE

#: Beats within so long are averaged, none further than NEIGHBOURS beats away, when their QRS correlates by ALIKE.
CONTEXT_S, NEIGHBOURS, ALIKE = 5.0, 8, 0.85
#: Samples this far from a beat are looked at: the cut, moved by the middle of the QRS, and the gap that is bridged.
REACH_S = 1.5
#: Longer intervals between beats say nothing of the rhythm.
LONGEST_RR_S = 4.0

#: What the trees are told where something is not known, such as the interval before the first beat: less than anything
#: that is.
UNKNOWN = -9.0

_BRIDGED_S = 0.1
_MIDDLE_S = 0.1
_LEAST_QRS_MV = 0.02
_PRESENT = 0.9


@dataclass(frozen=True, eq=False)
class Complexes:
    """Beats of some leads of one person.

    Attributes
    ----------
    middle
        (n_beats,) absolute sample, fractional: the middle of the QRS complex as all leads show it.
    own, mean
        (n_beats, n_leads, POINTS) float32, mV from the level before the QRS: the beat, and the mean of those like it.
    alike
        (n_beats,) how many beats the mean is of; (2 * NEIGHBOURS + 1, n_beats) which is ``members``.
    valid
        (n_beats, n_leads): the lead has signal there.
    before_s, after_s
        (n_beats,) interval to the beat before and the one after, s; NaN when there is none within LONGEST_RR_S.
    steepness
        (n_beats,) the steepest slope of the QRS, root mean square over the leads, mV/s.
    """

    middle: Floats
    own: Float
    mean: Float
    members: Bool
    alike: Floats
    valid: Bool
    before_s: Floats
    after_s: Floats
    steepness: Float

    def part(self, low: int, high: int) -> Complexes:
        """Beats low .. high - 1 (``members`` goes along, though it speaks of beats that may be left behind)."""
        cut = slice(low, high)
        return Complexes(
            self.middle[cut], self.own[cut], self.mean[cut], self.members[:, cut], self.alike[cut], self.valid[cut],
            self.before_s[cut], self.after_s[cut], self.steepness[cut],
        )  # fmt: skip


def point(seconds: float) -> int:
    """The point of a cut at so many seconds from the middle of the QRS."""
    return round((seconds - FROM_S) * RATE)


def span(from_s: float, to_s: float) -> slice:
    """Points of a cut from .. to, both ends included."""
    return slice(point(from_s), point(to_s) + 1)


def gaussian(width_s: float, order: int = 0) -> Floats:
    """Taps of a Gaussian of that standard deviation on the cut's grid, or of its first or second derivative."""
    width = width_s * RATE
    half = int(np.ceil(3.5 * width))
    t = np.arange(-half, half + 1)
    taps = np.exp(-t * t / (2 * width * width))
    taps /= taps.sum()
    if order == 1:
        taps = -t / (width * width) * taps * RATE
    elif order == 2:
        taps = (t * t / width**4 - 1 / width**2) * taps * RATE * RATE
        taps -= taps.mean()
    return np.asarray(taps, np.float64)


def smooth(cuts: Float, width_s: float, order: int = 0) -> Float:
    """Convolve along the last axis; the ends are held."""
    return np.asarray(convolve1d(cuts, gaussian(width_s, order), axis=-1, mode="nearest"))


def known(table: NDArray[Any]) -> NDArray[Any]:
    """The table, in place, with UNKNOWN for NaN."""
    table[np.isnan(table)] = UNKNOWN
    return table


def over_leads(cuts: Float, valid: Bool) -> Float:
    """Root mean square over the leads that are valid: (n_beats, POINTS).

    Lead by lead: ``sum`` would choose an order by the shape of the array.
    """
    total = np.zeros((cuts.shape[0], cuts.shape[2]), np.float32)
    for lead in range(cuts.shape[1]):
        total += np.where(valid[:, lead, np.newaxis], cuts[:, lead] * cuts[:, lead], np.float32(0))
    count = np.maximum(valid.sum(axis=1), 1).astype(np.float32)
    return np.asarray(np.sqrt(total / count[:, np.newaxis]))


def cut_complexes(signals: NDArray[Any], fs: float, beats: Index, first: int) -> Complexes:
    """Cut every beat out of the leads of one person.

    Parameters
    ----------
    signals
        (n_leads, n_samples), mV; NaN where missing.
    fs
        Sampling rate, 100 to 1000 Hz.
    beats
        Absolute samples, increasing.
    first
        Absolute index of the first column.

    Raises
    ------
    ValueError
        If the rate is outside 100..1000 Hz.
    """
    check_rate(fs, LOWEST_RATE, HIGHEST_RATE)
    middle = _middles(signals, fs, beats.astype(np.float64), first)
    cuts, present = _cut(signals, fs, middle, first)
    level = np.sort(cuts[:, :, span(-0.09, -0.04)], axis=2)
    cuts -= level[:, :, level.shape[2] // 2, np.newaxis]
    tall = np.ptp(cuts[:, :, span(-0.08, 0.08)], axis=2)
    valid = np.asarray((present >= _PRESENT) & (tall >= _LEAST_QRS_MV))
    cuts[~valid] = 0
    members, mean = _average(cuts, middle, valid, fs)
    before = np.full(len(middle), np.nan)
    before[1:] = np.diff(middle) / fs
    before[before > LONGEST_RR_S] = np.nan
    after = np.concatenate([before[1:], [np.nan]])[: len(middle)]
    steep = over_leads(smooth(cuts, 0.008, 1), valid)[:, span(-0.06, 0.06)].max(axis=1)
    return Complexes(
        middle, cuts, mean, members, members.sum(axis=0).astype(np.float64), valid, before, after,
        np.maximum(steep, np.float32(0.01)),
    )  # fmt: skip


def _cut(signals: NDArray[Any], fs: float, at: Floats, first: int) -> tuple[Float, Floats]:
    """Cuts (n_beats, n_leads, POINTS), 0 where nothing is; and the share of each that is there between P and T."""
    leads = signals.shape[0]
    cuts = np.zeros((len(at), leads, POINTS), np.float32)
    present = np.zeros((len(at), leads))
    if not len(at):
        return cuts, present
    factor = max(1, int(fs // RATE))
    reach = int(np.ceil(REACH_S * fs))
    low, high = int(at.min()) - 2 * reach, int(at.max()) + 2 * reach
    low, high = max(low, first - reach), min(high, first + signals.shape[1] + reach)
    if high - low < 2 * factor:
        return cuts, present
    bins, origin = average(signals, first, low, high, factor)
    there = fill(bins, max(1, round(_BRIDGED_S * fs / factor)))
    # Position in bins: the middle of bin k is sample k*factor + (factor-1)/2.
    place = (at[:, np.newaxis] + TIMES_S * fs - (factor - 1) / 2) / factor
    whole = np.floor(place)
    share = (place - whole).astype(np.float32)
    left = whole.astype(np.int64) - origin
    inside = (left >= 0) & (left + 1 < bins.shape[1])
    left = np.clip(left, 0, bins.shape[1] - 2)
    needed = span(-0.3, 0.4)
    for lead in range(leads):
        row = bins[lead]
        values = row[left] + (row[left + 1] - row[left]) * share
        values[~inside] = np.nan
        seen = there[lead][left] & inside
        present[:, lead] = seen[:, needed].mean(axis=1)
        cuts[:, lead] = _held(values)
    return cuts, present


def _held(values: Float) -> Float:
    """What is missing takes the value of the nearest point of the cut that is not; 0 when nothing is there."""
    known = np.isfinite(values)
    if known.all():
        return values
    at = np.arange(values.shape[1])
    before = np.maximum.accumulate(np.where(known, at, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, at, 2 * len(at))[:, ::-1], axis=1)[:, ::-1]
    use = np.where((before < 0) | (after - at < at - before), after, before)
    held = np.take_along_axis(values, np.clip(use, 0, len(at) - 1), axis=1)
    held[~known.any(axis=1)] = 0
    return np.asarray(held)


def _middles(signals: NDArray[Any], fs: float, beats: Floats, first: int) -> Floats:
    """The centre of the QRS's slopes, over all leads: a place that does not jump between leads and peaks."""
    cuts, present = _cut(signals, fs, beats, first)
    slopes = over_leads(smooth(cuts, 0.008, 1), np.asarray(present > 0))[:, span(-_MIDDLE_S, _MIDDLE_S)]
    energy = (slopes * slopes).astype(np.float64)
    ordered = np.sort(energy, axis=1)
    energy = np.maximum(energy - ordered[:, ordered.shape[1] // 4, np.newaxis], 0)
    total = weighted = np.zeros(len(beats))
    for column, seconds in zip(energy.T, TIMES_S[span(-_MIDDLE_S, _MIDDLE_S)], strict=True):
        total, weighted = total + column, weighted + seconds * column
    return np.asarray(beats + fs * weighted / (total + 1e-12))


def _average(cuts: Float, middle: Floats, valid: Bool, fs: float) -> tuple[Bool, Float]:
    """Which neighbours (rows: -NEIGHBOURS .. NEIGHBOURS) are like each beat, and the mean of it and them, lead by lead.

    Added neighbour by neighbour, so that the sum does not depend on how many beats there are.
    """
    count = len(middle)
    body = cuts[:, :, span(-0.08, 0.1)]
    body = body - body.mean(axis=2, keepdims=True)
    flat = np.ascontiguousarray(body.reshape(count, -1))
    size = np.sqrt((flat * flat).sum(axis=1)) + np.float32(1e-6)
    members = np.zeros((2 * NEIGHBOURS + 1, count), np.bool_)
    total = np.zeros(cuts.shape, np.float32)
    number = np.zeros(valid.shape, np.float32)
    for row, shift in enumerate(range(-NEIGHBOURS, NEIGHBOURS + 1)):
        low, high = max(0, -shift), count - max(0, shift)
        if high <= low:
            continue
        here, there = slice(low, high), slice(low + shift, high + shift)
        like = (flat[here] * flat[there]).sum(axis=1) > ALIKE * size[here] * size[there]
        near = np.abs(middle[there] - middle[here]) <= CONTEXT_S * fs
        members[row, here] = (like & near) | (shift == 0)
        use = members[row, here, np.newaxis] & valid[there]
        total[here] += np.where(use[:, :, np.newaxis], cuts[there], np.float32(0))
        number[here] += use
    mean = total / np.maximum(number, 1)[:, :, np.newaxis]
    mean[~valid] = 0
    return members, np.asarray(mean, np.float32)
