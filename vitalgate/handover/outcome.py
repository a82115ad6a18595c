"""What came of an attempt to hand a notification over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Outcome:
    """What a sender says.

    Attributes
    ----------
    result
        delivered: the receiver has taken it. retry: not now, perhaps later. refused: it never will.
    error
        In a few words why not; names neither what was told nor a secret.
    retry_after_s
        The pause that the receiver asked for, from everybody.
    """

    result: Literal["delivered", "retry", "refused"]
    error: str = ""
    retry_after_s: float | None = None


DELIVERED = Outcome("delivered")
