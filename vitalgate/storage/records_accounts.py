"""Accounts: signing up, proving the e-mail address, invitations, approval; what administrators and operators do."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg

from vitalgate.records.catalogue import RECORDS
from vitalgate.records.errors import Invalid, NotAllowed
from vitalgate.records.permissions import Role
from vitalgate.records.session_rules import INVITE, VERIFY, Argon2, check_email, check_password
from vitalgate.storage import records_passwords as passwords
from vitalgate.storage.records_database import RecordsDatabase, Transaction, refusal
from vitalgate.storage.records_keys import index, indexes, sealed
from vitalgate.storage.records_login import COST, audit_as, set_password
from vitalgate.storage.records_read import Record, get


@dataclass(frozen=True)
class SignedUp:
    """What a sign-up came to."""

    user_id: str
    email_token: str = field(repr=False)
    """For the owner of the address, by e-mail; empty when the invitation has proved it."""
    status: str
    """active, or pending until somebody approves."""


def sign_up(
    db: RecordsDatabase, email: str, password: str, name: str, role: Role | str, *, invitation: str = "",
    place: str = "", cost: Argon2 = COST,
) -> SignedUp:  # fmt: skip
    """Make an account, for a patient or a clinician.

    Parameters
    ----------
    invitation
        A token from `invite`: the account is active at once, and is the patient or clinician it names.

    Raises
    ------
    Invalid
        For a weak password, an address that is none, an invitation that is over or for another address.
    Conflict
        When there is an account with this address. (An interface answers as if there were none, and writes to the
        address instead.)
    """
    email = check_email(email)
    wanted = Role(role)
    if wanted not in (Role.PATIENT, Role.CLINICIAN) and not invitation:
        raise Invalid(f"one cannot sign up as {wanted}; an administrator invites", [("role", "is by invitation")])
    if not name.strip() or len(name) > 200:
        raise Invalid("give a name of 1 to 200 characters", [("name", "is missing or too long")])
    check_password(password, email, name)
    identity = str(uuid.uuid4())
    kind = RECORDS["user"]
    with db.accounts(place) as tx:
        told = _invited(tx, invitation, email) if invitation else {}
        wanted = Role(told.get("role", wanted))
        status = "active" if told else "pending"
        tx.execute(
            "INSERT INTO users (id, email, email_index, display_name, password_hash, status, asked_role, patient_id,"
            " clinician_id, email_verified_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                identity, sealed(tx.keys, f"user/{identity}/email", email), index(tx.keys, kind, "email", email),
                sealed(tx.keys, f"user/{identity}/display_name", name.strip()), passwords.hashed(password, cost),
                status, wanted, told.get("patient"), told.get("clinician"), datetime.now(UTC) if told else None,
            ),
        )  # fmt: skip
        token = ""
        if told:
            tx.execute("INSERT INTO user_roles (user_id, role) VALUES (%s, %s)", (identity, wanted))
            if told.get("clinician"):
                tx.execute("SELECT name_clinician(%s, %s)", (told["clinician"], name.strip()))
        else:
            token, kept = passwords.new_token()
            tx.execute(
                "INSERT INTO user_tokens (hash, user_id, purpose, expires_at) VALUES (%s, %s, 'verify', %s)",
                (kept, identity, datetime.now(UTC) + VERIFY),
            )
        audit_as(tx, identity, "user.create", identity, "success", {"role": wanted, "invited": bool(told)})
    return SignedUp(identity, token, status)


def _invited(tx: Transaction, invitation: str, email: str) -> dict[str, Any]:
    row = tx.execute(
        "UPDATE user_tokens SET used_at = now() WHERE hash = %s AND purpose = 'invite' AND used_at IS NULL"
        " AND expires_at > now() RETURNING detail",
        (passwords.token_hash(invitation),),
    ).fetchone()
    if row is None or row[0].get("email_index") not in indexes(tx.keys, RECORDS["user"], "email", email):
        raise Invalid("this invitation is over, was used, or is for another address", [("invitation", "is no use")])
    return dict(row[0])


def verify_email(db: RecordsDatabase, token: str) -> str:
    """The owner of an address has it: the user's id. Raises Invalid for a token that is over or was used."""
    with db.accounts() as tx:
        row = tx.execute(
            "UPDATE user_tokens SET used_at = now() WHERE hash = %s AND purpose = 'verify' AND used_at IS NULL"
            " AND expires_at > now() RETURNING user_id",
            (passwords.token_hash(token),),
        ).fetchone()
        if row is None:
            raise Invalid("this link is over or was used; sign up again", [("token", "is no use")])
        tx.execute("UPDATE users SET email_verified_at = now(), version = version + 1 WHERE id = %s", row)
        audit_as(tx, row[0], "user.verify", row[0], "success", {})
        return str(row[0])


def invite(
    tx: Transaction, email: str, role: Role | str, *, patient: str | None = None, clinician: str | None = None
) -> str:
    """A token with which the owner of an address makes an account in this role.

    Parameters
    ----------
    patient, clinician
        Who the account will be; a patient must exist, a clinician is made.

    Raises
    ------
    NotAllowed, Invalid
    """
    email, wanted = check_email(email), Role(role)
    _check_named(wanted, patient, clinician)
    token, kept = passwords.new_token()
    facts = {
        "email_index": index(tx.keys, RECORDS["user"], "email", email), "role": wanted, "patient": patient,
        "clinician": clinician,
    }  # fmt: skip
    _refusing(
        tx, "user.invite", "SELECT invite(%s, %s, %s)",
        (kept, orjson.dumps({key: value for key, value in facts.items() if value}).decode(), INVITE),
    )  # fmt: skip
    return token


def approve(
    tx: Transaction, user_id: str, *, role: Role | str | None = None, patient: str | None = None,
    clinician: str | None = None,
) -> Record:  # fmt: skip
    """Make an account active, as the patient or clinician that it is.

    Raises NotAllowed, NotFound, Conflict (it is active or disabled), Invalid.
    """
    if role is None:
        role = Role.PATIENT if patient else Role.CLINICIAN if clinician else None
        if role is None:
            raise Invalid("say which patient or clinician the account is, or give it another role")
    wanted = Role(role)
    _check_named(wanted, patient, clinician)
    name = get(tx, "user", user_id).values["display_name"] if clinician else None
    facts = {"role": wanted, "patient": patient, "clinician": clinician, "name": name}
    return _administer(tx, user_id, "approve", {key: value for key, value in facts.items() if value})


def disable(tx: Transaction, user_id: str) -> Record:
    """Take all access away, at once; what the user did stays. Raises NotAllowed, NotFound."""
    return _administer(tx, user_id, "disable", {})


def enable(tx: Transaction, user_id: str) -> Record:
    """Give access back, and end a lock-out. Raises NotAllowed, NotFound, Conflict."""
    return _administer(tx, user_id, "enable", {})


def grant(tx: Transaction, user_id: str, role: Role | str) -> Record:
    """Give a further role: administrator or device_manager. Raises NotAllowed, NotFound, Invalid."""
    wanted = Role(role)
    if wanted in (Role.PATIENT, Role.CLINICIAN):
        raise Invalid(f"an account becomes a {wanted} by invitation or approval, which say which one")
    return _administer(tx, user_id, "grant", {"role": wanted})


def me(tx: Transaction) -> Record:
    """The acting user's own account. Raises NotFound without one."""
    return get(tx, "user", tx.actor.user_id if tx.actor is not None else "")


def find_user(tx: Transaction, email: str) -> str | None:
    """The id of the account with this address, of those that may be seen."""
    row = tx.execute(
        "SELECT id FROM user_accounts WHERE email_index = ANY(%s)",
        (indexes(tx.keys, RECORDS["user"], "email", email),),
    ).fetchone()
    return None if row is None else str(row[0])


def set_password_of(tx: Transaction, user_id: str, new: str, *, cost: Argon2 = COST) -> None:
    """Set a password as an operator (a trusted transaction); all sessions end. Raises Invalid for a weak one."""
    set_password(tx, user_id, new, cost)


def _check_named(role: Role, patient: str | None, clinician: str | None) -> None:
    if (role is Role.PATIENT) == bool(patient) and (role is Role.CLINICIAN) == bool(clinician):
        return
    if role in (Role.PATIENT, Role.CLINICIAN):
        raise Invalid(f"an account as {role} says which {role} it is, and nothing else")
    raise Invalid(f"a {role} is no patient and no clinician")


def _administer(tx: Transaction, user_id: str, verb: str, facts: dict[str, Any]) -> Record:
    _refusing(tx, f"user.{verb}", "SELECT administer(%s, %s, %s)", (user_id, verb, orjson.dumps(facts).decode()))
    return get(tx, "user", user_id)


def _refusing(tx: Transaction, action: str, text: str, values: tuple[Any, ...]) -> None:
    try:
        tx.execute(text, values)
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotAllowed("only an administrator may do this", action=action, record="user") from error
    except psycopg.Error as error:
        raise refusal(error) from error


__all__ = [
    "SignedUp", "approve", "disable", "enable", "find_user", "grant", "invite", "me", "set_password_of",
    "sign_up", "verify_email",
]  # fmt: skip
