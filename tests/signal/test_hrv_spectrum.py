"""HRV in the frequency domain, nonlinear, and after mending, against theory and NeuroKit2."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from vitalgate.signal.hrv_day import day, five_minutes
from vitalgate.signal.hrv_spectrum import fluctuation, nonlinear, spectrum
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


def test_fluctuation_equals_neurokit_by_its_definition() -> None:
    nk = pytest.importorskip("neurokit2")
    rr = np.round(modulated(40, 20, 300, 10))
    for sizes in (range(4, 12), range(12, 36)):
        theirs, _ = nk.fractal_dfa(rr, scale=list(sizes))
        assert fluctuation(rr, sizes, overlap=True) == pytest.approx(float(theirs), abs=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = nk.hrv_nonlinear(np.cumsum(np.append(0, rr)).astype(int), sampling_rate=1000)
    assert fluctuation(rr, range(4, 12), overlap=True) == pytest.approx(
        float(whole["HRV_DFA_alpha1"].iloc[0]), abs=1e-6
    )
    # The convention of Peng's sizes without overlap is another figure, not far away.
    assert nonlinear(rr).dfa_alpha1 == pytest.approx(float(whole["HRV_DFA_alpha1"].iloc[0]), abs=0.3)


def test_band_powers_equal_neurokit_by_its_definition() -> None:
    nk = pytest.importorskip("neurokit2")
    peaks = np.cumsum(np.append(0, np.round(modulated(40, 20, 300, 10)))).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = nk.hrv_frequency(peaks, sampling_rate=1000, normalize=False)
    ours = spectrum(np.diff(peaks), "welch_half")
    for mine, name in ((ours.lf, "HRV_LF"), (ours.hf, "HRV_HF"), (ours.lf_hf, "HRV_LFHF")):
        assert mine == pytest.approx(float(theirs[name].iloc[0]), rel=1e-6)
    # Its segments of half the stretch leak more; the totals agree with ours to some percent.
    assert ours.lf == pytest.approx(spectrum(np.diff(peaks)).lf, rel=0.15)


def test_a_day_is_made_of_its_five_minutes() -> None:
    rng = np.random.default_rng(0)
    windows = [800 + 30 * k + 20 * rng.standard_normal(370) for k in range(6)]
    windows[2][10] = np.nan
    found = day([five_minutes(rr) for rr in windows])
    rr = np.concatenate([w[~np.isnan(w)] for w in windows])
    steps = np.concatenate([np.diff(w)[~np.isnan(np.diff(w))] for w in windows])
    means = [np.nanmean(w) for w in windows]
    assert found.sdnn == pytest.approx(np.std(rr, ddof=1), abs=1e-6)
    assert found.rmssd == pytest.approx(np.sqrt(np.mean(steps**2)), abs=1e-6)
    assert found.sdann == pytest.approx(np.std(means, ddof=1), abs=1e-6)
    assert found.sdnn_index == pytest.approx(np.mean([np.nanstd(w, ddof=1) for w in windows]), abs=1e-6)
    assert found.pnn50 == pytest.approx(100 * np.mean(np.abs(steps) > 50)) and found.n == len(rr)
    assert found.windows == 6 and day([]).n == 0 and np.isnan(day([]).sdann)
    assert day([five_minutes(windows[0][:50])]).windows == 0, "too few for a window"


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
