"""Packets of any size give the beats of one pass; leads together; what the newer rules are for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitalgate.signal import beats
from vitalgate.signal.beats import find_beats, find_beats_together
from vitalgate.signal.stream import BeatStream

Make = Callable[..., tuple[np.ndarray, np.ndarray]]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_packets_of_any_size_give_the_beats_of_one_pass(make_ecg: Make, data: st.DataObject) -> None:
    fs, first = data.draw(st.sampled_from([125.0, 250.0, 360.0])), data.draw(st.integers(0, 10**6))
    x = np.stack([make_ecg(70, fs, 80, seed)[0] for seed in (1, 2)])
    x[0, 5000:6500] = np.nan
    stream = BeatStream(fs, first)
    found: list[list[np.ndarray]] = [[], []]
    sizes = data.draw(st.lists(st.sampled_from([1, 30, 250, 2000, 9000]), min_size=1, max_size=4))
    at = 0
    for size in cycle([*sizes, 1500]):
        for into, peaks in zip(found, stream.push(x[:, at : at + size]), strict=True):
            into.append(peaks)
        at += size
        if at >= x.shape[1]:
            break
    for into, peaks, expected in zip(found, stream.finish(), find_beats(x, fs, first), strict=True):
        assert np.array_equal(np.concatenate([*into, peaks]), expected)


def test_a_stream_keeps_a_bounded_stretch(make_ecg: Make) -> None:
    stream = BeatStream(250)
    for begin in range(100):
        stream.push(make_ecg(1, 250, 70, begin)[0])
        assert stream._kept is not None and stream._kept.nbytes <= 64 * 1024


def test_a_stream_refuses_a_change_in_the_number_of_signals() -> None:
    stream = BeatStream(250)
    stream.push(np.zeros((2, 10)))
    with pytest.raises(ValueError, match="3 signals"):
        stream.push(np.zeros((3, 10)))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_leads_together_stream_exactly(make_ecg: Make, data: st.DataObject) -> None:
    fs = data.draw(st.sampled_from([125.0, 250.0, 360.0]))
    x = np.stack([make_ecg(90, fs, 75, 1, noise)[0] * gain for noise, gain in ((0.02, 1), (0.3, 0.5), (0.05, -2))])
    for _ in range(data.draw(st.integers(0, 3))):
        row, at = data.draw(st.integers(0, 2)), data.draw(st.integers(0, x.shape[1]))
        x[row, at : at + int(20 * fs)] = data.draw(st.sampled_from([np.nan, 0.0, 1e9]))
    whole = find_beats_together(x, fs, 7)
    parts = []
    edges = [7, *sorted(data.draw(st.lists(st.integers(7, x.shape[1] + 7), max_size=5))), x.shape[1] + 7]
    for start, stop in pairwise(edges):
        low = max(7, int(np.ceil(start - beats.BEFORE_S * fs)))
        high = min(x.shape[1] + 7, int(stop + beats.AFTER_S * fs))
        parts.append(find_beats_together(x[:, low - 7 : max(high, low) - 7], fs, low, start, stop))
    assert np.array_equal(np.concatenate(parts), whole)


def test_other_leads_show_what_one_has_lost(make_ecg: Make) -> None:
    fs = 250.0
    ecg, truth = make_ecg(60, fs, 70, 5)
    lost = ecg.copy()
    lost[3000:9000] = 0.001 * np.random.default_rng(0).standard_normal(6000)
    found = find_beats_together(np.stack([lost, ecg, 0.5 * ecg]), fs)
    assert len(found) == len(truth) and np.abs(found - truth).max() <= 0.02 * fs
    assert len(find_beats_together(np.empty((0, 100)), fs)) == 0


def test_a_bump_midway_in_a_steady_rhythm_is_no_beat(make_ecg: Make) -> None:
    fs = 250.0
    x = make_ecg(60, fs, 60, 3)[0] * np.float32(0)
    t = np.arange(len(x)) / fs
    for at in np.arange(1, 59):
        x += np.exp(-0.5 * ((t - at) / 0.012) ** 2).astype(np.float32)
    bump = (0.55 * np.exp(-0.5 * ((t - 30.5) / 0.012) ** 2)).astype(np.float32)
    assert np.array_equal(find_beats(x + bump, fs)[0], find_beats(x, fs)[0])
    # As tall as the beats it is one: an interpolated extrasystole.
    assert len(find_beats(x + 2 * bump, fs)[0]) == len(find_beats(x, fs)[0]) + 1


def test_half_a_complex_at_the_edge_is_not_reported(make_ecg: Make) -> None:
    fs = 250.0
    ecg, truth = make_ecg(20, fs, 60, 2)
    cut = truth[10] + 3
    assert truth[10] not in find_beats(ecg[:cut], fs)[0]
    assert find_beats(ecg[:cut], fs)[0][-1] < truth[9] + 10
