"""Passwords and second factors: hashed with argon2id, proved with TOTP; tokens of which only a hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from vitalgate.records.session_rules import Argon2

STEP_S = 30
"""TOTP time step (RFC 6238)."""


@lru_cache(maxsize=4)
def _hasher(cost: Argon2) -> PasswordHasher:
    return PasswordHasher(time_cost=cost.time, memory_cost=cost.memory_kib, parallelism=cost.lanes)


@lru_cache(maxsize=4)
def _nobody(cost: Argon2) -> str:
    return _hasher(cost).hash(secrets.token_urlsafe(16))


def hashed(password: str, cost: Argon2) -> str:
    """The password's argon2id hash, with its parameters and salt."""
    return _hasher(cost).hash(password)


def matches(stored: str, password: str, cost: Argon2) -> bool:
    """Whether it is the password. For an account that is not there (`stored` empty) it takes as long, and is not."""
    try:
        _hasher(cost).verify(stored or _nobody(cost), password)
        return stored != ""
    except (VerificationError, InvalidHashError):
        return False


def outdated(stored: str, cost: Argon2) -> bool:
    """Whether a hash was made with other parameters than today's and is to be made anew at the next log-in."""
    return _hasher(cost).check_needs_rehash(stored)


def new_totp() -> str:
    """A new secret for an authenticator (base32)."""
    return pyotp.random_base32()


def totp_uri(secret: str, account: str) -> str:
    """What the QR code for an authenticator says."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name="Vitalgate")


def totp_step(secret: str, code: str, now_s: float, last_step: int | None) -> int | None:
    """The time step that a code belongs to, at most one from now; None when it is wrong or was used before."""
    step = int(now_s) // STEP_S
    totp = pyotp.TOTP(secret)
    for one in (step, step - 1, step + 1):
        if secrets.compare_digest(totp.generate_otp(one), code.strip()) and (last_step is None or one > last_step):
            return one
    return None


def new_token() -> tuple[str, bytes]:
    """(token for the user, hash to keep). 256 bits of randomness need no slow hash."""
    token = secrets.token_urlsafe(32)
    return token, token_hash(token)


def token_hash(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()
