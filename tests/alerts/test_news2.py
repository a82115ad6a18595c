"""NEWS2: the whole published table, the vectors of the fact sheet, and what is said when something is missing."""

from __future__ import annotations

from typing import Any

import pytest

from vitalgate.alerts import news2

#: Parameter, scale, oxygen, then (lowest, highest, points) of each band of the chart.
TABLE = [
    ("respiration_rate", 1, 0, [(1, 8, 3), (9, 11, 1), (12, 20, 0), (21, 24, 2), (25, 60, 3)]),
    ("spo2", 1, 0, [(50, 91, 3), (92, 93, 2), (94, 95, 1), (96, 100, 0)]),
    ("spo2", 1, 1, [(50, 91, 3), (92, 93, 2), (94, 95, 1), (96, 100, 0)]),
    ("spo2", 2, 0, [(50, 83, 3), (84, 85, 2), (86, 87, 1), (88, 92, 0), (93, 100, 0)]),
    ("spo2", 2, 1, [(50, 83, 3), (84, 85, 2), (86, 87, 1), (88, 92, 0), (93, 94, 1), (95, 96, 2), (97, 100, 3)]),
    ("bp_systolic", 1, 0, [(40, 90, 3), (91, 100, 2), (101, 110, 1), (111, 219, 0), (220, 300, 3)]),
    ("pulse", 1, 0, [(20, 40, 3), (41, 50, 1), (51, 90, 0), (91, 110, 1), (111, 130, 2), (131, 300, 3)]),
    ("consciousness", 1, 0, [(0, 0, 0), (1, 4, 3)]),
    ("oxygen", 1, 0, [(0, 0, 0), (1, 1, 2)]),
]
TEMPERATURE = [(26.0, 35.0, 3), (35.1, 36.0, 1), (36.1, 38.0, 0), (38.1, 39.0, 1), (39.1, 45.0, 2)]

#: RR, SpO2, scale, oxygen, systolic, pulse, ACVPU, temperature; points in that order; total.
VECTORS = [
    ((16, 97, 1, 0, 120, 70, 0, 36.8), (0, 0, 0, 0, 0, 0, 0), 0, "low"),
    ((22, 93, 1, 0, 98, 112, 0, 38.4), (2, 2, 0, 2, 2, 0, 1), 9, "high"),
    ((25, 98, 1, 0, 125, 80, 0, 37.0), (3, 0, 0, 0, 0, 0, 0), 3, "low-medium"),
    ((20, 95, 2, 1, 130, 88, 0, 37.0), (0, 2, 2, 0, 0, 0, 0), 4, "low"),
    ((20, 95, 1, 1, 130, 88, 0, 37.0), (0, 1, 2, 0, 0, 0, 0), 3, "low"),
    ((18, 95, 2, 0, 130, 88, 0, 37.0), (0, 0, 0, 0, 0, 0, 0), 0, "low"),
    ((8, 83, 2, 1, 90, 131, 1, 35.0), (3, 3, 2, 3, 3, 3, 3), 20, "high"),
    ((21, 94, 1, 0, 101, 91, 0, 38.1), (2, 1, 0, 1, 1, 0, 1), 6, "medium"),
    ((18, 97, 2, 1, 120, 80, 0, 37.0), (0, 3, 2, 0, 0, 0, 0), 5, "medium"),
    ((11, 91, 1, 1, 111, 50, 2, 39.1), (1, 3, 2, 0, 1, 3, 2), 12, "high"),
    ((24, 85, 2, 0, 220, 40, 0, 36.0), (2, 2, 0, 3, 3, 0, 1), 11, "high"),
    ((12, 96, 1, 0, 219, 90, 0, 38.0), (0, 0, 0, 0, 0, 0, 0), 0, "low"),
    ((9, 87, 2, 0, 110, 111, 0, 35.1), (1, 1, 0, 1, 2, 0, 1), 6, "medium"),
]
ORDER = ("respiration_rate", "spo2", "oxygen", "bp_systolic", "pulse", "consciousness", "temperature")


@pytest.mark.parametrize(("parameter", "scale", "oxygen", "bands"), TABLE)
def test_every_value_of_the_chart(parameter: str, scale: int, oxygen: int, bands: list[Any]) -> None:
    for low, high, points in bands:
        for value in range(low, high + 1):
            got = news2.band_points(parameter, news2.band(parameter, value), scale, bool(oxygen))
            assert got == points, f"{parameter} {value} on scale {scale}"


def test_every_tenth_of_a_degree() -> None:
    for low, high, points in TEMPERATURE:
        for tenth in range(round(low * 10), round(high * 10) + 1):
            assert news2.band_points("temperature", news2.band("temperature", tenth / 10), 1, False) == points


def test_no_value_falls_between_two_bands() -> None:
    for hundredth in range(2600, 4501):
        value = hundredth / 100
        assert news2.band("temperature", value) == news2.band("temperature", round(value, 1))


@pytest.mark.parametrize(("given", "points", "total", "risk"), VECTORS)
def test_vectors(given: tuple[float, ...], points: tuple[int, ...], total: int, risk: str) -> None:
    respiration, spo2, scale, oxygen, systolic, pulse, acvpu, temperature = given
    values = dict(zip(ORDER, (respiration, spo2, oxygen, systolic, pulse, acvpu, temperature), strict=True))
    found = news2.score(values, int(scale))
    assert tuple(found.points[name] for name in ORDER) == points
    assert (found.total, found.risk, found.complete) == (total, risk, True)


def test_what_is_missing_is_named_and_never_normal() -> None:
    found = news2.score({"respiration_rate": 25, "spo2": None, "pulse": 70})
    assert found.total == 3 and found.red == ("respiration_rate",)
    assert found.missing == ("spo2", "oxygen", "bp_systolic", "consciousness", "temperature")
    assert not found.complete and found.risk == "low-medium"


def test_scale_two_without_knowledge_of_oxygen_is_the_lower_bound() -> None:
    assert news2.score({"spo2": 97}, 2).total == 0
    assert news2.score({"spo2": 97, "oxygen": 1}, 2).total == 5
