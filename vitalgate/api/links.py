"""Signed links to a file: for one user, for a while. Pure."""

from __future__ import annotations

import hmac

from vitalgate.api.problems import Problem
from vitalgate.pki import sealing
from vitalgate.pki.keyring import KeyRing

_FIELD = "file-link"


def sign(ring: KeyRing, file_id: str, user_id: str, expires: int) -> str:
    """The signature of a link that a user may follow until `expires` (seconds since 1970)."""
    return sealing.blind_index(ring, _FIELD, f"{file_id}\x00{user_id}\x00{expires}")


def check(ring: KeyRing, file_id: str, user_id: str, expires: int, signature: str, now: float) -> None:
    """Refuse a link that is over or not ours.

    Raises
    ------
    Problem
        403 that says which.
    """
    good = sealing.blind_indexes(ring, _FIELD, f"{file_id}\x00{user_id}\x00{expires}")
    if not any(hmac.compare_digest(one.encode(), signature.encode()) for one in good):
        raise Problem(403, "bad-link", "The link was changed or is not one of ours; ask for a new one.")
    if now >= expires:
        raise Problem(403, "link-expired", "The link is over; ask for a new one.")
