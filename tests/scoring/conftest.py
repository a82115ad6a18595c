"""A small database of each kind, written with wfdb."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("wfdb", reason="wfdb writes and reads the records")

FS = 360


def ecg(seconds: int, fs: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """QRS complexes with P and T, every 0.8 s: (mV, R positions)."""
    t = np.arange(int(seconds * fs)) / fs
    x = 0.01 * np.random.default_rng(seed).standard_normal(len(t))
    at = np.arange(0.6, seconds - 0.1, 0.8)
    for delay, height, width in ((-0.16, 0.12, 0.02), (0, 1.0, 0.012), (0.26, 0.25, 0.04)):
        near = (t - 0.6 - delay + 0.4) % 0.8 - 0.4
        x += height * np.exp(-0.5 * (near / width) ** 2)
    return x, np.round(at * fs).astype(int)


@pytest.fixture(scope="session")
def mitdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two records of a minute with two leads; 900 is paced nowhere, 102 is a paced record's name."""
    import wfdb

    folder = tmp_path_factory.mktemp("mitdb")
    for name in ("102", "900"):
        x, at = ecg(360, FS, int(name))
        signals = np.stack([x, -0.5 * x], axis=1)
        wfdb.wrsamp(
            name, fs=FS, units=["mV", "mV"], sig_name=["MLII", "V1"], p_signal=signals, fmt=["212", "212"],
            adc_gain=[200, 200], baseline=[0, 0], write_dir=str(folder),
        )  # fmt: skip
        wfdb.wrann(
            name, "atr", np.array([10, *at]), ["+", *(["N"] * len(at))], aux_note=["(N", *([""] * len(at))],
            fs=FS, write_dir=str(folder),
        )  # fmt: skip
    return folder


@pytest.fixture
def make_ecg() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """(seconds, fs, seed) -> (mV, R positions)."""
    return ecg
