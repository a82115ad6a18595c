"""Passwords and second factors of accounts: set up, changed, reset."""

from __future__ import annotations

from datetime import UTC, datetime

from vitalgate.records.catalogue import RECORDS
from vitalgate.records.errors import Conflict, Invalid, NotLoggedIn
from vitalgate.records.session_rules import RESET, Argon2, check_password
from vitalgate.storage import records_passwords as passwords
from vitalgate.storage.records_account_rows import audit_as, by_email, by_id, end_all, totp_of
from vitalgate.storage.records_database import RecordsDatabase, Transaction
from vitalgate.storage.records_keys import sealed, unsealed

COST = Argon2()


def begin_second_factor(db: RecordsDatabase, user_id: str) -> str:
    """A new secret for an authenticator, as an otpauth URI; in force once a code of it was shown. Raises Conflict."""
    secret = passwords.new_totp()
    with db.accounts() as tx:
        account = by_id(tx, user_id)
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
        account = by_id(tx, user_id)
        if account is None or account.totp_secret is None or account.totp_confirmed_at is not None:
            raise Conflict("no second factor has been begun")
        step = passwords.totp_step(totp_of(tx, account), code, datetime.now(UTC).timestamp(), None)
        if step is None:
            raise Invalid("the code is wrong; look at the authenticator's clock", [("code", "is wrong")])
        tx.execute(
            "UPDATE users SET totp_confirmed_at = now(), totp_last_step = %s, version = version + 1 WHERE id = %s",
            (step, user_id),
        )
        audit_as(tx, user_id, "user.second_factor", user_id, "success", {"on": True})


def drop_second_factor(db: RecordsDatabase, user_id: str, password: str, *, cost: Argon2 = COST) -> None:
    """Log in without a code again. Raises NotLoggedIn for a wrong password."""
    with db.accounts() as tx:
        account = by_id(tx, user_id)
        if account is None or not passwords.matches(account.password_hash, password, cost):
            raise NotLoggedIn("wrong password")
        tx.execute(
            "UPDATE users SET totp_secret = NULL, totp_confirmed_at = NULL, totp_last_step = NULL,"
            " version = version + 1 WHERE id = %s",
            (user_id,),
        )
        audit_as(tx, user_id, "user.second_factor", user_id, "success", {"on": False})


def change_password(
    db: RecordsDatabase, user_id: str, old: str, new: str, *, session_id: str = "", cost: Argon2 = COST
) -> None:
    """Set another password; all other sessions end. Raises NotLoggedIn for a wrong old one, Invalid for a weak new."""
    with db.accounts() as tx:
        account = by_id(tx, user_id)
        if account is None or not passwords.matches(account.password_hash, old, cost):
            raise NotLoggedIn("wrong password")
        set_password(tx, user_id, new, cost, but=session_id or None)


def ask_reset(db: RecordsDatabase, email: str, *, place: str = "") -> str | None:
    """A token to set a new password with, for the account's owner by e-mail; None when there is no account.

    The caller answers the same either way.
    """
    with db.accounts(place) as tx:
        account = by_email(tx, email)
        if account is None or account.status != "active":
            return None
        token, kept = passwords.new_token()
        tx.execute(
            "INSERT INTO user_tokens (hash, user_id, purpose, expires_at) VALUES (%s, %s, 'reset', %s)",
            (kept, account.id, datetime.now(UTC) + RESET),
        )
        audit_as(tx, account.id, "user.ask_reset", account.id, "success", {})
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
        set_password(tx, row[0], new, cost)
        return str(row[0])


def set_password(tx: Transaction, user: str, new: str, cost: Argon2, *, but: str | None = None) -> None:
    """Set a password; all sessions but one end. Raises Invalid for a weak one."""
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
    audit_as(tx, user, "user.password", user, "success", {})
    end_all(tx, user, but, "password")
