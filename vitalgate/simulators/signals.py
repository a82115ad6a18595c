"""ECG, pleth and breathing belt of a person: the one heart and the one chest, seen by different sensors.

Sample n of a recording that starts at `start` is at start + n/fs, and depends on the person, the recording's start and
n only; so packets may be asked for in any order and any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vitalgate.simulators import templates
from vitalgate.simulators.heart import beats, breathing
from vitalgate.simulators.noise import Float, normal, smooth, stream, uniform
from vitalgate.simulators.physiology import Person

#: Amplitudes of P, Q, R, S, T in mV. The other limb leads follow from I and II (Einthoven, Goldberger).
_MEASURED = {
    "I": (0.09, -0.05, 0.90, -0.12, 0.25),
    "II": (0.14, -0.07, 1.25, -0.16, 0.36),
    "V1": (0.05, 0.0, 0.20, -0.90, -0.05),
    "V2": (0.06, 0.0, 0.40, -1.20, 0.30),
    "V3": (0.06, -0.02, 0.80, -0.80, 0.40),
    "V4": (0.07, -0.04, 1.40, -0.50, 0.40),
    "V5": (0.07, -0.06, 1.30, -0.25, 0.35),
    "V6": (0.07, -0.06, 1.00, -0.12, 0.28),
}
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
#: A ventricular beat: no P and Q, R and S twice as wide and higher, T against the QRS.
_VENTRICULAR = np.array([0.0, 0.0, 1.35, 1.2, -1.1])
_VENTRICULAR_WIDTH = 2.3
_MAINS_HZ = 50.0
_BEFORE_S, _AFTER_S = 0.4, 0.75
_LONGEST_S = 1.4
"""Beats further apart than this look alike; so what a sample depends on is bounded."""
ARRIVAL_S = 0.21
"""From the R peak to the foot of the pulse at the finger."""


def lead_amplitudes(person: Person, lead: str) -> Float:
    """P, Q, R, S, T of one lead of this person, mV. Raises KeyError for a lead that is none of the twelve."""
    if lead in ("III", "aVR", "aVL", "aVF"):
        first, second = lead_amplitudes(person, "I"), lead_amplitudes(person, "II")
        return {
            "III": second - first, "aVR": -(first + second) / 2, "aVL": first - second / 2, "aVF": second - first / 2,
        }[lead]  # fmt: skip
    # Hearts are large or small in all leads alike; no lead vanishes.
    size = 0.85 + 0.3 * uniform(stream(person.seed, "size"), np.zeros(1, np.int64))
    place = np.arange(5) + 8 * LEADS.index(lead)
    return np.array(_MEASURED[lead]) * size * (0.96 + 0.08 * uniform(stream(person.seed, "leads"), place))


@lru_cache(maxsize=16384)
def _shapes(seed_person: Person, lead: str) -> NDArray[np.float64]:
    """(3, RATE): a normal beat, one without P wave, a ventricular one; mV."""
    waves = templates.load().waves.astype(np.float64)
    size = lead_amplitudes(seed_person, lead)
    without = size.copy()
    without[0] = 0
    time = np.arange(templates.RATE, dtype=float)
    narrow = np.clip(templates.R_AT + (time - templates.R_AT) / _VENTRICULAR_WIDTH, 0, templates.RATE - 1)
    wide = np.stack([np.interp(narrow, time, wave) for wave in waves[:4]] + [waves[4]])
    return np.stack([size @ waves, without @ waves, (_VENTRICULAR * size) @ wide])


def ecg(person: Person, leads: Sequence[str], start: float, fs: float, first: int, count: int) -> Float:
    """ECG in mV, (leads, count), of samples first..first+count-1 of the recording that starts at `start`."""
    time = start + np.arange(first, first + count) / fs
    out = np.zeros((len(leads), count))
    shapes = np.stack([_shapes(person, lead) for lead in leads])
    around = beats(person, time[0] - _AFTER_S - 2.5, time[-1] + _BEFORE_S + 2.5)
    if len(around.time) > 1:
        gaps = np.diff(around.time)
        spacing = np.clip(np.append(gaps, _LONGEST_S), 0.33, _LONGEST_S)
        deep = 1 + 0.05 * np.sin(2 * np.pi * breathing(person, around.time))
        for at, gap, wide, flutter, height in zip(
            around.time, spacing, around.ventricular, around.fibrillating, deep, strict=True
        ):
            low = max(0, int(np.ceil((at - _BEFORE_S - time[0]) * fs)))
            high = min(count, int((at + _AFTER_S - time[0]) * fs) + 1)
            if low >= high:
                continue
            since = time[low:high] - at
            # PR and QT shorten as the heart speeds up.
            warped = np.where(
                since > 0.05, 0.05 + (since - 0.05) / np.sqrt(gap),
                np.where(since < -0.05, -0.05 + (since + 0.05) / gap**0.3, since),
            )  # fmt: skip
            place = warped * templates.RATE + templates.R_AT
            place = np.clip(place, 0, templates.RATE - 1.001)
            left = place.astype(np.int64)
            part = place - left
            shape = shapes[:, 2 if wide else 1 if flutter else 0]
            out[:, low:high] += height * (shape[:, left] * (1 - part) + shape[:, left + 1] * part)
    out += _disturbance(person, leads, time, first, count)
    return out


def _disturbance(person: Person, leads: Sequence[str], time: Float, first: int, count: int) -> Float:
    """Base line moving with the breath, muscle and mains noise, fibrillation waves while the atria fibrillate."""
    index = np.arange(first, first + count, dtype=np.int64)
    breath = 0.04 * np.sin(2 * np.pi * breathing(person, time)) + 0.025 * smooth(stream(person.seed, "base"), time, 2.5)
    mains = 0.004 * np.sin(2 * np.pi * _MAINS_HZ * (time - np.floor(time[0])))
    shared = breath + mains
    fibrillating = person.rhythm_at("af", time)
    if fibrillating.any():
        since = time - person.origin
        wander = 0.6 * smooth(stream(person.seed, "f-waves"), time, 1.5)
        shared = shared + np.where(fibrillating, 0.05 * np.sin(2 * np.pi * 6.1 * since + wander), 0.0)
    return np.stack([shared + 0.008 * normal(stream(person.seed, f"ecg.{lead}"), index) for lead in leads])


def pleth(person: Person, start: float, fs: float, first: int, count: int) -> Float:
    """Plethysmogram, (count,), 0 at the foot and about 1 at the peak of an ordinary pulse."""
    time = start + np.arange(first, first + count) / fs
    cycle = templates.load().pulse.astype(np.float64)
    around = beats(person, time[0] - ARRIVAL_S - 9.0, time[-1] + 2.5)
    feet = around.time + ARRIVAL_S
    if len(feet) < 2:
        return np.zeros(count)
    which = np.clip(np.searchsorted(feet, time, side="right") - 1, 0, len(feet) - 1)
    gaps = np.minimum(np.append(np.diff(feet), _LONGEST_S), _LONGEST_S)
    since = np.maximum(time - feet[which], 0) / np.minimum(gaps[which], 1.3)
    shape = np.interp(since * len(cycle), np.arange(len(cycle)), cycle, right=0.0)
    # A short filling time gives a small pulse.
    filling = np.clip(np.append(_LONGEST_S, gaps[:-1])[which] / 0.85, 0.35, 1.1)
    breath = 1 + 0.08 * np.sin(2 * np.pi * breathing(person, time))
    index = np.arange(first, first + count, dtype=np.int64)
    return np.asarray(shape * filling * breath + 0.004 * normal(stream(person.seed, "pleth"), index))


def breath(person: Person, start: float, fs: float, first: int, count: int) -> Float:
    """Stretch of a belt round the chest, (count,), 0 empty to 1 full."""
    time = start + np.arange(first, first + count) / fs
    cycle = templates.load().breath.astype(np.float64)
    phase = breathing(person, time) % 1.0
    shape = np.interp(phase * len(cycle), np.arange(len(cycle) + 1), np.append(cycle, cycle[0]))
    depth = 1 + 0.12 * smooth(stream(person.seed, "depth"), time, 9.0)
    index = np.arange(first, first + count, dtype=np.int64)
    return np.asarray(shape * depth + 0.006 * normal(stream(person.seed, "belt"), index))
