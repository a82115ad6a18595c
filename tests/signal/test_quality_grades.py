"""Signal quality on signals spoiled in one known way."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from vitalgate.signal.quality import Grade, Reason, signal_quality

Make = Callable[..., tuple[np.ndarray, np.ndarray]]

FS = 250.0


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def spoiled(make_ecg: Make, how: str) -> np.ndarray:
    ecg, _ = make_ecg(30, FS)
    t, middle = np.arange(len(ecg)) / FS, slice(2500, 5000)
    rng = np.random.default_rng(0)
    match how:
        case "no_contact":
            ecg[2500:4500] = np.nan
        case "flat":
            ecg[middle] = 1.7
        case "silent":
            ecg[middle] = 0.1 * np.sin(2 * np.pi * 0.3 * t[middle]) + 0.004 * rng.standard_normal(2500)
        case "saturated":
            ecg[middle] = np.clip(ecg[middle] + np.sin(2 * np.pi * t[middle]) * 2, -1, 1.2)
        case "baseline":
            ecg[middle] += 12 * np.sin(2 * np.pi * 0.3 * t[middle])
        case "powerline":
            ecg[middle] += 2 * np.sin(2 * np.pi * 50 * t[middle])
        case "noise":
            ecg[middle] = rng.standard_normal(2500)
    return ecg


@pytest.mark.parametrize("reason", list(Reason))
def test_a_spoiled_stretch_is_bad_for_its_reason(reason: Reason, make_ecg: Make) -> None:
    before, middle, after = signal_quality(spoiled(make_ecg, reason), FS)[0]
    assert (middle.onset, middle.offset) == (2500, 5000)
    assert (middle.grade, middle.reason) == (Grade.BAD, reason)
    assert (before.grade, after.grade) == (Grade.GOOD, Grade.GOOD)
    assert before.reason is None


def test_a_little_missing_is_usable(make_ecg: Make) -> None:
    ecg, _ = make_ecg(10, FS)
    ecg[100:400] = np.nan
    assert signal_quality(ecg, FS)[0][0].grade == Grade.USABLE


def test_stretches_stand_alone(make_ecg: Make) -> None:
    ecg = np.stack([spoiled(make_ecg, "noise"), spoiled(make_ecg, "flat")])
    whole = signal_quality(ecg, FS)
    for k in range(3):
        part = signal_quality(ecg[:, k * 2500 : k * 2500 + 2500], FS, k * 2500)
        assert [row[0] for row in part] == [row[k] for row in whole]
    alone = signal_quality(ecg[1], FS, start=2600, stop=2700)[0]
    assert alone == [whole[1][1]]


@pytest.mark.parametrize(
    "signal",
    [np.zeros(2500), np.full(2500, np.nan), np.full(2500, np.inf), np.full(2500, 9.9)],
    ids=["zero", "nan", "inf", "rail"],
)
def test_nothing_is_bad(signal: np.ndarray) -> None:
    (stretch,) = signal_quality(signal, FS)[0]
    assert stretch.grade == Grade.BAD


def test_too_short_to_judge() -> None:
    assert signal_quality(np.zeros(1), FS) == [[]]
    assert signal_quality(np.empty(0), FS) == [[]]
    assert signal_quality(np.empty((0, 5000)), FS) == []
