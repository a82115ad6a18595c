"""Units: UCUM codes, their MDC numbers, and exact conversion inside a quantity.

The table is `units.toml` beside this file. Factors are rational numbers, so that 98.6 [degF] is exactly 37 Cel;
the sources of the factors are named there.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path


class UnitError(ValueError):
    """A unit is unknown, or two units do not measure the same quantity."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of a quantity: canonical value = value * factor + offset."""

    code: str
    factor: Fraction
    offset: Fraction
    mdc: int | None
    """32-bit MDC number, partition * 65536 + term, where one is known."""
    mdc_name: str | None
    is_canonical: bool
    """True when values in this unit are stored as they are: factor 1, offset 0."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a group of units measures; the first unit listed is the canonical one."""

    name: str
    canonical: str
    units: dict[str, Unit]


#: What devices send though it is not UCUM, and what to send instead; used in messages only.
NOT_UCUM = {
    "bpm": "/min", "BPM": "/min", "1/min": "/min", "rpm": "/min", "mmHg": "mm[Hg]", "°C": "Cel", "C": "Cel",
    "celsius": "Cel", "°F": "[degF]", "F": "[degF]", "lb": "[lb_av]", "lbs": "[lb_av]", "percent": "%", "pct": "%",
    "st": "[stone_av]", "steps": "{steps}", "l": "L", "l/min": "L/min", "hertz": "Hz", "kmh": "km/h", "mph": "[mi_i]/h",
    "watt": "W", "mg/dl": "mg/dL", "mmol/l": "mmol/L", "KG": "kg", "sec": "s", "µV": "uV", "mv": "mV",
}  # fmt: skip


def rational(text: str) -> Fraction:
    """The exact value of '5/9', '1000/133.322387415' or '0.3048'.

    Raises
    ------
    UnitError
        When it is not a number.
    """
    try:
        top, _, bottom = text.partition("/")
        return Fraction(top) / Fraction(bottom) if bottom else Fraction(top)
    except (ValueError, ZeroDivisionError) as error:
        raise UnitError(f"{text!r} is not a rational number such as '5/9' or '0.3048'") from error


def mdc_number(text: str) -> int:
    """The 32-bit number of an MDC code written as partition::term: partition * 65536 + term.

    Raises
    ------
    UnitError
        When the text has another form or a part is out of range.

    Examples
    --------
    >>> mdc_number("4::544")
    262688
    """
    partition, separator, term = text.partition("::")
    if not (separator and partition.isdecimal() and term.isdecimal()):
        raise UnitError(f"{text!r} is not an MDC code such as '2::18458'")
    if int(partition) > 0xFFFF or int(term) > 0xFFFF:
        raise UnitError(f"{text!r}: partition and term of an MDC code are at most 65535")
    return int(partition) * 65536 + int(term)


def read(path: Path) -> dict[str, Quantity]:
    """The quantities of a units file, by name.

    Raises
    ------
    UnitError
        When an entry is malformed; the text names the file and the entry.
    """
    with path.open("rb") as file:
        document = tomllib.load(file)
    found: dict[str, Quantity] = {}
    for name, entries in document.items():
        units: dict[str, Unit] = {}
        for entry in entries:
            try:
                factor, offset = rational(entry.get("factor", "1")), rational(entry.get("offset", "0"))
                mdc = mdc_number(entry["mdc"]) if "mdc" in entry else None
                unit = Unit(entry["code"], factor, offset, mdc, entry.get("mdc_name"), factor == 1 and offset == 0)
            except (KeyError, UnitError) as error:
                raise UnitError(f"{path}: [{name}] {entry!r}: {error}") from error
            units[unit.code] = unit
        first = next(iter(units.values()))
        if not first.is_canonical:
            raise UnitError(f"{path}: [{name}] starts with {first.code}: the first unit must have factor 1, offset 0")
        found[name] = Quantity(name, first.code, units)
    return found


@cache
def quantities() -> dict[str, Quantity]:
    """The quantities shipped with this package, by name."""
    return read(Path(__file__).with_name("units.toml"))


@cache
def _quantity_of(source: str, target: str) -> Quantity:
    for quantity in quantities().values():
        if source in quantity.units and target in quantity.units:
            return quantity
    raise UnitError(f"no quantity has both {source!r} and {target!r}")


def exact(value: float) -> Fraction:
    """The decimal number that a float was written as (98.6, not 98.599999…), as a fraction."""
    return Fraction(Decimal(repr(value)))


@lru_cache(maxsize=65536)
def to_canonical(value: float, unit: Unit) -> float:
    """`value` in the canonical unit of its quantity: exact arithmetic, rounded once to a float.

    Raises OverflowError when the result is too large for a float.
    """
    return float(exact(value) * unit.factor + unit.offset)


def convert(value: float, source: str, target: str) -> float:
    """`value` from one UCUM unit to another of the same quantity, exactly but for the last rounding.

    Raises
    ------
    UnitError
        When no quantity has both units, or the value is not finite.

    Examples
    --------
    >>> convert(98.6, "[degF]", "Cel")
    37.0
    """
    if not math.isfinite(value):
        raise UnitError(f"{value!r} is not a finite number")
    quantity = _quantity_of(source, target)
    one, other = quantity.units[source], quantity.units[target]
    return float((exact(value) * one.factor + one.offset - other.offset) / other.factor)
