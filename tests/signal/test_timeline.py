"""The rhythm of a signal put together: what is cheap to see is seen rightly, and stretches apart are as if alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitalgate.signal import timeline
from vitalgate.signal.apart import UNKNOWN, Piece, baseline_apart, fibrillating_apart
from vitalgate.signal.baseline import CELL_S, baseline_cells
from vitalgate.signal.rhythm import known_intervals
from vitalgate.signal.timeline import Timeline, rhythm_of_signal, rhythm_pieces, true_runs, without
from vitalgate.signal.ventricular import fibrillating

FS = 250.0


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_an_uneventful_stretch_has_no_events(data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.sampled_from([0.55, 0.62, 0.8, 1.0, 1.19, 1.21, 2.1]), min_size=5, max_size=60))
    at = np.round((0.5 + np.cumsum(steps)) * FS).astype(np.int64)
    end = int(at[-1] + data.draw(st.floats(0.1, 6)) * FS)
    present = np.ones(end, bool)
    if data.draw(st.booleans()):
        present[data.draw(st.integers(0, end - 1)) :][:60] = False
    lines = Timeline(at, np.full(len(at), "N"), true_runs(present), None, [])
    low = data.draw(st.integers(0, end - 2))
    edges = [low, data.draw(st.integers(low + 1, end))]
    quick = rhythm_pieces(lines, FS, edges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline, "_uneventful", lambda *_: False)
        assert rhythm_pieces(lines, FS, edges) == quick


def test_presence_as_runs_is_presence_as_a_mask() -> None:
    rng = np.random.default_rng(0)
    mask = np.repeat(rng.random(300) < 0.9, 20)
    at = np.unique(rng.integers(0, len(mask), 60))
    assert np.array_equal(known_intervals(at, FS, mask), known_intervals(at, FS, true_runs(mask)))
    assert without(np.array([[0, 100], [150, 200]]), np.array([[20, 30], [90, 160]])).tolist() == [
        [0, 20],
        [30, 90],
        [160, 200],
    ]


@pytest.mark.parametrize("fs", [125.0, 250.0, 257.3, 360.0])
def test_stretches_apart_are_as_if_alone(fs: float, make_ecg) -> None:
    ecg, _ = make_ecg(60, fs, 80, 3)
    t = np.arange(round(15 * fs)) / fs
    ecg[round(20 * fs) : round(20 * fs) + len(t)] = 0.4 * np.sin(2 * np.pi * 5 * t + np.sin(t))
    pieces = []
    for k, block in enumerate((1, 2, 3, 4, 2)):
        start, stop = round(block * 10 * fs), round((block + 1) * 10 * fs)
        low = start - round((7 + k) * fs)
        pieces.append(Piece(ecg[low : stop + round(8 * fs)], low, start, stop))
    for piece, waves, cells in zip(pieces, fibrillating_apart(pieces, fs), baseline_apart(pieces, fs), strict=True):
        assert waves == fibrillating(piece.samples, fs, piece.first, piece.start, piece.stop)[0]
        low, high = round(piece.start / (CELL_S * fs)), round(piece.stop / (CELL_S * fs))
        alone = baseline_cells(piece.samples[np.newaxis], fs, piece.first, low, high)[0]
        assert np.array_equal(cells, np.round(alone * 100).astype(np.int16)) and not (cells == UNKNOWN).any()
    assert any(fibrillating_apart(pieces, fs))


def test_a_whole_signal(make_ecg) -> None:
    ecg, at = make_ecg(60, FS, 60, 1)
    assert rhythm_of_signal(ecg, FS, at, np.full(len(at), "N")) == []
    quiet = ecg.copy()
    quiet[at[20] + 60 : at[26] - 60] = 0.02 * np.sin(np.arange(at[26] - at[20] - 120) / 40)
    beats = np.concatenate([at[:21], at[26:]])
    kinds = {event.kind for event in rhythm_of_signal(quiet, FS, beats, np.full(len(beats), "N"))}
    assert {"pause", "asystole"} <= kinds
    assert rhythm_of_signal([], FS, []) == []
