"""PR, QRS, QT and QTc: formulae, figures of a stretch, and when there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vitalgate.signal.delineation import MARKS, Delineation, delineate
from vitalgate.signal.intervals import NAMES, beat_intervals, corrected, stretch_intervals
from vitalgate.signal.quality import Grade, Reason, Stretch, signal_quality

FS = 500.0
#: Of one beat, ms from its R peak.
BEAT_MS = (-210, -160, -110, -40, 0, 50, 150, 280, 350)


def made(beats: int = 8, leads: int = 1, rr_ms: float = 800) -> Delineation:
    at = np.round(np.arange(1, beats + 1) * rr_ms * FS / 1000).astype(np.int64)
    marks = at[:, np.newaxis, np.newaxis] + np.tile(np.array(BEAT_MS) * FS / 1000, (leads, 1))
    return Delineation(at, marks, np.full(marks.shape, 0.9), np.ones(beats), np.ones(beats))


def good(found: Delineation, grade: Grade = Grade.GOOD) -> list[list[Stretch]]:
    reason = None if grade is Grade.GOOD else Reason.NOISE
    return [[Stretch(0, 10**6, grade, reason)] for _ in range(found.marks.shape[1])]


@pytest.mark.parametrize(
    ("qt_ms", "rate", "expected"),
    [(360, 100, (464.8, 426.8, 421.6, 430.0)), (440, 50, (401.7, 414.1, 409.2, 422.5)), (400, 60, (400.0,) * 4)],
)
def test_formulae(qt_ms: float, rate: float, expected: tuple[float, ...]) -> None:
    for name, value in zip(("bazett", "fridericia", "framingham", "hodges"), expected, strict=True):
        assert 1000 * float(corrected(qt_ms / 1000, 60 / rate, name)) == pytest.approx(value, abs=0.06)
    with pytest.raises(ValueError, match="no correction"):
        corrected(0.4, 1.0, "bazet")


def test_each_beat_and_the_stretch() -> None:
    found = made()
    each = beat_intervals(found, FS)
    assert np.allclose(each["pr"], 170) and np.allclose(each["qrs"], 90) and np.allclose(each["qt"], 390)
    assert np.isnan(each["rr"][0]) and np.allclose(each["rr"][1:], 800)
    of = stretch_intervals(found, FS, good(found))
    assert set(of) == set(NAMES)
    assert of["qt"].ms == pytest.approx(390) and of["qt"].beats == 8 and of["qt"].confidence == pytest.approx(0.9)
    assert of["qtc.bazett"].ms == pytest.approx(390 / np.sqrt(0.8), abs=0.06) and of["qtc.bazett"].beats == 7


def test_over_leads_the_outermost_fifth_is_set_aside() -> None:
    found = made(leads=10)
    found.marks[:, 0, MARKS.index("qrs_on")] -= 100
    found.marks[:, 1, MARKS.index("qrs_on")] -= 10
    found.marks[:, 2, MARKS.index("qrs_on")] -= 5
    assert stretch_intervals(found, FS, good(found))["qrs"].ms == pytest.approx(90 + 10)


def test_withheld_and_says_so() -> None:
    found = made()
    assert stretch_intervals(found, FS, good(found, Grade.BAD))["qt"].reason == "the signal is bad"
    assert stretch_intervals(found, FS, good(found, Grade.USABLE))["qt"].ms is not None
    no_p = made()
    no_p.marks[:, :, :3] = np.nan
    of = stretch_intervals(no_p, FS, good(no_p))
    assert of["pr"].ms is None and of["pr"].reason == "P wave seen in 0 of 8 beats" and of["qrs"].ms is not None
    varying = made(beats=20)
    varying.marks[::2, :, 8] += 100
    assert "varies too much" in str(stretch_intervals(varying, FS, good(varying))["qt"].reason)
    doubtful = made()
    doubtful.sure[:, :, 8] = 0.1
    of = stretch_intervals(doubtful, FS, good(doubtful))
    assert of["qt"].ms is None and of["qt"].reason == "confidence of 10 % only" and of["qrs"].ms is not None
    few = made(beats=2)
    assert stretch_intervals(few, FS, good(few))["qrs"].ms is None
    kinds = np.array(list("VVVVVNVV"))
    assert stretch_intervals(found, FS, good(found), kinds)["qrs"].beats == 1


def test_nothing() -> None:
    none = delineate(np.empty(0), FS)
    assert all(one.ms is None and one.reason == "no beats" for one in stretch_intervals(none, FS, [[]]).values())


def test_of_a_signal(make_ecg: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    x, beats = make_ecg(20, FS, 66, seed=3, noise=0.01)
    of = stretch_intervals(delineate(x, FS, beats), FS, signal_quality(x, FS))
    assert 90 < (of["pr"].ms or 0) < 200 and 60 < (of["qrs"].ms or 0) < 120 and 330 < (of["qt"].ms or 0) < 480
    assert of["qt"].confidence > 0.3
