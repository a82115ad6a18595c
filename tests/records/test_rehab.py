"""Sessions of rehabilitation summed up: known ones to the figure, and laws for any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from vitalgate.records.rehab import summary
from vitalgate.records.types.cardiac_rehab_log import SessionDetails

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
S = timedelta(seconds=1)


def test_a_known_session() -> None:
    rates = [(START + n * S, 90.0 if n < 300 else 110.0) for n in range(600)]
    rates += [(START + n * S, 110.0 - (n - 600) / 3) for n in range(600, 670)]
    power = [(START + n * S, 50.0 + (n >= 300) * 50) for n in range(600)]
    assert summary(rates, power, START, START + 600 * S, 100, 120) == {
        "meanHeartRate": 100.0, "peakHeartRate": 110.0, "timeInZoneS": 300.0, "recoveryHeartRate": 18.2,
        "coverage": 1.0, "meanPower": 75.0, "peakPower": 100.0,
    }  # fmt: skip


def test_what_was_not_worn_is_not_told() -> None:
    assert summary([], [], START, START + 600 * S, 100, 120) == {}
    half = [(START + n * S, 100.0) for n in range(300)]
    told = summary(half, [], START, START + 600 * S)
    assert told == {"meanHeartRate": 100.0, "peakHeartRate": 100.0, "coverage": 0.523}


values = st.lists(st.tuples(st.integers(0, 700), st.floats(30, 220)), unique_by=lambda pair: pair[0], max_size=80)


@given(values, values, st.floats(40, 120), st.floats(0, 60))
def test_laws(rates: list[tuple[int, float]], power: list[tuple[int, float]], low: float, wide: float) -> None:
    series = [[(START + second * S, value) for second, value in sorted(one)] for one in (rates, power)]
    told = summary(series[0], series[1], START, START + 600 * S, low, low + wide)
    SessionDetails.model_validate(told)
    if "meanHeartRate" in told:
        inside = [value for second, value in rates if second < 600]
        assert min(inside) - 0.1 <= told["meanHeartRate"] <= max(inside) + 0.1
        assert told["peakHeartRate"] <= max(inside) + 0.1
        assert 0 <= told["timeInZoneS"] <= 600 * told["coverage"] + 0.5
    wider = summary(series[0], series[1], START, START + 600 * S, low - 5, low + wide + 5)
    assert wider.get("timeInZoneS", 0) >= told.get("timeInZoneS", 0)
