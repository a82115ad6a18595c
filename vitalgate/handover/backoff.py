"""When a delivery that failed is tried again: growing pauses, scattered, with an end. Pure."""

from __future__ import annotations

import hashlib

SECOND = 1_000_000
FIRST_S = 2.0
CAP_S = 300.0
#: A receiver that asks for a longer pause is asked again after this.
RETRY_AFTER_MOST_S = 900.0


def pause_us(delivery: str, attempts: int, retry_after_s: float | None = None) -> int:
    """Pause before the next attempt, us: 2 s doubled each time up to five minutes, give or take a quarter.

    The scatter comes from the delivery's id, so that many that failed together do not come back together, and a
    restart changes nothing.

    Parameters
    ----------
    attempts
        Made so far, at least 1.
    retry_after_s
        What the receiver asked for; it is waited for at least so long, up to a quarter of an hour.
    """
    grown = min(CAP_S, FIRST_S * 2.0 ** min(attempts - 1, 30))
    part = hashlib.blake2b(f"{delivery}|{attempts}".encode(), digest_size=2).digest()
    pause = grown * (0.75 + 0.5 * int.from_bytes(part, "big") / 65535)
    if retry_after_s is not None:
        pause = max(pause, min(max(retry_after_s, 0.0), RETRY_AFTER_MOST_S))
    return round(pause * SECOND)
