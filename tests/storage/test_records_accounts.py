"""Signing up, logging in, sessions, second factors, lock-out; and `vitalgate user`, its secrets on standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pyotp
import pytest

from tests.storage.records_cast import KEYS, patient
from vitalgate.config.settings import DatabaseSettings
from vitalgate.pki.keyring import KeyRing, new_ring, rotated, write
from vitalgate.records.errors import Conflict, Invalid, LockedOut, NotAllowed, NotFound, NotLoggedIn
from vitalgate.records.permissions import Role
from vitalgate.records.session_rules import Argon2
from vitalgate.storage import records_accounts as accounts
from vitalgate.storage import records_login as login
from vitalgate.storage.records_database import Actor, RecordsDatabase
from vitalgate.storage.records_read import Query, find, versions
from vitalgate.storage.records_reseal import reseal
from vitalgate.storage.records_write import create, transition

#: Accounts are no tables over time: one form of the database is enough.
pytestmark = pytest.mark.parametrize("migrated", ["plain"], indirect=True)
CHEAP = Argon2(memory_kib=256, time=1, lanes=1)
GOOD = "correct horse battery"


@pytest.fixture
def db(database: DatabaseSettings) -> Iterator[RecordsDatabase]:
    """Records of an empty database with one patient."""
    with RecordsDatabase(database, KEYS, most=3, application="test") as made:
        with made.service("user:tester") as tx:
            patient(tx, "p-1")
        yield made


def _invited(db: RecordsDatabase, email: str, role: Role, **named: str) -> str:
    with db.service("user:tester") as tx:
        token = accounts.invite(tx, email, role, **named)
    return accounts.sign_up(db, email, GOOD, "Erika", role, invitation=token, cost=CHEAP).user_id


def _in(db: RecordsDatabase, email: str, password: str = GOOD, **more: Any) -> login.LoggedIn:
    return login.log_in(db, email, password, cost=CHEAP, **more)


def test_sign_up_proof_and_approval(db: RecordsDatabase) -> None:
    made = accounts.sign_up(db, "Doc@Example.org", GOOD, "Dr Muster", "clinician", cost=CHEAP)
    assert made.status == "pending"
    with pytest.raises(NotLoggedIn):
        _in(db, "doc@example.org")
    assert accounts.verify_email(db, made.email_token) == made.user_id
    with pytest.raises(Invalid):
        accounts.verify_email(db, made.email_token)
    with pytest.raises(NotLoggedIn):
        _in(db, "doc@example.org")
    admin = Actor(_invited(db, "admin@example.org", Role.ADMINISTRATOR), Role.ADMINISTRATOR)
    with db.acting(admin) as tx:
        record = accounts.approve(tx, made.user_id, clinician="dr-muster")
    assert (record.values["status"], record.values["clinician"]) == ("active", "dr-muster")
    assert _in(db, "DOC@example.org ").roles == (Role.CLINICIAN,)
    with db.acting(admin) as tx, pytest.raises(Conflict):
        accounts.approve(tx, made.user_id, clinician="dr-muster")
    for wrong in ({"email": "no"}, {"password": "short"}, {"role": "administrator"}, {"name": " "}):
        values = {"email": "x@example.org", "password": GOOD, "name": "X Y", "role": "patient"} | wrong
        with pytest.raises(Invalid):
            accounts.sign_up(db, *(values[key] for key in ("email", "password", "name", "role")), cost=CHEAP)
    with pytest.raises(Conflict):
        accounts.sign_up(db, "doc@example.org", GOOD, "Another", "patient", cost=CHEAP)


def test_invitations_are_for_one_address_once(db: RecordsDatabase) -> None:
    with db.service("user:tester") as tx:
        token = accounts.invite(tx, "erika@example.org", "patient", patient="p-1")
    with pytest.raises(Invalid):
        accounts.sign_up(db, "other@example.org", GOOD, "Other", "patient", invitation=token, cost=CHEAP)
    made = accounts.sign_up(db, "erika@example.org", GOOD, "Erika", "patient", invitation=token, cost=CHEAP)
    assert made.status == "active"
    with pytest.raises(Invalid):
        accounts.sign_up(db, "erika@example.org", GOOD, "Erika", "patient", invitation=token, cost=CHEAP)
    actor = Actor(made.user_id, Role.PATIENT)
    with pytest.raises(NotAllowed), db.acting(actor) as tx:
        accounts.invite(tx, "x@example.org", "administrator")
    for act in (accounts.disable, accounts.enable, lambda tx, one: accounts.grant(tx, one, "administrator")):
        with pytest.raises(NotAllowed), db.acting(actor) as tx:
            act(tx, made.user_id)
    with db.acting(actor) as tx:
        me = accounts.me(tx).document()
        assert (me["email"], me["patient"], me["roles"]) == ("erika@example.org", "p-1", ["patient"])
        assert "password" not in json.dumps(me, default=str)


def test_sessions_refresh_reuse_and_everywhere(db: RecordsDatabase) -> None:
    user = _invited(db, "erika@example.org", Role.PATIENT, patient="p-1")
    first = _in(db, "erika@example.org", application="phone", place="192.0.2.1")
    other = _in(db, "erika@example.org")
    assert login.authenticate(db, first.access_token).user_id == user
    second = login.refresh(db, first.refresh_token)
    assert second.session_id == first.session_id
    login.authenticate(db, second.access_token)
    for wrong in (first.access_token, "nonsense", second.access_token):
        with pytest.raises(NotLoggedIn):
            login.refresh(db, wrong)
    with pytest.raises(NotLoggedIn):
        login.refresh(db, first.refresh_token)  # a second time: somebody has stolen it
    for token in (first.access_token, second.access_token):
        with pytest.raises(NotLoggedIn):
            login.authenticate(db, token)
    with pytest.raises(NotLoggedIn):
        login.refresh(db, second.refresh_token)
    with db.acting(Actor(user, Role.PATIENT)) as tx:
        seen = {one.id: one.document() for one in find(tx, "session").records}
    assert seen[first.session_id]["endedBecause"] == "reuse"
    assert (seen[first.session_id]["application"], seen[first.session_id]["place"]) == ("phone", "")
    login.authenticate(db, other.access_token)
    assert login.log_out_everywhere(db, user) == 1
    with pytest.raises(NotLoggedIn):
        login.authenticate(db, other.access_token)


def test_everything_over_is_over(db: RecordsDatabase) -> None:
    user = _invited(db, "erika@example.org", Role.PATIENT, patient="p-1")
    ends: list[Callable[[login.LoggedIn], object]] = [
        lambda one: login.log_out(db, one.session_id, user),
        lambda _: _run(db, "UPDATE session_tokens SET expires_at = now()"),
        lambda _: _run(db, "UPDATE sessions SET expires_at = now()"),
        lambda _: _as_operator(db, accounts.disable, user),
    ]
    for end in ends:
        one = _in(db, "erika@example.org")
        login.authenticate(db, one.access_token)
        end(one)
        with pytest.raises(NotLoggedIn):
            login.authenticate(db, one.access_token)
        with pytest.raises(NotLoggedIn):
            login.refresh(db, one.refresh_token)
    with pytest.raises(NotLoggedIn):
        _in(db, "erika@example.org")
    _as_operator(db, accounts.enable, user)
    _in(db, "erika@example.org")


def _run(db: RecordsDatabase, text: str) -> None:
    with db.service("user:tester") as tx:
        tx.execute(text)


def _as_operator(db: RecordsDatabase, act: Callable[..., object], user: str) -> None:
    with db.service("user:tester") as tx:
        act(tx, user)


def test_lock_out(db: RecordsDatabase) -> None:
    _invited(db, "erika@example.org", Role.PATIENT, patient="p-1")
    for _ in range(5):
        with pytest.raises(NotLoggedIn):
            _in(db, "erika@example.org", "wrong password here")
    with pytest.raises(LockedOut) as locked:
        _in(db, "erika@example.org")
    assert 0 < locked.value.retry_s <= 61
    _run(db, "UPDATE users SET locked_until = now()")
    _in(db, "erika@example.org")
    with pytest.raises(NotLoggedIn):
        _in(db, "nobody@example.org")
    with db.service("user:tester") as tx:
        told = tx.execute(
            "SELECT outcome, detail->>'because' FROM audit_outbox WHERE action = 'session.create' ORDER BY n"
        ).fetchall()
    assert told == [*[("refused", "wrong")] * 5, ("refused", "locked"), ("success", None), ("refused", "unknown")]


def test_second_factor(db: RecordsDatabase) -> None:
    user = _invited(db, "erika@example.org", Role.PATIENT, patient="p-1")
    uri = login.begin_second_factor(db, user)
    secret = parse_qs(urlparse(uri).query)["secret"][0]
    code = pyotp.TOTP(secret)
    with pytest.raises(Invalid):
        login.confirm_second_factor(db, user, "000000" if code.now() != "000000" else "111111")
    assert not _in(db, "erika@example.org").second_factor_needed
    used = code.at(time.time() - 30)
    login.confirm_second_factor(db, user, used)
    asked = _in(db, "erika@example.org")
    assert asked.second_factor_needed
    assert not asked.access_token
    with pytest.raises(NotLoggedIn):
        _in(db, "erika@example.org", code=used)  # a code is good once
    done = _in(db, "erika@example.org", code=code.at(time.time() + 30))
    assert login.authenticate(db, done.access_token).second_factor
    with pytest.raises(Conflict):
        login.begin_second_factor(db, user)
    with pytest.raises(NotLoggedIn):
        login.drop_second_factor(db, user, "wrong password here", cost=CHEAP)
    login.drop_second_factor(db, user, GOOD, cost=CHEAP)
    assert not _in(db, "erika@example.org").second_factor_needed


def test_other_passwords_and_single_sign_on(db: RecordsDatabase) -> None:
    user = _invited(db, "erika@example.org", Role.PATIENT, patient="p-1")
    kept = _in(db, "erika@example.org")
    other = _in(db, "erika@example.org")
    with pytest.raises(NotLoggedIn):
        login.change_password(db, user, "wrong password here", "another good one", cost=CHEAP)
    with pytest.raises(Invalid):
        login.change_password(db, user, GOOD, "erika example", cost=CHEAP)
    login.change_password(db, user, GOOD, "another good one", session_id=kept.session_id, cost=CHEAP)
    login.authenticate(db, kept.access_token)
    with pytest.raises(NotLoggedIn):
        login.authenticate(db, other.access_token)
    assert login.ask_reset(db, "nobody@example.org") is None
    token = login.ask_reset(db, "erika@example.org")
    assert token is not None
    assert login.reset_password(db, token, GOOD, cost=CHEAP) == user
    with pytest.raises(NotLoggedIn):
        login.reset_password(db, token, GOOD, cost=CHEAP)
    issuer = "https://id.example.org"
    with pytest.raises(NotLoggedIn):
        login.log_in_with_issuer(db, issuer, "s-1", "")
    assert login.log_in_with_issuer(db, issuer, "s-1", "erika@example.org").user_id == user
    assert login.log_in_with_issuer(db, issuer, "s-1", "").user_id == user
    with pytest.raises(NotLoggedIn):
        login.log_in_with_issuer(db, "https://other.example.org", "s-1", "")


def test_no_secret_is_kept_in_clear(db: RecordsDatabase) -> None:
    user = _invited(db, "erika@example.org", Role.PATIENT, patient="p-1")
    told = _in(db, "erika@example.org")
    secret = parse_qs(urlparse(login.begin_second_factor(db, user)).query)["secret"][0]
    with db.service("user:tester") as tx:
        kept = ""
        for table in ("users", "sessions", "session_tokens", "user_tokens", "audit_outbox", "changes_new"):
            kept += str(tx.execute(f"SELECT t::text FROM {table} AS t").fetchall())
    for text in (GOOD, "erika@example.org", "Erika", told.access_token, told.refresh_token, secret):
        assert text not in kept
        assert text.encode().hex() not in kept


def test_rotation_of_the_key_ring(db: RecordsDatabase, database: DatabaseSettings) -> None:
    user = _invited(db, "erika@example.org", Role.PATIENT, patient="p-1")
    login.begin_second_factor(db, user)
    with db.service("user:tester") as tx:
        values = {"patient": "p-1", "medicalRecordNumber": "M 1", "fullName": "Erika", "dob": "1950-02-03"}
        create(tx, "patient_profile", values)
        transition(tx, "patient_profile", "p-1", "change", {"contact": {"phone": "1"}})
    newer = rotated(KEYS, date(2027, 1, 1), ("seal", "index"))
    with RecordsDatabase(database, newer, most=2, application="test") as other:
        assert reseal(other) == 1 + 1 + 2
        assert reseal(other) == 0
        _in(other, "erika@example.org")
    only = KeyRing(newer.seals[:1], newer.indexes[:1])
    with RecordsDatabase(database, only, most=2, application="test") as bare, bare.service("user:tester") as tx:
        (found,) = find(tx, "patient_profile", Query({"medicalRecordNumber": "m 1"})).records
        assert (found.values["display_name"], found.values["contact"], found.version) == ("Erika", {"phone": "1"}, 2)
        assert [one.values["display_name"] for one in versions(tx, "patient_profile", "p-1")] == ["Erika"] * 2


def test_the_command(database: DatabaseSettings, tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    write(ring, new_ring(date(2026, 1, 1)))
    environment = {
        **os.environ, "VITALGATE_DATABASE_DSN": database.dsn, "VITALGATE_DATABASE_DB_SCHEMA": database.db_schema,
        "VITALGATE_SECURITY_KEYS_FILE": str(ring),
    }  # fmt: skip

    def run(*words: str, said: str = "", status: int = 0) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "vitalgate.cli", "user", *words, "--data", str(tmp_path)], input=said, text=True,
            capture_output=True, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout + done.stderr

    new = ("add", "ada@example.org", "--role", "administrator", "--name", "Ada", "--password-stdin", "--json")
    made = run(*new, said=f"{GOOD}\n")
    assert (made["email"], made["roles"], made["status"]) == ("ada@example.org", ["administrator"], "active")
    assert "characters" in run(*new[:-1], said="short\n", status=1)
    assert "--password-stdin" in run("add", "b@example.org", "--role", "administrator", "--name", "B", status=2)
    assert [one["id"] for one in run("list", "--json")] == [made["id"]]
    assert run("show", "ada@example.org", "--json")["sessions"] == []
    assert run("disable", "ada@example.org", "--json")["status"] == "disabled"
    assert "active" in run("enable", made["id"])
    assert "no user" in run("show", "nobody", status=1)
    run("reset-password", made["id"], "--password-stdin", said="another good password\n")


def test_lists_of_users_are_for_administrators(db: RecordsDatabase) -> None:
    user = _invited(db, "erika@example.org", Role.PATIENT, patient="p-1")
    admin = _invited(db, "admin@example.org", Role.ADMINISTRATOR)
    with db.acting(Actor(user, Role.PATIENT)) as tx:
        assert [one.id for one in find(tx, "user").records] == [user]
        assert accounts.find_user(tx, "admin@example.org") is None
    with db.acting(Actor(admin, Role.ADMINISTRATOR)) as tx:
        assert {one.id for one in find(tx, "user").records} == {user, admin}
        assert [one.id for one in find(tx, "user", Query({"email": "erika@example.org"})).records] == [user]
        with pytest.raises(NotFound):
            accounts.disable(tx, "nobody")
