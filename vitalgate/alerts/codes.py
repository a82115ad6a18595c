"""Coded values as numbers, so that rules can say "moderate or worse". Order only; distances mean nothing."""

from __future__ import annotations

from collections.abc import Mapping

#: Severity of a symptom, as people type it in.
SEVERITY: Mapping[str, int] = {"none": 0, "mild": 1, "moderate": 2, "severe": 3}
#: ACVPU, from best to worst.
CONSCIOUSNESS: Mapping[str, int] = {"A": 0, "C": 1, "V": 2, "P": 3, "U": 4}
OXYGEN: Mapping[str, int] = {"air": 0, "oxygen": 1}


def scale(metric: str) -> Mapping[str, int] | None:
    """The order of a coded metric's codes; None when it has none."""
    if metric.startswith("symptom."):
        return SEVERITY
    return {"consciousness": CONSCIOUSNESS, "oxygen": OXYGEN}.get(metric)


def place(metric: str, code: str) -> int | None:
    """A code's place in its order; None when the metric or the code has none."""
    order = scale(metric)
    return None if order is None else order.get(code)


def word(metric: str, number: float | None) -> str:
    """The code at a place, '' when there is none."""
    order = scale(metric)
    if order is None or number is None:
        return ""
    return next((code for code, at in order.items() if at == number), "")
