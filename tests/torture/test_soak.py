"""How the slope of a soak is told."""

from __future__ import annotations

import pytest

from vitalgate.torture import reliability
from vitalgate.torture.soak import Soak, slope


def test_a_steady_rise_is_told_by_the_hour_and_noise_is_not() -> None:
    times = [5.0 * n for n in range(360)]
    assert slope(times, [100 + at / 3600 * 4 for at in times]) == pytest.approx(4)
    assert abs(slope(times, [100 + n % 2 for n in range(360)])) < 0.1
    assert slope([1.0, 2.0], [1.0, 900.0]) == 0


def test_a_soak_is_told_on_the_page() -> None:
    found = Soak(30, 2000, sent=3_600_000, processes={"gateway": (80.25, -0.4)}).document()
    page = reliability.page([], found)
    assert "2,000 messages/s asked, 2,000 sent; lost 0" in page
    assert "| gateway | 80 | -0.4 |" in page
