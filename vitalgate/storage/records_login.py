"""Logging in and staying so: passwords, second factors, single sign-on, sessions whose refresh token changes each time.

Nothing here says whether an account exists. A refresh token that is shown twice was stolen by one of two: the session
ends. All is audited in its transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from vitalgate.records.errors import LockedOut, NotLoggedIn
from vitalgate.records.permissions import Role
from vitalgate.records.session_rules import ACCESS, REFRESH, SESSION, Argon2, locked_until
from vitalgate.storage import records_passwords as passwords
from vitalgate.storage.records_account_rows import Account, audit_as, by_email, by_id, end_all, end_sessions, totp_of
from vitalgate.storage.records_database import RecordsDatabase, Transaction
from vitalgate.storage.records_passwords import token_hash
from vitalgate.storage.records_secrets import (
    COST,
    ask_reset,
    begin_second_factor,
    change_password,
    confirm_second_factor,
    drop_second_factor,
    reset_password,
    set_password,
)

__all__ = [
    "COST", "Identity", "LoggedIn", "ask_reset", "audit_as", "authenticate", "begin_second_factor", "change_password",
    "confirm_second_factor", "drop_second_factor", "end_all", "log_in", "log_in_with_issuer", "log_out",
    "log_out_everywhere", "refresh", "reset_password", "set_password", "token_hash",
]  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """Who an access token belongs to."""

    user_id: str
    session_id: str
    roles: tuple[Role, ...]
    expires: datetime
    """When the access token does."""
    second_factor: bool = False


@dataclass(frozen=True)
class LoggedIn:
    """What is told once, at log-in and refresh."""

    user_id: str
    session_id: str
    roles: tuple[Role, ...]
    access_token: str = field(repr=False)
    access_expires: datetime
    refresh_token: str = field(repr=False)
    refresh_expires: datetime
    second_factor_needed: bool = False
    """True: the password is right and a code is asked for; nothing else is filled in."""


def log_in(
    db: RecordsDatabase, email: str, password: str, *, code: str = "", application: str = "", place: str = "",
    cost: Argon2 = COST,
) -> LoggedIn:  # fmt: skip
    """Begin a session.

    Parameters
    ----------
    code
        Of the second factor; when it is set up and left out, `second_factor_needed` comes back.
    application, place
        Shown in the user's list of sessions.

    Raises
    ------
    LockedOut
        After too many failures in a row.
    NotLoggedIn
        For a wrong address, password or code, and an account that is not active; which of them is not said.
    """
    now = datetime.now(UTC)
    with db.accounts(place) as tx:
        account = by_email(tx, email)
        if account is not None and account.locked_until is not None and account.locked_until > now:
            audit_as(tx, account.id, "session.create", account.id, "refused", {"because": "locked"})
            refused: Exception | None = LockedOut(
                "too many failures; try again later", int((account.locked_until - now).total_seconds()) + 1
            )
        else:
            refused = _prove(tx, account, password, code, now, cost)
        if refused is None and account is not None:
            if account.totp_confirmed_at is not None and not code:
                return LoggedIn(account.id, "", (), "", now, "", now, second_factor_needed=True)
            return _begin(tx, account.id, application, place, now, second_factor=bool(code))
    # The transaction is committed: the failure counts and is audited.
    assert refused is not None
    raise refused


def _prove(
    tx: Transaction, account: Account | None, password: str, code: str, now: datetime, cost: Argon2
) -> Exception | None:
    wrong = NotLoggedIn("wrong e-mail address, password or code, or the account is not active")
    right = passwords.matches(account.password_hash if account is not None else "", password, cost)
    if account is None:
        audit_as(tx, "", "session.create", "", "refused", {"because": "unknown"})
        return wrong
    step: int | None = None
    if right and account.totp_confirmed_at is not None and code:
        secret = totp_of(tx, account)
        step = passwords.totp_step(secret, code, now.timestamp(), account.totp_last_step)
        right = step is not None
    if not right:
        failures = account.failures + 1
        tx.execute(
            "UPDATE users SET failures = %s, locked_until = %s WHERE id = %s",
            (failures, locked_until(failures, now), account.id),
        )
        audit_as(tx, account.id, "session.create", account.id, "refused", {"because": "wrong", "failures": failures})
        return wrong
    if account.status != "active" or account.email_verified_at is None:
        audit_as(tx, account.id, "session.create", account.id, "refused", {"because": account.status})
        return wrong
    if account.totp_confirmed_at is not None and not code:
        return None
    again = passwords.hashed(password, cost) if passwords.outdated(account.password_hash, cost) else None
    tx.execute(
        "UPDATE users SET failures = 0, locked_until = NULL, totp_last_step = coalesce(%s, totp_last_step),"
        " password_hash = coalesce(%s, password_hash) WHERE id = %s",
        (step, again, account.id),
    )
    return None


def log_in_with_issuer(
    db: RecordsDatabase, issuer: str, subject: str, email: str, *, application: str = "", place: str = ""
) -> LoggedIn:
    """Begin a session of whom an OpenID Connect issuer has told (its answer checked by the caller).

    Parameters
    ----------
    email
        As the issuer verified it; empty when it has not. Links the subject to the account of that address once.

    Raises
    ------
    NotLoggedIn
        When no active account is linked, and none has this address.
    """
    now = datetime.now(UTC)
    with db.accounts(place) as tx:
        row = tx.execute(
            "SELECT user_id FROM user_identities WHERE issuer = %s AND subject = %s", (issuer, subject)
        ).fetchone()
        account = by_id(tx, row[0]) if row is not None else by_email(tx, email) if email else None
        if account is not None and account.status == "active":
            if row is None:
                tx.execute(
                    "INSERT INTO user_identities (issuer, subject, user_id) VALUES (%s, %s, %s)",
                    (issuer, subject, account.id),
                )
                tx.execute("UPDATE users SET email_verified_at = coalesce(email_verified_at, now()) WHERE id = %s",
                           (account.id,))  # fmt: skip
                audit_as(tx, account.id, "user.link", account.id, "success", {"issuer": issuer})
            return _begin(tx, account.id, application, place, now, second_factor=True)
        audit_as(tx, account.id if account else "", "session.create", "", "refused", {"issuer": issuer})
    raise NotLoggedIn("no active account belongs to this sign-on; ask for one, or log in once and link it")


def refresh(db: RecordsDatabase, refresh_token: str, *, place: str = "") -> LoggedIn:
    """New tokens for a session; the refresh token is used up.

    Raises
    ------
    NotLoggedIn
        When the token is unknown, over, or was used before: then the whole session ends.
    """
    now = datetime.now(UTC)
    hashed = passwords.token_hash(refresh_token)
    with db.accounts(place) as tx:
        row = tx.execute(
            "SELECT t.session_id, t.used_at, t.expires_at, s.user_id, s.ended_at, s.expires_at, u.status"
            " FROM session_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id"
            " WHERE t.hash = %s AND t.kind = 'refresh' FOR UPDATE OF t, s",
            (hashed,),
        ).fetchone()
        if row is not None:
            session, used, token_ends, user, ended, session_ends, status = row
            if used is not None and ended is None:
                end_sessions(tx, user, [session], "reuse")
            elif used is None and ended is None and min(token_ends, session_ends) > now and status == "active":
                tx.execute("UPDATE session_tokens SET used_at = %s WHERE hash = %s", (now, hashed))
                tx.execute("UPDATE sessions SET last_seen_at = %s, place = %s WHERE id = %s", (now, place, session))
                return _tokens(tx, user, session, now, session_ends)
    raise NotLoggedIn("the session is over; log in again")


def authenticate(db: RecordsDatabase, access_token: str | bytes) -> Identity:
    """Who shows this access token (or the token of this hash).

    Raises
    ------
    NotLoggedIn
        When it, its session or its account is over.
    """
    mark = passwords.token_hash(access_token) if isinstance(access_token, str) else access_token
    with db.accounts() as tx:
        row = tx.execute(
            "SELECT s.user_id, s.id, t.expires_at, s.second_factor,"
            " (SELECT array_agg(role ORDER BY role) FROM user_roles r WHERE r.user_id = s.user_id)"
            " FROM session_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id"
            " WHERE t.hash = %s AND t.kind = 'access' AND t.expires_at > now() AND s.ended_at IS NULL"
            " AND s.expires_at > now() AND u.status = 'active'",
            (mark,),
        ).fetchone()
    if row is None:
        raise NotLoggedIn("the access token is over or unknown; refresh it, or log in again")
    user, session, expires, second, roles = row
    return Identity(user, session, tuple(Role(role) for role in roles or ()), expires, second)


def log_out(db: RecordsDatabase, session_id: str, user_id: str) -> None:
    """End one of a user's sessions."""
    with db.accounts() as tx:
        rows = tx.execute(
            "SELECT id FROM sessions WHERE id = %s AND user_id = %s AND ended_at IS NULL", (session_id, user_id)
        ).fetchall()
        end_sessions(tx, user_id, [row[0] for row in rows], "logout")


def log_out_everywhere(
    db: RecordsDatabase, user_id: str, *, but: str | None = None, because: str = "everywhere"
) -> int:
    """End all of a user's sessions, but for the one named; how many."""
    with db.accounts() as tx:
        return end_all(tx, user_id, but, because)


# --- inside ---------------------------------------------------------------------------------------------------------


def _begin(tx: Transaction, user: str, application: str, place: str, now: datetime, *, second_factor: bool) -> LoggedIn:
    row = tx.execute(
        "INSERT INTO sessions (user_id, application, place, second_factor, expires_at) VALUES (%s, %s, %s, %s, %s)"
        " RETURNING id, expires_at",
        (user, application[:200], place[:200], second_factor, now + SESSION),
    ).fetchone()
    assert row is not None
    audit_as(tx, user, "session.create", row[0], "success", {"second_factor": second_factor})
    return _tokens(tx, user, row[0], now, row[1])


def _tokens(tx: Transaction, user: str, session: str, now: datetime, most: datetime) -> LoggedIn:
    made = {}
    for kind, lifetime in (("access", ACCESS), ("refresh", REFRESH)):
        token, kept = passwords.new_token()
        expires = min(now + lifetime, most)
        tx.execute("INSERT INTO session_tokens VALUES (%s, %s, %s, %s)", (kept, session, kind, expires))
        made[kind] = (token, expires)
    # Used refresh tokens stay for as long as they could be shown again; access tokens go a day after their end.
    tx.execute(
        "DELETE FROM session_tokens WHERE session_id = %s AND expires_at < %s", (session, now - timedelta(days=1))
    )
    roles = tx.execute("SELECT role FROM user_roles WHERE user_id = %s ORDER BY role", (user,)).fetchall()
    return LoggedIn(user, session, tuple(Role(role) for (role,) in roles), *made["access"], *made["refresh"])
