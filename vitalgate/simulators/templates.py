"""The shapes of one heart beat, one pulse and one breath (made by ``make_templates`` with NeuroKit2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("templates.npz")
RATE = 1000
"""Samples per second of the ECG waves."""
R_AT = 400
"""Index of the R peak in them."""
WAVES = ("P", "Q", "R", "S", "T")


@dataclass(frozen=True)
class Templates:
    """Unit shapes."""

    waves: NDArray[np.float32]
    """(5, RATE): P, Q, R, S, T, each with peak 1, round the R peak at R_AT."""
    pulse: NDArray[np.float32]
    """(200,): one pulse cycle from foot to foot, 0..1."""
    breath: NDArray[np.float32]
    """(200,): one breath from empty to empty, 0..1."""


@lru_cache(maxsize=1)
def load() -> Templates:
    """The shipped shapes. Raises FileNotFoundError when the installation is incomplete."""
    with np.load(FILE) as data:
        return Templates(data["waves"], data["pulse"], data["breath"])
