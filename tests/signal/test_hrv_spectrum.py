"""HRV in the frequency domain, nonlinear, and after mending, against theory and NeuroKit2."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from vitalgate.signal.hrv_spectrum import nonlinear, spectrum
from vitalgate.signal.rr_correction import correct_beats, find_artefacts


def modulated(lf_ms: float, hf_ms: float, seconds: float = 420, noise_ms: float = 0.0) -> np.ndarray:
    """Intervals of 800 ms with one sine at 0.1 Hz and one at 0.25 Hz, in time."""
    rng = np.random.default_rng(0)
    at, rr = 0.0, []
    while at < seconds:
        ms = 800 + lf_ms * np.sin(2 * np.pi * 0.1 * at) + hf_ms * np.sin(2 * np.pi * 0.25 * at)
        rr.append(ms + noise_ms * rng.standard_normal())
        at += rr[-1] / 1000
    return np.array(rr)


@pytest.mark.parametrize("method", ["welch", "lomb"])
def test_a_sine_has_half_its_squared_amplitude(method: str) -> None:
    found = spectrum(modulated(40, 20), method)
    assert found.lf == pytest.approx(40**2 / 2, rel=0.1)
    assert found.hf == pytest.approx(20**2 / 2, rel=0.15)
    assert found.lf_hf == pytest.approx(found.lf / found.hf)
    assert found.lf_share + found.hf_share == pytest.approx(100)


def test_short_stretches_say_nothing_of_slow_bands() -> None:
    found = spectrum(modulated(40, 20, 120))
    assert np.isnan(found.lf) and np.isnan(found.vlf) and not np.isnan(found.hf)
    assert np.isnan(spectrum([800.0] * 3).hf)
    with pytest.raises(ValueError, match="welch or lomb"):
        spectrum([800.0] * 100, "burg")


def test_nonlinear_measures_equal_neurokit() -> None:
    nk = pytest.importorskip("neurokit2")
    peaks = np.cumsum(np.round(modulated(40, 20, 300, 10))).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = nk.hrv_nonlinear(peaks, sampling_rate=1000)
    ours = nonlinear(np.diff(peaks))
    for mine, name in ((ours.sd1, "HRV_SD1"), (ours.sd2, "HRV_SD2"), (ours.sample_entropy, "HRV_SampEn")):
        assert mine == pytest.approx(float(theirs[name].iloc[0]), abs=1e-6)


def test_fluctuation_of_noise_and_of_its_sum() -> None:
    white = 800 + 20 * np.random.default_rng(3).standard_normal(4000)
    assert nonlinear(white).dfa_alpha1 == pytest.approx(0.55, abs=0.08)
    assert nonlinear(800 + np.cumsum(white - 800)).dfa_alpha1 == pytest.approx(1.6, abs=0.15)
    assert np.isnan(nonlinear([800.0, 810.0]).sd1)


def test_mending_finds_what_was_spoiled() -> None:
    beats = np.cumsum(modulated(30, 20, 320, 8)) / 1000
    spoiled = np.delete(beats, 200)
    spoiled = np.sort(np.append(spoiled, spoiled[300] + 0.35))
    spoiled[100] -= 0.25
    mended = correct_beats(spoiled)
    assert mended.artefacts.count >= 3 and 200 in mended.artefacts.missed
    assert len(mended.beats_s) == len(beats)
    assert np.abs(mended.beats_s - beats).max() < 0.06
    assert 0 < mended.share < 0.05


def test_what_is_right_is_left_alone() -> None:
    beats = np.cumsum(modulated(30, 20, 320, 8)) / 1000
    assert find_artefacts(beats).count <= 1
    assert correct_beats(beats[:3]).beats_s.tolist() == beats[:3].tolist()
