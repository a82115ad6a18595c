"""Finite support, bit for bit: any split, restart or order gives the beats, pulses and events of one pass."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitalgate.signal import beats, pulse, rhythm
from vitalgate.signal.qrs import plan_for
from vitalgate.signal.rhythm import join_events, rate_events

Make = Callable[..., tuple[np.ndarray, np.ndarray]]
Detector = tuple[ModuleType, Callable[..., list[np.ndarray]], Make]

relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.fixture(scope="session", params=["beats", "pulse"])
def detector(request: pytest.FixtureRequest, make_ecg: Make, make_ppg: Make) -> Detector:
    return (beats, beats.find_beats, make_ecg) if request.param == "beats" else (pulse, pulse.find_pulses, make_ppg)


@st.composite
def spoiled(draw: st.DrawFn, make: Make) -> tuple[np.ndarray, float, int]:
    """A few signals with gaps, flat, saturated, noisy and rescaled stretches: (signals, fs, first)."""
    fs = draw(st.sampled_from([100.0, 125.0, 250.0, 257.3, 360.0]))
    seconds = draw(st.integers(20, 100))
    count = draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**31))
    rows = [make(seconds, fs, draw(st.sampled_from([30, 60, 110, 170])), seed + k)[0] for k in range(count)]
    x = np.stack(rows).astype(draw(st.sampled_from([np.float32, np.float64])))
    rng = np.random.default_rng(seed)
    for _ in range(draw(st.integers(0, 8))):
        row, at, length = draw(st.integers(0, count - 1)), draw(st.floats(0, 0.99)), draw(st.floats(0, 12))
        where = np.s_[row, int(at * x.shape[1]) : int(at * x.shape[1] + length * fs) + 1]
        match draw(st.sampled_from(["gap", "flat", "rail", "noise", "gain", "spike", "inf"])):
            case "gap":
                x[where] = np.nan
            case "flat":
                x[where] = x[where][0]
            case "rail":
                x[where] = np.clip(x[where], -0.1, 0.1)
            case "noise":
                x[where] += rng.standard_normal(x[where].shape) * 0.5
            case "gain":
                x[where] *= 5
            case "spike":
                x[where][::97] += 30
            case "inf":
                x[where] = np.inf
    return x, fs, draw(st.sampled_from([0, 1, 7, 12_345, 10**9 + 1]))


def stretch(x: np.ndarray, fs: float, first: int, start: int, stop: int, module: ModuleType) -> tuple[np.ndarray, int]:
    """The support of [start, stop), no sample more."""
    low = max(first, int(np.ceil(start - module.BEFORE_S * fs)))
    high = min(first + x.shape[1], int(np.floor(stop + module.AFTER_S * fs)))
    return x[:, low - first : max(high, low) - first], low


@relaxed
@given(data=st.data())
def test_any_split_in_any_order_gives_the_same_peaks(detector: Detector, data: st.DataObject) -> None:
    module, find, make = detector
    x, fs, first = data.draw(spoiled(make))
    whole = find(x, fs, first)
    cuts = data.draw(st.lists(st.integers(0, x.shape[1]), max_size=8).map(sorted))
    edges = [first, *(first + cut for cut in cuts), first + x.shape[1]]
    pieces = data.draw(st.permutations(list(pairwise(edges))))
    found: list[list[np.ndarray]] = [[] for _ in whole]
    for start, stop in pieces:
        part, low = stretch(x, fs, first, start, stop, module)
        for into, peaks in zip(found, find(part, fs, low, start, stop), strict=True):
            into.append(peaks)
    for expected, parts in zip(whole, found, strict=True):
        assert np.array_equal(np.sort(np.concatenate(parts)), expected)


@relaxed
@given(data=st.data())
def test_nothing_outside_the_support_matters(detector: Detector, data: st.DataObject) -> None:
    module, find, make = detector
    x, fs, first = data.draw(spoiled(make))
    a, b = sorted(data.draw(st.tuples(st.integers(0, x.shape[1]), st.integers(0, x.shape[1]))))
    start, stop = first + a, first + b
    whole = find(x, fs, first)
    other = np.full_like(x, data.draw(st.sampled_from([np.nan, 0.0, 1e5, -np.inf])))
    other += np.random.default_rng(0).standard_normal(x.shape)
    part, low = stretch(x, fs, first, start, stop, module)
    other[:, low - first : low - first + part.shape[1]] = part
    for expected, peaks in zip(whole, find(other, fs, first, start, stop), strict=True):
        assert np.array_equal(peaks, expected[(expected >= start) & (expected < stop)])


@settings(relaxed, max_examples=15)
@given(data=st.data())
def test_no_signal_depends_on_its_neighbours(detector: Detector, data: st.DataObject) -> None:
    _, find, make = detector
    x, fs, first = data.draw(spoiled(make))
    for row, expected in zip(x, find(x, fs, first), strict=True):
        assert np.array_equal(find(row, fs, first)[0], expected)
        assert np.array_equal(find(np.asfortranarray(np.stack([row * 3, row, row[::-1]])), fs, first)[1], expected)


def test_long_recordings_are_cut_without_a_seam(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    module, find, make = detector
    x, _ = make(300, 250.0, 80, 3)
    x[20_000:21_000] = np.nan
    whole = find(np.stack([x, -x]), 250, 5)
    monkeypatch.setattr(module, "_PASS_BINS", 997)
    again = find(np.stack([x, -x]), 250, 5)
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))


@settings(relaxed, max_examples=150)
@given(data=st.data())
def test_rate_events_join_over_any_split(data: st.DataObject) -> None:
    fs = 10.0
    steps = data.draw(st.lists(st.sampled_from([3, 4, 5, 6, 8, 10, 13, 20, 25, 39, 40, 41, 90, 170, 400]), max_size=60))
    at = np.cumsum([data.draw(st.integers(0, 50)), *steps])
    end = int(at[-1]) + data.draw(st.integers(0, 200))
    present: np.ndarray | None = np.ones(end, bool)
    for _ in range(data.draw(st.integers(0, 4))):
        begin = data.draw(st.integers(0, end))
        present[begin : begin + data.draw(st.integers(1, 60))] = False
    if data.draw(st.booleans()):
        present = None
    whole = rate_events(at, fs, 0, end, present=present)
    cuts = sorted(data.draw(st.lists(st.integers(0, end), max_size=6)))
    pieces = []
    for start, stop in zip([0, *cuts], [*cuts, end], strict=True):
        low, high = int(start - rhythm.BEFORE_S * fs), int(stop + rhythm.AFTER_S * fs)
        some = at[(at >= low) & (at < high)]
        low = max(low, 0)
        mask = None if present is None else present[low:high]
        pieces += rate_events(some, fs, start, stop, present=mask, first=low)
    assert join_events(pieces, fs) == whole


def test_the_supports_of_the_steps_add_up_to_less_than_is_promised() -> None:
    # Random signals rarely reach the edge of the support (medians forgive), so it is reckoned here too.
    for fs in (100, 125, 250, 300, 360, 500, 1000):
        plan = plan_for(float(fs))
        reach = (len(plan.taps) // 2 + plan.smooth) / plan.rate
        feature = (len(plan.taps) // 2 + plan.smooth // 2) / plan.rate + 2 * reach
        slack = 4 / plan.rate + beats._SNAP_S
        ahead = beats._GAP_AHEAD_S + max((beats._BLOCKS_AFTER + 1) * beats.GRID_S, beats._APART_S) + feature
        assert ahead + slack <= beats.AFTER_S
        back = beats._GAP_BACK_S + beats._RR_BACK_S + (beats._BLOCKS_BEFORE + 1) * beats.GRID_S + feature
        assert back + slack <= beats.BEFORE_S
