"""Heart-rate variability against NeuroKit2 and against sums done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitalgate.signal.hrv import normal_intervals, time_domain


@pytest.mark.parametrize("seed", range(5))
def test_equals_neurokit(seed: int) -> None:
    neurokit2 = pytest.importorskip("neurokit2")
    rng = np.random.default_rng(seed)
    rr = 800 + np.cumsum(rng.normal(0, 12, 300)) * 0.2 + rng.normal(0, 30, 300)
    assert normal_intervals(rr).all()
    peaks = np.concatenate([[0], np.cumsum(np.round(rr))]).astype(int)
    theirs = neurokit2.hrv_time(peaks, sampling_rate=1000).iloc[0]
    ours = time_domain(np.diff(peaks))
    assert ours.sdnn == pytest.approx(theirs["HRV_SDNN"], rel=1e-6)
    assert ours.rmssd == pytest.approx(theirs["HRV_RMSSD"], rel=1e-6)
    # NeuroKit2 divides by the number of intervals, the Task Force's pNN50 is a share of the differences.
    assert ours.pnn50 * (ours.n - 1) / ours.n == pytest.approx(theirs["HRV_pNN50"], rel=1e-6)


def test_by_hand() -> None:
    result = time_domain([800, 860, 800])
    assert result.sdnn == pytest.approx(math.sqrt(1200))
    assert (result.rmssd, result.pnn50, result.n) == (60, 100, 3)


def test_artefacts_are_left_out_and_no_difference_is_taken_across_them() -> None:
    clean = [800.0, 810.0] * 10
    assert time_domain([*clean[:10], 1610.0, *clean[10:]]).rmssd == time_domain(clean).rmssd
    assert time_domain([*clean[:10], 450.0, 1150.0, *clean[10:]]).n == 20
    assert time_domain([*clean[:10], math.nan, *clean[10:]]).n == 20
    assert list(normal_intervals([800, 250, 800, 2500, 800])) == [True, False, True, False, True]


@pytest.mark.parametrize("rr", [[], [800], [math.nan], [math.inf, -math.inf], [0, 0]])
def test_too_little_gives_nan(rr: list[float]) -> None:
    result = time_domain(rr)
    assert math.isnan(result.sdnn)
    assert math.isnan(result.rmssd)
    assert math.isnan(result.pnn50)
