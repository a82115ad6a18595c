"""The whole analysis of many signals is that of each by itself, and that of its parts."""

from __future__ import annotations

import numpy as np
import pytest

from vitalgate.signal.beats import find_beats
from vitalgate.signal.classes import classify_beats
from vitalgate.signal.quality import signal_quality
from vitalgate.signal.timeline import rhythm_of_signal
from vitalgate.signal.whole import analyse


@pytest.mark.parametrize("fs", [125.0, 257.3, 360.0])
def test_a_signal_does_not_depend_on_its_neighbours(fs: float, make_ecg) -> None:
    signals = np.stack([make_ecg(70, fs, rate, rate)[0] for rate in (45, 80, 130)])
    signals[1, round(20 * fs) : round(27 * fs)] = np.nan
    signals[2, round(30 * fs) : round(40 * fs)] = 0.3
    together = analyse(signals, fs)
    for row, own in zip(signals, together, strict=True):
        [alone] = analyse(row, fs)
        assert np.array_equal(own.beats, find_beats(row, fs)[0])
        assert own.kinds.tolist() == alone.kinds.tolist() == classify_beats(row, fs, own.beats).kinds.tolist()
        assert own.quality == alone.quality == signal_quality(row, fs)[0]
        assert own.events == alone.events == rhythm_of_signal(row, fs, own.beats, own.kinds)
        assert own.variability == alone.variability
    assert {event.kind for event in together[0].events} == {"bradycardia"}
    assert together[1].variability.n > 50


def test_next_to_nothing() -> None:
    for signal in ([], [0.1], np.full(3000, np.nan), np.zeros(3000), np.full(3000, np.inf)):
        [found] = analyse(signal, 250.0)
        assert not len(found.beats) and not found.events and found.variability.n == 0
    assert analyse(np.empty((0, 1000)), 250.0) == []
    with pytest.raises(ValueError, match="sampling rate"):
        analyse(np.zeros(100), 50.0)
