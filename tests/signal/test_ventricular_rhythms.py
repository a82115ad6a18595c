"""Couplets, runs, bigeminy, fibrillation: found where they are, in pieces that join, by a bounded stretch only."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitalgate.signal import ectopy, ventricular
from vitalgate.signal.baseline import CELL_S, baseline_cells, cell_start, steady, steady_parts
from vitalgate.signal.ectopy import ectopy_events, ectopy_pieces
from vitalgate.signal.episodes import AROUND, episodes, middle_window
from vitalgate.signal.pieces import WHOLE, RhythmEvent, join_events
from vitalgate.signal.rhythm import Baseline, rate_events
from vitalgate.signal.ventricular import Fibrillating, fibrillating

FS = 250.0


def heart(pattern: str, rr_s: float = 0.8, early_s: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """(beats, classes): each V comes ``early_s`` after the beat before it."""
    steps = [early_s if kind == "V" else rr_s for kind in pattern]
    return np.round(np.cumsum(steps) * FS).astype(np.int64), np.array(list(pattern))


def found(pattern: str, **how: float) -> list[str]:
    return [event.kind for event in ectopy_events(*heart(pattern, **how), FS)]


@pytest.mark.parametrize(
    ("pattern", "kinds"),
    [
        ("NNNNVNNNN", []),
        ("NNNVVNNNN", ["couplet"]),
        ("NNVVVNNNN", ["vt"]),
        ("VVNNVVNN", ["couplet", "couplet"]),
        ("NNVNVNVNN", ["bigeminy"]),
        ("NNVNVNN", []),
        ("NNVNNVNNVNN", ["trigeminy"]),
        ("VNVNVNNNNNNVVVVVNN", ["bigeminy", "vt"]),
        ("", []),
        ("V", []),
    ],
)
def test_patterns(pattern: str, kinds: list[str]) -> None:
    assert found(pattern) == kinds


def test_rate_tells_run_from_tachycardia_and_length_what_is_sustained() -> None:
    assert found("NNVVVVNN", early_s=0.61) == ["v_run"]
    assert found("NNVVVVNN", early_s=0.60) == ["vt"]
    [vt] = ectopy_events(*heart("NN" + "V" * 60 + "NN"), FS)
    assert vt.kind == "vt" and vt.value == pytest.approx(120)
    both = ectopy_events(*heart("NN" + "V" * 62 + "NN"), FS)
    assert [event.kind for event in both] == ["vt", "vt_sustained"]
    assert both[0].onset == both[1].onset and both[0].offset - both[0].onset >= 30 * FS


def test_no_pattern_across_what_is_not_known() -> None:
    at, kinds = heart("NNVVVNN")
    known = np.ones(len(at) - 1, bool)
    known[2] = False
    assert ectopy_pieces(at, kinds, FS, [0, int(at[-1])], known)[0][0].kind == "couplet"
    with pytest.raises(ValueError, match="a class for each"):
        ectopy_events(at, kinds[:-1], FS)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_pieces_join_to_the_whole_and_see_no_further(data: st.DataObject) -> None:
    pattern = data.draw(st.text("NVVV", min_size=5, max_size=160))
    steps = data.draw(
        st.lists(st.sampled_from([0.3, 0.5, 0.6, 0.8, 2.5]), min_size=len(pattern), max_size=len(pattern))
    )
    at = np.round(np.cumsum(steps) * FS).astype(np.int64)
    kinds = np.array(list(pattern))
    end = int(at[-1]) + 1
    [whole] = ectopy_pieces(at, kinds, FS, [0, end])
    cuts = sorted(set(data.draw(st.lists(st.integers(1, end - 1), max_size=5))))
    pieces: list[RhythmEvent] = []
    for start, stop in pairwise([0, *cuts, end]):
        near = (at >= start - ectopy.BEFORE_S * FS) & (at < stop + ectopy.AFTER_S * FS)
        pieces += ectopy_pieces(at[near], kinds[near], FS, [start, stop])[0]
    together = ectopy_pieces(at, kinds, FS, [0, *cuts, end])
    assert sorted(pieces, key=repr) == sorted((e for own in together for e in own), key=repr)
    assert join_events(pieces, FS) == whole
    assert all(event.kind in WHOLE or event.onset < event.offset for event in pieces)


def test_episodes_are_thirty_seconds_and_depend_on_neighbours_only() -> None:
    positive = np.array([0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0], bool)
    none = np.zeros(len(positive), bool)
    assert episodes(positive, none).astype(int).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0]
    assert not episodes(positive, ~none).any()
    rng = np.random.default_rng(0)
    many, held = rng.random(400) < 0.6, rng.random(400) < 0.1
    whole = episodes(many, held)
    for k in range(AROUND, 400 - AROUND):
        near = slice(k - AROUND, k + AROUND + 1)
        assert episodes(many[near], held[near])[AROUND] == whole[k]


def test_the_window_about_a_moment_has_fifteen_beats_on_either_side() -> None:
    at = np.arange(100) * 200
    first = middle_window(at, FS, 10_000)
    assert first == 35 and at[first + 15] == 10_000
    assert middle_window(at, FS, 2_000) is None and middle_window(at, FS, 19_000) is None
    assert middle_window(at * 3, FS, 30_000) is None, "slower than 30/min"


def wave(seconds: float, fs: float, hertz: float, size: float, seed: int = 0) -> np.ndarray:
    t = np.arange(round(seconds * fs)) / fs
    drift = 0.4 * np.sin(2 * np.pi * 0.31 * t + seed) + 0.3 * np.sin(2 * np.pi * 0.07 * t)
    swell = 0.7 + 0.3 * np.sin(2 * np.pi * 0.23 * t)
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(t))
    return (size * swell * np.sin(2 * np.pi * (hertz * t + drift)) + noise).astype(np.float32)


@pytest.mark.parametrize("fs", [125.0, 250.0, 360.0, 500.0])
@pytest.mark.parametrize("hertz", [3.5, 5.0, 6.5])
def test_a_wave_without_complexes_is_fibrillation(make_ecg, fs: float, hertz: float) -> None:
    ecg, _ = make_ecg(40, fs, 75, 1)
    x = np.concatenate([ecg[: round(20 * fs)], wave(15, fs, hertz, 0.4), ecg[round(20 * fs) :]])
    [events] = fibrillating(x, fs)
    assert events and abs(events[0].onset / fs - 20) <= 2.5 and abs(events[-1].offset / fs - 35) <= 2.5
    assert all(45 * hertz < event.per_min < 80 * hertz for event in events)
    assert fibrillating(ecg, fs) == [[]]


def test_what_is_no_fibrillation(make_ecg) -> None:
    fast, _ = make_ecg(30, FS, 170, 2)
    noise = np.random.default_rng(0).standard_normal(7500).astype(np.float32)
    for quiet in (fast, np.zeros(7500), noise, np.full(7500, np.nan), wave(30, FS, 5, 0.02), wave(3.5, FS, 5, 0.5)):
        assert fibrillating(quiet, FS) == [[]]
    assert fibrillating(np.empty((0, 100)), FS) == [] and fibrillating([0.1], FS) == [[]]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_fibrillation_is_the_same_in_any_pieces(make_ecg, data: st.DataObject) -> None:
    fs = data.draw(st.sampled_from([125.0, 250.0, 257.3, 360.0]))
    first = data.draw(st.sampled_from([0, 3, 12_345, 10**8 + 7]))
    ecg, _ = make_ecg(20, fs, 90, 4)
    x = np.concatenate([ecg, wave(data.draw(st.integers(3, 14)), fs, data.draw(st.floats(3, 7)), 0.4), ecg])
    if data.draw(st.booleans()):
        x[data.draw(st.integers(0, len(x) - 1)) :][:9] = np.nan

    def seconds(events: list[Fibrillating]) -> set[tuple[int, float]]:
        return {(k, event.per_min) for event in events for k in range(event.onset, event.offset)}

    [whole] = fibrillating(x, fs, first)
    end = first + len(x)
    cuts = sorted(data.draw(st.lists(st.integers(first, end), max_size=4)))
    parts: set[tuple[int, float]] = set()
    for start, stop in pairwise([first, *cuts, end]):
        low = max(first, int(np.ceil(start - ventricular.BEFORE_S * fs)))
        high = min(end, int(stop + ventricular.AFTER_S * fs))
        [events] = fibrillating(x[low - first : max(low, high) - first], fs, low, start, stop)
        parts |= seconds(events)
    assert fibrillating(np.stack([x * 0, x, x[::-1]]), fs, first)[1] == whole
    assert parts == seconds(whole)


def test_an_electrode_that_settles_is_no_pause(make_ecg) -> None:
    ecg, at = make_ecg(40, FS, 60, 5)
    k = int(np.searchsorted(at, 15 * FS))
    begin, end = int(at[k]), int(at[k + 6])
    calm, pulled, off = ecg.copy(), ecg.copy(), ecg.copy()
    t = np.arange(end - begin - 40) / FS
    calm[begin + 20 : end - 20] = 0.02 * np.sin(t)
    pulled[begin + 20 : end - 20] = 3 * np.exp(-t / 1.5)
    off[begin + 20 : end - 20] = off[begin + 20]
    beats = np.concatenate([at[: k + 1], at[k + 6 :]])
    count = len(ecg) // round(CELL_S * FS)
    for signal, kinds in ((calm, {"pause", "asystole", "bradycardia"}), (pulled, set()), (off, set())):
        cells = baseline_cells(signal[np.newaxis], FS, 0, 0, count)[0]
        events = rate_events(beats, FS, 0, len(ecg), present=signal, baseline=Baseline(cells, 0))
        assert {event.kind for event in events} == kinds
    # What has settled may be believed: six more seconds of silence are asystole.
    cells = baseline_cells(pulled[np.newaxis], FS, 0, 0, count)[0]
    assert not steady(cells, 0, begin, end, FS)
    [*_, last] = steady_parts(np.concatenate([cells, np.zeros(40, np.float32)]), 0, begin, 60 * round(FS), FS)
    assert last[0] > begin + 1.5 * FS


def test_cells_of_the_baseline_are_the_same_from_a_part() -> None:
    rng = np.random.default_rng(0)
    for fs in (125.0, 257.3, 360.0, 1000.0):
        x = rng.standard_normal((2, round(30 * fs))).astype(np.float32)
        x[1, 1000:1100] = np.nan
        x[0, round(12 * fs) : round(14 * fs)] = 0.1
        whole = baseline_cells(x, fs, 700, 20, 90)
        low = cell_start(40, fs) - 700
        part = baseline_cells(x[:, low : low + round(5 * fs)], fs, low + 700, 40, 55)
        assert np.array_equal(part, whole[:, 20:35], equal_nan=True)
        assert baseline_cells(x, fs, 0, 5, 5).shape == (2, 0)
