"""Accounts as rows: found by address or id, their sessions ended, what happens to them audited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from vitalgate.records.catalogue import RECORDS
from vitalgate.storage.records_database import Transaction
from vitalgate.storage.records_keys import indexes, unsealed


@dataclass(frozen=True)
class Account:
    """What a log-in looks at."""

    id: str
    status: str
    password_hash: str
    totp_secret: bytes | None
    totp_confirmed_at: datetime | None
    totp_last_step: int | None
    failures: int
    locked_until: datetime | None
    email_verified_at: datetime | None


_ACCOUNT = (
    "SELECT id, status, password_hash, totp_secret, totp_confirmed_at, totp_last_step, failures, locked_until,"
    " email_verified_at FROM users WHERE "
)


def by_email(tx: Transaction, email: str) -> Account | None:
    """The account with this address, locked until the transaction ends."""
    row = tx.execute(
        _ACCOUNT + "email_index = ANY(%s) FOR UPDATE", (indexes(tx.keys, RECORDS["user"], "email", email),)
    ).fetchone()
    return None if row is None else Account(*row)


def by_id(tx: Transaction, user_id: str) -> Account | None:
    """The account, locked likewise."""
    row = tx.execute(_ACCOUNT + "id = %s FOR UPDATE", (user_id,)).fetchone()
    return None if row is None else Account(*row)


def totp_of(tx: Transaction, account: Account) -> str:
    """The secret of an account's second factor."""
    assert account.totp_secret is not None
    return str(unsealed(tx.keys, RECORDS["user"], "totp", f"user/{account.id}/totp", account.totp_secret))


def end_all(tx: Transaction, user: str, but: str | None, because: str) -> int:
    """End all of a user's sessions but one; how many."""
    rows = tx.execute(
        "SELECT id FROM sessions WHERE user_id = %s AND ended_at IS NULL AND id IS DISTINCT FROM %s", (user, but)
    ).fetchall()
    end_sessions(tx, user, [row[0] for row in rows], because)
    return len(rows)


def end_sessions(tx: Transaction, user: str, sessions: list[str], because: str) -> None:
    """End these sessions of a user."""
    tx.execute("UPDATE sessions SET ended_at = now(), ended_because = %s WHERE id = ANY(%s)", (because, sessions))
    for session in sessions:
        audit_as(tx, user, "session.end", session, "success", {"because": because})


def audit_as(tx: Transaction, user: str, action: str, entity: str, outcome: str, detail: Mapping[str, Any]) -> None:
    """Write an event in a user's name, who is not acting by a session yet."""
    tx.execute(
        "SELECT audit_as(%s, %s, %s, %s, NULL, %s, %s)",
        (f"user:{user}" if user else "nobody", action, action.split(".")[0], entity, outcome,
         orjson.dumps(dict(detail)).decode()),
    )  # fmt: skip
