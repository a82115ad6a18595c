"""Recordings worked out in one pass without touching give what each gives alone."""

import numpy as np
import pytest

from vitalgate.signal.apart import Piece, find_beats_apart, quality_apart
from vitalgate.signal.beats import AFTER_S, BEFORE_S, BLOCK_S, find_beats
from vitalgate.signal.quality import signal_quality
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.signals import ecg

RATES = (125.0, 250.0, 1000 / 3, 360.0)
LENGTH_S = 190


def signals(fs: float) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    made = []
    for seed in range(4):
        signal = ecg(Person(seed + 1), ["II"], 1000.0 * seed, fs, 0, int(LENGTH_S * fs))[0].astype(np.float32)
        for _ in range(seed):
            at = int(rng.integers(0, len(signal)))
            signal[at : at + int(rng.integers(1, 4 * fs))] = np.nan
        if seed == 3:
            signal += rng.normal(0, 0.3, len(signal)).astype(np.float32)
        made.append(signal)
    return made


def pieces(fs: float) -> list[tuple[np.ndarray, Piece]]:
    """Blocks here and there, some at the beginning and some at the end of the signal."""
    found = []
    for place, signal in enumerate(signals(fs)):
        for block in (0, 1, 3 + place, 9, 18):
            start, stop = round(block * BLOCK_S * fs), round((block + 1) * BLOCK_S * fs)
            first = max(0, start - int(BEFORE_S * fs))
            end = stop + int(AFTER_S * fs)
            samples = np.full(end - first, np.nan, np.float32)
            there = signal[first:end]
            samples[: len(there)] = there
            found.append((signal, Piece(samples, first, start, stop)))
    return found


@pytest.mark.parametrize("fs", RATES)
def test_beats_of_stretches_apart_are_those_of_one_pass_over_each_signal(fs: float) -> None:
    given = pieces(fs)
    together = find_beats_apart([piece for _, piece in given], fs)
    assert sum(map(len, together)) > 150
    for (signal, piece), found in zip(given, together, strict=True):
        [whole] = find_beats(signal, fs)
        np.testing.assert_array_equal(found, whole[(whole >= piece.start) & (whole < piece.stop)])
        [alone] = find_beats(piece.samples, fs, piece.first, piece.start, piece.stop)
        np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("fs", RATES)
def test_grades_of_stretches_apart_are_those_of_one_pass_over_each_signal(fs: float) -> None:
    given = [(signal, piece) for signal, piece in pieces(fs) if piece.stop <= len(signal)]
    cut = [(piece.start, piece.samples[piece.start - piece.first : piece.stop - piece.first]) for _, piece in given]
    together = quality_apart(cut, fs)
    assert len({stretch.grade for stretch in together}) > 1
    for (signal, piece), found in zip(given, together, strict=True):
        [whole] = signal_quality(signal, fs)
        assert found == next(stretch for stretch in whole if stretch.onset == piece.start)


def test_nothing_is_nothing() -> None:
    assert find_beats_apart([], 250.0) == []
    assert quality_apart([], 250.0) == []
