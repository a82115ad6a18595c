"""What the signal tests share: made-up signals, and the reference recordings where there are any."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float32]
Make = Callable[..., tuple[Array, NDArray[np.int64]]]
Recording = tuple[Array, float, NDArray[np.int64], list[tuple[int, int]]]

BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")


def _make_ecg(
    seconds: float, fs: float, rate: float = 70, seed: int = 0, noise: float = 0.02
) -> tuple[Array, NDArray[np.int64]]:
    """P, QRS and T as Gaussian bumps on wandering baseline with white noise: (signal in mV, R positions)."""
    rng = np.random.default_rng(seed)
    n = round(seconds * fs)
    t = np.arange(n) / fs
    x = 0.2 * np.sin(2 * np.pi * 0.25 * t) + noise * rng.standard_normal(n)
    beats, at = [], 0.5
    while at < seconds - 0.5:
        for delay, height, width in (
            (-0.16, 0.12, 0.02),
            (-0.03, -0.1, 0.008),
            (0, 1.1, 0.011),
            (0.03, -0.25, 0.01),
            (0.26, 0.3, 0.05),
        ):
            low, high = max(0, int((at + delay - 6 * width) * fs)), int((at + delay + 6 * width) * fs) + 2
            x[low:high] += height * np.exp(-0.5 * ((t[low:high] - at - delay) / width) ** 2)
        beats.append(round(at * fs))
        at += 60 / rate * (1 + 0.05 * rng.standard_normal())
    return x.astype(np.float32), np.array(beats, np.int64)


def _make_ppg(seconds: float, fs: float, rate: float = 70, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    """A systolic and a dicrotic bump a beat on a wandering baseline: (signal, peak positions)."""
    rng = np.random.default_rng(seed)
    n = round(seconds * fs)
    t = np.arange(n) / fs
    x = 0.3 * np.sin(2 * np.pi * 0.2 * t) + 0.005 * rng.standard_normal(n)
    beats, at = [], 0.5
    while at < seconds - 0.8:
        for delay, height, width in ((0, 1.0, 0.09), (0.32, 0.35, 0.09)):
            x += height * np.exp(-0.5 * ((t - at - delay) / width) ** 2)
        beats.append(round(at * fs))
        at += 60 / rate * (1 + 0.03 * rng.standard_normal())
    return x.astype(np.float32), np.array(beats, np.int64)


@pytest.fixture(scope="session")
def make_ecg() -> Make:
    """Makes an ECG: (seconds, fs, rate per minute, seed, noise in mV) -> (signal in mV, R positions)."""
    return _make_ecg


@pytest.fixture(scope="session")
def make_ppg() -> Make:
    """Makes a PPG: (seconds, fs, rate per minute, seed) -> (signal, peak positions)."""
    return _make_ppg


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of reference recordings (mitdb, nstdb, ...)."""
    given = os.environ.get("VITALGATE_ECG_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "data"
    if not (folder / "mitdb").is_dir():
        pytest.skip(f"no reference recordings: {folder} has no mitdb (set VITALGATE_ECG_DATA)")
    return folder


@pytest.fixture(scope="session")
def recording(data: Path) -> Callable[[str], Recording]:
    """Reads lead 0 of a record such as ``mitdb/101``: (mV, fs, reference beats, flutter segments)."""
    wfdb = pytest.importorskip("wfdb", reason="wfdb reads the reference recordings")

    @cache
    def read(name: str) -> Recording:
        record, notes = wfdb.rdrecord(str(data / name), channels=[0]), wfdb.rdann(str(data / name), "atr")
        beats = [at for at, symbol in zip(notes.sample, notes.symbol, strict=True) if symbol in BEAT_SYMBOLS]
        flutter, begin = [], None
        for at, symbol in zip(notes.sample, notes.symbol, strict=True):
            if symbol == "[":
                begin = int(at)
            elif symbol == "]" and begin is not None:
                flutter.append((begin, int(at)))
                begin = None
        return record.p_signal[:, 0].astype(np.float32), float(record.fs), np.array(beats, np.int64), flutter

    return read
