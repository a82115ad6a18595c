"""The beats and breaths of a person: one series that every signal is drawn from.

Time is cut into minutes. Within each, the rate at that time (with breathing and slow waves in it) is integrated and
scaled so that a whole number of beats fits; so beats follow from the minute alone, whatever was asked before, and
minutes join without a seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vitalgate.simulators.noise import Float, Index, normal, smooth, stream, uniform
from vitalgate.simulators.physiology import Person

MINUTE = 60
REFRACTORY_S = 0.4
"""After an escape beat no other comes for so long."""
_GRID = 240
"""Points in a minute at which rates are taken."""


@dataclass(frozen=True)
class Beats:
    """Beats in order of time."""

    time: Float
    """R peaks, seconds since 1970 UTC."""
    ventricular: NDArray[np.bool_]
    """Early beats from the ventricle: wide, no P wave."""
    fibrillating: NDArray[np.bool_]
    """Conducted from fibrillating atria: no P wave."""

    def between(self, start: float, stop: float) -> Beats:
        """Those in [start, stop)."""
        low, high = np.searchsorted(self.time, (start, stop))
        return Beats(self.time[low:high], self.ventricular[low:high], self.fibrillating[low:high])


def _phase(rate_per_min: Float) -> Float:
    """Phase at the grid points of a minute, 0 at its start and a whole number at its end."""
    steps = (rate_per_min[1:] + rate_per_min[:-1]) / 2 / 60 * (MINUTE / _GRID)
    phase = np.concatenate(([0.0], np.cumsum(steps)))
    return np.asarray(phase * max(1, round(phase[-1])) / phase[-1])


@lru_cache(maxsize=4096)
def breath_phase(person: Person, minute: int) -> Float:
    """Phase of breathing over a minute at its grid points; a breath is one."""
    time = minute * MINUTE + np.linspace(0, MINUTE, _GRID + 1)
    return _phase(person.vital("respiration_rate", time))


def breathing(person: Person, time: Float) -> Float:
    """Phase of breathing at any times: the fraction is where in the breath, 0 empty and about 0.5 full."""
    minutes = np.floor(time / MINUTE).astype(np.int64)
    phase = np.empty(len(time))
    for minute in np.unique(minutes):
        here = minutes == minute
        place = (time[here] - minute * MINUTE) * (_GRID / MINUTE)
        phase[here] = np.interp(place, np.arange(_GRID + 1), breath_phase(person, int(minute)))
    return phase


@lru_cache(maxsize=4096)
def _undisturbed(person: Person, minute: int) -> Beats:
    """The beats of one minute since 1970, were there no pauses."""
    start = float(minute * MINUTE)
    time = start + np.linspace(0, MINUTE, _GRID + 1)
    rate = person.vital("heart_rate", time)
    fibrillating = person.rhythm_at("af", time)
    # Breathing in speeds the heart up, the more the younger and the calmer; slow waves of a tenth of a hertz beside it.
    depth = 0.045 * np.clip((110 - person.body.age) / 50, 0.3, 1.2) * np.clip((110 - rate) / 40, 0, 1)
    swing = depth * np.sin(2 * np.pi * breath_phase(person, minute))
    swing += 0.025 * smooth(stream(person.seed, "mayer"), time, 5.0)
    phase = _phase(rate * (1 + np.where(fibrillating, 0.0, swing)))
    number = np.arange(round(phase[-1]))
    shift, ventricular = _irregular(person, minute, np.interp(number, phase, time))
    at = np.interp(number + shift, phase, time)
    conducted = person.rhythm_at("af", at)
    return Beats(at, ventricular & ~conducted, conducted)


@lru_cache(maxsize=4096)
def minute_of_beats(person: Person, minute: int) -> Beats:
    """The beats of one minute since 1970.

    A pause begins with the last beat before its time and ends, its seconds later, with an escape beat; so the interval
    between the two is what the scenario asked for.
    """
    found = _undisturbed(person, minute)
    for rhythm in person.rhythms:
        if rhythm.kind != "pause":
            continue
        begin = person.origin + rhythm.start
        home = int(np.floor(begin / MINUTE))
        if not home - 1 <= minute <= home + 1 + int(rhythm.seconds / MINUTE):
            continue
        before = _joined([_undisturbed(person, home - 1), _undisturbed(person, home)]).time
        last = float(before[np.searchsorted(before, begin, side="right") - 1])
        escape = last + rhythm.seconds
        keep = (found.time <= last) | (found.time >= escape + REFRACTORY_S)
        found = Beats(found.time[keep], found.ventricular[keep], found.fibrillating[keep])
        if minute * MINUTE <= escape < (minute + 1) * MINUTE:
            at = int(np.searchsorted(found.time, escape))
            found = Beats(
                np.insert(found.time, at, escape), np.insert(found.ventricular, at, False),
                np.insert(found.fibrillating, at, False),
            )  # fmt: skip
    return found


def _joined(parts: list[Beats]) -> Beats:
    return Beats(
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.ventricular for part in parts]),
        np.concatenate([part.fibrillating for part in parts]),
    )


def _irregular(person: Person, minute: int, time: Float) -> tuple[Float, NDArray[np.bool_]]:
    """By how much of a beat each comes early or late, and which are ventricular. The first of a minute never moves."""
    index: Index = minute * 1024 + np.arange(len(time), dtype=np.int64)
    af = person.rhythm_at("af", time)
    shift = np.where(af, np.clip(0.17 * normal(stream(person.seed, "af"), index), -0.36, 0.36), 0.0)
    early = np.zeros(len(time), np.bool_)
    draw = uniform(stream(person.seed, "ectopy"), index)
    for rhythm in person.rhythms:
        if rhythm.kind == "ectopy":
            begin = person.origin + rhythm.start
            early |= (time >= begin) & (time < begin + rhythm.seconds) & (draw < rhythm.share)
    early[1:] &= ~early[:-1]
    early &= ~af
    if len(time):
        shift[0] = 0.0
        early[0] = False
    return np.where(early, -0.35, shift), early


def beats(person: Person, start: float, stop: float) -> Beats:
    """All beats in [start, stop), seconds since 1970 UTC."""
    first, last = int(np.floor(start / MINUTE)), int(np.floor(np.nextafter(stop, -np.inf) / MINUTE))
    whole = _joined([minute_of_beats(person, minute) for minute in range(first, max(first, last) + 1)])
    return whole.between(start, stop)


def pulse_rate(person: Person, time_s: float, over_s: float = 8.0) -> float:
    """Beats a minute as a device shows it: from the beats of the last `over_s` seconds; NaN when there are too few."""
    recent = beats(person, time_s - over_s, time_s).time
    if len(recent) < 2:
        return float("nan")
    return float(60 * (len(recent) - 1) / (recent[-1] - recent[0]))
