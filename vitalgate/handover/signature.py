"""Signatures of webhooks, by the Standard Webhooks scheme: HMAC-SHA256 over id, timestamp and body.

Needs nothing but the standard library, so that a receiver can take this file as it is:

    webhook-id: the idempotency key; drop what you have taken before
    webhook-timestamp: seconds since 1970 at which this attempt was sent
    webhook-signature: "v1," and the base64 of HMAC-SHA256(secret, "{id}.{timestamp}.{body}"); several while a secret
        is being changed, with spaces between
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping

#: A message whose timestamp is further from the receiver's clock is refused: an old one that is sent again.
TOLERANCE_S = 300
PREFIX = "whsec_"
#: A shorter secret is refused.
LEAST_BYTES = 24


class SignatureError(Exception):
    """A message is not to be trusted, or a secret cannot be used; the text says why, without the secret."""


def key_of(secret: str) -> bytes:
    """The bytes of a secret: ``whsec_`` and base64 as receivers' libraries take it, or any text, as it is.

    Raises
    ------
    SignatureError
        When it is too short or no base64.
    """
    secret = secret.strip()
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError) as error:
            raise SignatureError(f"the secret is not base64 after {PREFIX}") from error
    else:
        key = secret.encode()
    if len(key) < LEAST_BYTES:
        raise SignatureError(f"the secret has {len(key)} bytes; use {LEAST_BYTES} random ones or more")
    return key


def keys_of(secrets: str) -> list[bytes]:
    """The secrets of a file, one a line; more than one while the old one is still in use somewhere."""
    found = [key_of(line) for line in secrets.splitlines() if line.strip()]
    if not found:
        raise SignatureError("there is no secret")
    return found


def sign(keys: Iterable[bytes], identity: str, timestamp: int, body: bytes) -> str:
    """The value of webhook-signature."""
    signed = f"{identity}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys)


def verify(
    keys: Iterable[bytes], headers: Mapping[str, str], body: bytes, now: float, tolerance_s: float = TOLERANCE_S
) -> str:
    """The id of a message that is genuine and fresh; drop it when you have taken it before.

    Every signature is compared in constant time, and none is skipped.

    Parameters
    ----------
    headers
        Of the request, by name; names in any case.
    body
        The very bytes that came.
    now
        Seconds since 1970.

    Raises
    ------
    SignatureError
        When a header is missing, the time is too far off, or no signature fits.
    """
    named = {name.lower(): value for name, value in headers.items()}
    try:
        identity, sent, given = (named[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise SignatureError(f"header {error} is missing") from error
    if not (sent.isascii() and sent.isdigit() and len(sent) <= 12):
        raise SignatureError("webhook-timestamp is no number of seconds")
    if abs(now - int(sent)) > tolerance_s:
        raise SignatureError(f"webhook-timestamp is more than {tolerance_s:g} s from the time here")
    right = [one.encode() for one in sign(keys, identity, int(sent), body).split()]
    genuine = False
    for one in given.encode("utf-8", "replace").split()[:16]:
        for other in right:
            genuine |= hmac.compare_digest(one, other)
    if not genuine:
        raise SignatureError("no signature fits: another secret, or the message was changed on its way")
    return identity
