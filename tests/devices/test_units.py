"""Conversions are exact, and know what does not convert."""

from __future__ import annotations

import doctest
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.devices import catalogue_files, codec, units
from vitalgate.devices.units import UnitError, convert, quantities


@pytest.mark.parametrize(
    ("value", "source", "target", "result"),
    [
        (98.6, "[degF]", "Cel", 37.0),
        (100.4, "[degF]", "Cel", 38.0),
        (310.15, "K", "Cel", 37.0),
        (-40, "[degF]", "Cel", -40.0),
        (16, "kPa", "mm[Hg]", 120.00985213530501),
        (1.2, "Hz", "/min", 72.0),
        (0.97, "1", "%", 97.0),
        (5.5, "mmol/L", "mg/dL", 99.085745),
        (154, "[lb_av]", "kg", 69.85322498),
        (11, "[stone_av]", "kg", 69.85322498),
        (7, "L/s", "L/min", 420.0),
        (3.6, "km/h", "m/s", 1.0),
        (4.184, "kJ", "kcal", 1.0),
        (36.6, "Cel", "[degF]", 97.88),
        (1, "[mi_i]", "m", 1609.344),
        (0.8, "s", "ms", 800.0),
        (1500, "uV", "mV", 1.5),
    ],
)
def test_known_conversions(value: float, source: str, target: str, result: float) -> None:
    assert convert(value, source, target) == result


@given(st.floats(-1e6, 1e6, allow_nan=False), st.sampled_from(sorted(quantities())), st.data())
def test_there_and_back_is_the_same_number(value: float, name: str, data: st.DataObject) -> None:
    quantity = quantities()[name]
    code = data.draw(st.sampled_from(sorted(quantity.units)))
    unit = quantity.units[code]
    exact = Fraction(repr(value)) * unit.factor + unit.offset
    assert convert(value, code, quantity.canonical) == float(exact)
    there = (exact - unit.offset) / unit.factor
    assert float(there) == value or value == 0


def test_what_does_not_convert_says_so() -> None:
    with pytest.raises(UnitError, match="'%' and 'kg'"):
        convert(1, "%", "kg")
    with pytest.raises(UnitError, match="finite"):
        convert(float("nan"), "g", "kg")


@pytest.mark.parametrize(
    "entry", ['[{ code = "a", factor = "x" }]', '[{ factor = "1" }]', '[{ code = "a", factor = "2" }]']
)
def test_a_wrong_units_file_is_refused(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "units.toml"
    path.write_text(f"thing = {entry}\n")
    with pytest.raises(UnitError, match=r"units\.toml"):
        units.read(path)


@pytest.mark.parametrize("module", [units, codec, catalogue_files])
def test_examples_in_the_docstrings(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
