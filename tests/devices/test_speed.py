"""Intake stays within a few times its budget (45 us for three readings, 60 us for an ECG packet on a free core)."""

from __future__ import annotations

from typing import Any

import pytest

from .speed import CASES, cost


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_intake_is_cheap(case: Any) -> None:
    _, kind, leaf, document, form = case
    spent, _ = cost(kind, leaf, document, form, messages=300, rounds=3)
    assert spent < 400  # the machine may be busy; ten times slower is a mistake all the same
