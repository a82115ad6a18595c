"""Logging in and staying so: passwords, second factors, single sign-on, sessions whose refresh token changes each time.

Nothing here says whether an account exists. A refresh token that is shown twice was stolen by one of two: the session
ends. All is audited in its transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from vitalgate.records.catalogue import RECORDS
from vitalgate.records.errors import Conflict, Invalid, LockedOut, NotLoggedIn
from vitalgate.records.permissions import Role
from vitalgate.records.session_rules import ACCESS, REFRESH, RESET, SESSION, Argon2, check_password, locked_until
from vitalgate.storage import records_passwords as passwords
from vitalgate.storage.records_database import RecordsDatabase, Transaction
from vitalgate.storage.records_keys import indexes, sealed, unsealed

COST = Argon2()


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


@dataclass(frozen=True)
class _Account:
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
        account = _by_email(tx, email)
        if account is not None and account.locked_until is not None and account.locked_until > now:
            _audit(tx, account.id, "session.create", account.id, "refused", {"because": "locked"})
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
    tx: Transaction, account: _Account | None, password: str, code: str, now: datetime, cost: Argon2
) -> Exception | None:
    wrong = NotLoggedIn("wrong e-mail address, password or code, or the account is not active")
    right = passwords.matches(account.password_hash if account is not None else "", password, cost)
    if account is None:
        _audit(tx, "", "session.create", "", "refused", {"because": "unknown"})
        return wrong
    step: int | None = None
    if right and account.totp_confirmed_at is not None and code:
        secret = _totp(tx, account)
        step = passwords.totp_step(secret, code, now.timestamp(), account.totp_last_step)
        right = step is not None
    if not right:
        failures = account.failures + 1
        tx.execute(
            "UPDATE users SET failures = %s, locked_until = %s WHERE id = %s",
            (failures, locked_until(failures, now), account.id),
        )
        _audit(tx, account.id, "session.create", account.id, "refused", {"because": "wrong", "failures": failures})
        return wrong
    if account.status != "active" or account.email_verified_at is None:
        _audit(tx, account.id, "session.create", account.id, "refused", {"because": account.status})
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
        account = _by_id(tx, row[0]) if row is not None else _by_email(tx, email) if email else None
        if account is not None and account.status == "active":
            if row is None:
                tx.execute(
                    "INSERT INTO user_identities (issuer, subject, user_id) VALUES (%s, %s, %s)",
                    (issuer, subject, account.id),
                )
                tx.execute("UPDATE users SET email_verified_at = coalesce(email_verified_at, now()) WHERE id = %s",
                           (account.id,))  # fmt: skip
                _audit(tx, account.id, "user.link", account.id, "success", {"issuer": issuer})
            return _begin(tx, account.id, application, place, now, second_factor=True)
        _audit(tx, account.id if account else "", "session.create", "", "refused", {"issuer": issuer})
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
                _end(tx, user, [session], "reuse")
            elif used is None and ended is None and min(token_ends, session_ends) > now and status == "active":
                tx.execute("UPDATE session_tokens SET used_at = %s WHERE hash = %s", (now, hashed))
                tx.execute("UPDATE sessions SET last_seen_at = %s, place = %s WHERE id = %s", (now, place, session))
                return _tokens(tx, user, session, now, session_ends)
    raise NotLoggedIn("the session is over; log in again")


def authenticate(db: RecordsDatabase, access_token: str) -> Identity:
    """Who shows this access token. Raises NotLoggedIn when it, its session or its account is over."""
    with db.accounts() as tx:
        row = tx.execute(
            "SELECT s.user_id, s.id, t.expires_at, s.second_factor,"
            " (SELECT array_agg(role ORDER BY role) FROM user_roles r WHERE r.user_id = s.user_id)"
            " FROM session_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id"
            " WHERE t.hash = %s AND t.kind = 'access' AND t.expires_at > now() AND s.ended_at IS NULL"
            " AND s.expires_at > now() AND u.status = 'active'",
            (passwords.token_hash(access_token),),
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
        _end(tx, user_id, [row[0] for row in rows], "logout")


def log_out_everywhere(
    db: RecordsDatabase, user_id: str, *, but: str | None = None, because: str = "everywhere"
) -> int:
    """End all of a user's sessions, but for the one named; how many."""
    with db.accounts() as tx:
        return _end_all(tx, user_id, but, because)


def begin_second_factor(db: RecordsDatabase, user_id: str) -> str:
    """A new secret for an authenticator, as an otpauth URI; in force once a code of it was shown. Raises Conflict."""
    secret = passwords.new_totp()
    with db.accounts() as tx:
        account = _by_id(tx, user_id)
        if account is None or account.totp_confirmed_at is not None:
            raise Conflict("a second factor is set up already; drop it first")
        row = tx.execute("SELECT email FROM users WHERE id = %s", (user_id,)).fetchone()
        assert row is not None
        email = unsealed(tx.keys, RECORDS["user"], "email", f"user/{user_id}/email", row[0])
        tx.execute(
            "UPDATE users SET totp_secret = %s, totp_last_step = NULL WHERE id = %s",
            (sealed(tx.keys, f"user/{user_id}/totp", secret), user_id),
        )
    return passwords.totp_uri(secret, str(email))


def confirm_second_factor(db: RecordsDatabase, user_id: str, code: str) -> None:
    """Put the new second factor in force. Raises Conflict when none was begun, Invalid for a wrong code."""
    with db.accounts() as tx:
        account = _by_id(tx, user_id)
        if account is None or account.totp_secret is None or account.totp_confirmed_at is not None:
            raise Conflict("no second factor has been begun")
        step = passwords.totp_step(_totp(tx, account), code, datetime.now(UTC).timestamp(), None)
        if step is None:
            raise Invalid("the code is wrong; look at the authenticator's clock", [("code", "is wrong")])
        tx.execute(
            "UPDATE users SET totp_confirmed_at = now(), totp_last_step = %s, version = version + 1 WHERE id = %s",
            (step, user_id),
        )
        _audit(tx, user_id, "user.second_factor", user_id, "success", {"on": True})


def drop_second_factor(db: RecordsDatabase, user_id: str, password: str, *, cost: Argon2 = COST) -> None:
    """Log in without a code again. Raises NotLoggedIn for a wrong password."""
    with db.accounts() as tx:
        account = _by_id(tx, user_id)
        if account is None or not passwords.matches(account.password_hash, password, cost):
            raise NotLoggedIn("wrong password")
        tx.execute(
            "UPDATE users SET totp_secret = NULL, totp_confirmed_at = NULL, totp_last_step = NULL,"
            " version = version + 1 WHERE id = %s",
            (user_id,),
        )
        _audit(tx, user_id, "user.second_factor", user_id, "success", {"on": False})


def change_password(
    db: RecordsDatabase, user_id: str, old: str, new: str, *, session_id: str = "", cost: Argon2 = COST
) -> None:
    """Set another password; all other sessions end. Raises NotLoggedIn for a wrong old one, Invalid for a weak new."""
    with db.accounts() as tx:
        account = _by_id(tx, user_id)
        if account is None or not passwords.matches(account.password_hash, old, cost):
            raise NotLoggedIn("wrong password")
        _set_password(tx, user_id, new, cost, but=session_id or None)


def ask_reset(db: RecordsDatabase, email: str, *, place: str = "") -> str | None:
    """A token to set a new password with, for the account's owner by e-mail; None when there is no account.

    The caller answers the same either way.
    """
    with db.accounts(place) as tx:
        account = _by_email(tx, email)
        if account is None or account.status != "active":
            return None
        token, kept = passwords.new_token()
        tx.execute(
            "INSERT INTO user_tokens (hash, user_id, purpose, expires_at) VALUES (%s, %s, 'reset', %s)",
            (kept, account.id, datetime.now(UTC) + RESET),
        )
        _audit(tx, account.id, "user.ask_reset", account.id, "success", {})
        return token


def reset_password(db: RecordsDatabase, token: str, new: str, *, cost: Argon2 = COST) -> str:
    """Set a new password with a token from `ask_reset`; all sessions end. The user's id.

    Raises NotLoggedIn for a token that is over, Invalid for a weak password.
    """
    with db.accounts() as tx:
        row = tx.execute(
            "UPDATE user_tokens SET used_at = now() WHERE hash = %s AND purpose = 'reset' AND used_at IS NULL"
            " AND expires_at > now() RETURNING user_id",
            (passwords.token_hash(token),),
        ).fetchone()
        if row is None:
            raise NotLoggedIn("this link is over or was used; ask for another")
        _set_password(tx, row[0], new, cost)
        return str(row[0])


# --- inside ---------------------------------------------------------------------------------------------------------


def _by_email(tx: Transaction, email: str) -> _Account | None:
    row = tx.execute(
        _ACCOUNT + "email_index = ANY(%s) FOR UPDATE", (indexes(tx.keys, RECORDS["user"], "email", email),)
    ).fetchone()
    return None if row is None else _Account(*row)


def _by_id(tx: Transaction, user_id: str) -> _Account | None:
    row = tx.execute(_ACCOUNT + "id = %s FOR UPDATE", (user_id,)).fetchone()
    return None if row is None else _Account(*row)


def _totp(tx: Transaction, account: _Account) -> str:
    assert account.totp_secret is not None
    return str(unsealed(tx.keys, RECORDS["user"], "totp", f"user/{account.id}/totp", account.totp_secret))


def _begin(tx: Transaction, user: str, application: str, place: str, now: datetime, *, second_factor: bool) -> LoggedIn:
    row = tx.execute(
        "INSERT INTO sessions (user_id, application, place, second_factor, expires_at) VALUES (%s, %s, %s, %s, %s)"
        " RETURNING id, expires_at",
        (user, application[:200], place[:200], second_factor, now + SESSION),
    ).fetchone()
    assert row is not None
    _audit(tx, user, "session.create", row[0], "success", {"second_factor": second_factor})
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


def _end_all(tx: Transaction, user: str, but: str | None, because: str) -> int:
    rows = tx.execute(
        "SELECT id FROM sessions WHERE user_id = %s AND ended_at IS NULL AND id IS DISTINCT FROM %s", (user, but)
    ).fetchall()
    _end(tx, user, [row[0] for row in rows], because)
    return len(rows)


def _end(tx: Transaction, user: str, sessions: list[str], because: str) -> None:
    tx.execute("UPDATE sessions SET ended_at = now(), ended_because = %s WHERE id = ANY(%s)", (because, sessions))
    for session in sessions:
        _audit(tx, user, "session.end", session, "success", {"because": because})


def _set_password(tx: Transaction, user: str, new: str, cost: Argon2, *, but: str | None = None) -> None:
    row = tx.execute("SELECT email, display_name FROM users WHERE id = %s", (user,)).fetchone()
    assert row is not None
    kind = RECORDS["user"]
    about = [str(unsealed(tx.keys, kind, name, f"user/{user}/{name}", value))
             for name, value in zip(("email", "display_name"), row, strict=True)]  # fmt: skip
    check_password(new, *about)
    tx.execute(
        "UPDATE users SET password_hash = %s, failures = 0, locked_until = NULL, changed_at = now(),"
        " version = version + 1 WHERE id = %s",
        (passwords.hashed(new, cost), user),
    )
    _audit(tx, user, "user.password", user, "success", {})
    _end_all(tx, user, but, "password")


def _audit(tx: Transaction, user: str, action: str, entity: str, outcome: str, detail: Mapping[str, Any]) -> None:
    tx.execute(
        "SELECT audit_as(%s, %s, %s, %s, NULL, %s, %s)",
        (f"user:{user}" if user else "nobody", action, action.split(".")[0], entity, outcome,
         orjson.dumps(dict(detail)).decode()),
    )  # fmt: skip


#: For the accounts' own module.
audit_as = _audit
end_all = _end_all
set_password = _set_password
