"""The answer to a device's status message: the server's clock, so that the device can tell how far its own is off.

The four times of NTP (RFC 5905, section 8): the device's `sent_at`, our `received_at`, our `time` when the answer goes
out, and the moment of its arrival, which the device adds. Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from vitalgate.devices.decode import decode
from vitalgate.devices.reasons import Refused

#: A longer status message is answered without its `sent_at`.
DECODE_MOST = 65_536
_SENT_AT_MOST = 64


class Asked(NamedTuple):
    """What a status message calls for."""

    sent_at: str | None
    """As the device wrote it; None when it did not, or when the message cannot be read."""
    received_at: float
    """Seconds since 1970."""


def asked(payload: bytes, received_at: float) -> Asked | None:
    """What a status message calls for; None for a farewell, which nobody waits behind."""
    if len(payload) > DECODE_MOST:
        return Asked(None, received_at)
    try:
        document = decode(payload)
    except Refused:
        return Asked(None, received_at)
    if document.get("state") == "offline":
        return None
    sent_at = document.get("sent_at")
    return Asked(sent_at if isinstance(sent_at, str) and len(sent_at) <= _SENT_AT_MOST else None, received_at)


def answer(to: Asked, now: float) -> bytes:
    """The payload for the `down` topic; `now` in seconds since 1970."""
    return orjson.dumps(
        {
            "type": "time",
            "time": _text(now),
            "received_at": _text(to.received_at),
            "sent_at_of_status": to.sent_at,
        }
    )


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
