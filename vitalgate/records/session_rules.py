"""Rules of accounts and sessions: passwords, lock-out, lifetimes. Pure; the figures' sources are beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from vitalgate.records.errors import Invalid

PASSWORD_LEAST: Final = 12
"""Characters; between the 8 that NIST SP 800-63B asks for at least and the 15 it recommends without a second factor."""
PASSWORD_MOST: Final = 128
ACCESS: Final = timedelta(minutes=15)
"""Lifetime of an access token."""
REFRESH: Final = timedelta(days=14)
"""Lifetime of a refresh token: a session that is not used for so long is over."""
SESSION: Final = timedelta(days=90)
"""A session ends then, used or not."""
VERIFY: Final = timedelta(days=2)
RESET: Final = timedelta(hours=1)
INVITE: Final = timedelta(days=14)
FAILURES: Final = 5
"""Failures in a row before an account is locked out."""
_FIRST_LOCK: Final = timedelta(minutes=1)
_LONGEST_LOCK: Final = timedelta(hours=1)
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
#: Of the common ones, those that are long enough to pass; a repeated or rising sequence is found by its form.
_COMMON: Final = frozenset(
    {
        "password1234", "passwordpassword", "qwertyuiop123", "qwertyuiopasdf", "123456789012", "1234567890123",
        "administrator", "administrator1", "letmeinletmein", "iloveyou1234", "welcome12345", "changemechangeme",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Argon2:
    """Parameters of argon2id (RFC 9106, section 4, the second recommended option): memory in KiB, passes, lanes."""

    memory_kib: int = 65536
    time: int = 3
    lanes: int = 4


def check_password(password: str, *about: str) -> None:
    """Refuse a password that is short, long, common, or made of what is known of its user.

    Parameters
    ----------
    about
        E-mail address and name of the user.

    Raises
    ------
    Invalid
        Saying what to change; never the password.
    """
    wrong = ""
    plain = password.casefold()
    if not PASSWORD_LEAST <= len(password) <= PASSWORD_MOST:
        wrong = f"has {len(password)} characters; {PASSWORD_LEAST} to {PASSWORD_MOST} are needed"
    elif plain in _COMMON or len(set(plain)) < 4 or _rises(plain):
        wrong = "is one of those that are tried first; choose another, such as several unrelated words"
    else:
        parts = {part for text in about for part in re.split(r"[@.\s_-]+", text.casefold()) if len(part) >= 4}
        left = plain
        for part in parts:
            left = left.replace(part, "")
        if len(left) < PASSWORD_LEAST // 2:
            wrong = "is made of your name or e-mail address; choose another"
    if wrong:
        raise Invalid(f"the password {wrong}", [("password", wrong)])


def _rises(text: str) -> bool:
    steps = {ord(later) - ord(earlier) for earlier, later in pairwise(text)}
    return len(steps) == 1


def check_email(email: str) -> str:
    """The address as it is kept. Raises Invalid when it is none."""
    found = email.strip()
    if not _EMAIL.fullmatch(found) or len(found) > 320:
        raise Invalid("that is no e-mail address", [("email", "is no e-mail address")])
    return found


def locked_until(failures: int, now: datetime) -> datetime | None:
    """Until when an account is locked after so many failures in a row: a minute after five, doubling to an hour."""
    if failures < FAILURES:
        return None
    longer: timedelta = _FIRST_LOCK * float(2 ** min(failures - FAILURES, 20))
    return now + min(longer, _LONGEST_LOCK)
