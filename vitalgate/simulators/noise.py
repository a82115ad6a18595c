"""Noise that is a pure function of (seed, place): any moment can be asked for first, and always answers the same."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Index = NDArray[np.int64]

_M1, _M2, _STEP = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB), 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def stream(seed: int, name: str) -> int:
    """A seed of its own for each named quantity of a patient."""
    return (seed * _STEP + zlib.crc32(name.encode())) & _MASK


def uniform(seed: int, index: Index) -> Float:
    """Independent values in [0, 1), one for each integer (SplitMix64 of seed and index)."""
    with np.errstate(over="ignore"):
        z = index.astype(np.uint64) * np.uint64(_STEP) + np.uint64((seed * 0xD1342543DE82EF95) & _MASK)
        z = (z ^ (z >> np.uint64(30))) * _M1
        z = (z ^ (z >> np.uint64(27))) * _M2
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * (1.0 / (1 << 53))


def normal(seed: int, index: Index) -> Float:
    """Independent standard normal values, one for each integer (Box and Muller)."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(seed, index)))
    return np.asarray(radius * np.cos(2 * np.pi * uniform(seed ^ 0x5DEECE66D, index)))


def smooth(seed: int, time_s: Float, period_s: float) -> Float:
    """A slow wandering value, about normal, that changes over `period_s` seconds; smooth in time."""
    place = np.asarray(time_s, float) / period_s
    low = np.floor(place)
    part = place - low
    weight = part * part * (3 - 2 * part)
    index = low.astype(np.int64)
    mixed = normal(seed, index) * (1 - weight) + normal(seed, index + 1) * weight
    return np.asarray(mixed / np.sqrt((1 - weight) ** 2 + weight**2))
