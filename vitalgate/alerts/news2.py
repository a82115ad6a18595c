"""NEWS2, the National Early Warning Score 2 (Royal College of Physicians, December 2017; adults of 16 and over).

A partial score is a lower bound and is named as such: what is missing is never taken for normal. SpO2 scale 2 is for
patients whose hypercapnic failure with a target of 88 to 92 % a clinician has confirmed; scale 1 is for all others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Parameter = Literal[
    "respiration_rate", "spo2", "oxygen", "bp_systolic", "pulse", "consciousness", "temperature",
]  # fmt: skip
PARAMETERS: tuple[Parameter, ...] = (
    "respiration_rate", "spo2", "oxygen", "bp_systolic", "pulse", "consciousness", "temperature",
)  # fmt: skip
TITLES: Mapping[str, str] = {
    "respiration_rate": "respiration rate", "spo2": "oxygen saturation", "oxygen": "air or oxygen",
    "bp_systolic": "systolic blood pressure", "pulse": "pulse", "consciousness": "consciousness",
    "temperature": "temperature",
}  # fmt: skip

#: Upper ends of the bands (a value belongs to the first band whose end it does not exceed), and points of each band.
_TABLE: Mapping[str, tuple[Sequence[float], Sequence[int]]] = {
    "respiration_rate": ((8, 11, 20, 24), (3, 1, 0, 2, 3)),
    "bp_systolic": ((90, 100, 110, 219), (3, 2, 1, 0, 3)),
    "pulse": ((40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3)),
    "temperature": ((35.0, 36.0, 38.0, 39.0), (3, 1, 0, 1, 2)),
    "oxygen": ((0,), (0, 2)),
    "consciousness": ((0,), (0, 3)),
}
#: Saturation: ends of the bands of both scales together.
_SPO2 = (83, 85, 87, 91, 92, 93, 94, 95, 96)
_SPO2_POINTS: Mapping[str, Sequence[int]] = {
    "scale 1": (3, 3, 3, 3, 2, 2, 1, 1, 0, 0),
    "scale 2 on air": (3, 2, 1, 0, 0, 0, 0, 0, 0, 0),
    "scale 2 on oxygen": (3, 2, 1, 0, 0, 1, 1, 2, 2, 3),
}
#: Values are rounded to this many decimals first: 35.05 degrees must fit a band.
_DECIMALS = {"temperature": 1, "oxygen": 1}

Risk = Literal["low", "low-medium", "medium", "high"]


@dataclass(frozen=True)
class Score:
    """A score of what there is.

    Attributes
    ----------
    points
        By parameter, of those that are there.
    missing
        Parameters that are not there, in the chart's order.
    """

    points: Mapping[str, int]
    missing: tuple[str, ...]

    @property
    def total(self) -> int:
        """Sum of the points: the score, or a lower bound of it while something is missing."""
        return sum(self.points.values())

    @property
    def complete(self) -> bool:
        """True when nothing is missing."""
        return not self.missing

    @property
    def red(self) -> tuple[str, ...]:
        """Parameters that score three."""
        return tuple(name for name, points in self.points.items() if points == 3)

    @property
    def risk(self) -> Risk:
        """Clinical risk: the higher of what the total and a red score say."""
        if self.total >= 7:
            return "high"
        if self.total >= 5:
            return "medium"
        return "low-medium" if self.red else "low"


def band(parameter: str, value: float) -> int:
    """Number of the band that a value falls into, from the lowest; codes as in ``codes`` (air 0, Alert 0)."""
    ends = _SPO2 if parameter == "spo2" else _TABLE[parameter][0]
    return bisect_left(ends, round(value, _DECIMALS.get(parameter, 0)))


def band_points(parameter: str, number: int, scale: int, on_oxygen: bool) -> int:
    """Points of a band.

    Parameters
    ----------
    scale
        1 or 2, of saturation.
    on_oxygen
        Concerns scale 2 only.
    """
    if parameter != "spo2":
        return _TABLE[parameter][1][number]
    name = "scale 1" if scale == 1 else "scale 2 on oxygen" if on_oxygen else "scale 2 on air"
    return _SPO2_POINTS[name][number]


def score(values: Mapping[str, float | None], scale: int = 1) -> Score:
    """Score of single values.

    Parameters
    ----------
    values
        By parameter, in /min, %, mm[Hg] and Cel; oxygen 0 (air) or 1, consciousness 0 (Alert) or more. None or absent:
        not known.
    scale
        SpO2 scale, 1 or 2. Without knowledge of oxygen, scale 2 is read as on air, which is the lower bound.
    """
    oxygen = values.get("oxygen")
    points: dict[str, int] = {
        name: band_points(name, band(name, value), scale, bool(oxygen))
        for name in PARAMETERS
        if (value := values.get(name)) is not None
    }
    return Score(points, tuple(name for name in PARAMETERS if name not in points))
