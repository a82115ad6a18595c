"""Add users of the applications, list, show and approve them, disable them, set a new password."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings

if TYPE_CHECKING:
    from vitalgate.storage.records_database import RecordsDatabase
    from vitalgate.storage.records_read import Record

_ROLES = click.Choice(["patient", "clinician", "administrator", "device_manager"])
_STDIN = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input (one line) instead of asking."
)


@click.group()
def command() -> None:
    """Users of the applications: patients, clinicians, administrators, device managers.

    A USER is named by e-mail address or id. Passwords are asked for, or read from standard input; never given on the
    command line, and shown nowhere.
    """


@contextmanager
def _database() -> Iterator[RecordsDatabase]:
    from vitalgate.config.loading import SettingsError
    from vitalgate.pki.keyring import BadKeyRing, read
    from vitalgate.pki.sealing import SealError
    from vitalgate.records.errors import RecordError
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.records_database import RecordsDatabase

    given = settings().settings
    try:
        with RecordsDatabase(
            given.database, read(given.security.keys_file), most=1, team=given.alerting.default_team,
            application="command",
        ) as database:  # fmt: skip
            yield database
    except (RecordError, StorageError, BadKeyRing, SealError, SettingsError) as error:
        raise Failure(str(error)) from error


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Misuse("no terminal to ask for the password at: give --password-stdin and the password in one line")
    text: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return text


def _who() -> str:
    from vitalgate.storage.registry_user import user

    return user()


def _found(database: RecordsDatabase, name: str) -> str:
    from vitalgate.records.errors import NotFound
    from vitalgate.storage import records_accounts, records_read

    with database.service(_who()) as tx:
        if "@" in name:
            found = records_accounts.find_user(tx, name)
            if found is None:
                raise Failure(f"no user has the e-mail address {name!r}; `vitalgate user list` shows those there are")
            return found
        try:
            return records_read.get(tx, "user", name).id
        except NotFound as error:
            raise Failure(f"no user {name!r}; `vitalgate user list` shows those there are") from error


def _tell(record: Record, *, as_json: bool) -> None:
    document = record.document()
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        if value not in (None, "", []):
            click.echo(f"{key:<16} {', '.join(value) if isinstance(value, list) else value}")


@command.command()
@click.argument("email")
@click.option("--role", type=_ROLES, required=True, help="In which the user acts.")
@click.option("--name", required=True, help="As others call them.")
@click.option("--patient", metavar="ID", help="The patient that the user is (role patient).")
@click.option("--clinician", metavar="NAME", help="The clinician that the user is (role clinician).")
@_STDIN
@json_option
def add(
    email: str, role: str, name: str, patient: str | None, clinician: str | None, password_stdin: bool, as_json: bool
) -> None:
    """Add an active user with this EMAIL address; asks for the password.

    A clinician sees the patients on whose care team they are (`vitalgate clinician assign` for whole teams).
    """
    from vitalgate.records.session_rules import check_password
    from vitalgate.storage import records_accounts, records_read

    with _database() as database:
        password = _password(password_stdin)
        check_password(password, email, name)
        with database.service(_who()) as tx:
            invitation = records_accounts.invite(tx, email, role, patient=patient, clinician=clinician)
        made = records_accounts.sign_up(database, email, password, name, role, invitation=invitation)
        with database.service(_who()) as tx:
            record = records_read.get(tx, "user", made.user_id)
    _tell(record, as_json=as_json)


@command.command("list")
@click.option("--role", type=_ROLES, help="Only those with this role.")
@click.option("--status", type=click.Choice(["pending", "active", "disabled"]), help="Only those in this state.")
@json_option
def list_(role: str | None, status: str | None, as_json: bool) -> None:
    """List the users."""
    from vitalgate.storage.records_read import Query, find

    found: list[dict[str, Any]] = []
    after: str | None = ""
    with _database() as database, database.service(_who()) as tx:
        while after is not None:
            page = find(tx, "user", Query({"status": status} if status else {}, "createdAt", 500, after))
            found += [one.document() for one in page.records if role is None or role in one.values["roles"]]
            after = page.next
    if as_json:
        print_json(found)
        return
    for one in found:
        is_ = one["patient"] or one["clinician"] or "-"
        click.echo(f"{one['id']:<36}  {one['status']:<8} {','.join(one['roles']) or '-':<26} {is_:<16} {one['email']}")
    if not found:
        click.echo("No users.")


@command.command()
@click.argument("user")
@json_option
def show(user: str, as_json: bool) -> None:
    """Show a user, with the sessions that are open."""
    from vitalgate.storage.records_read import Query, find, get

    with _database() as database:
        identity = _found(database, user)
        with database.service(_who()) as tx:
            record = get(tx, "user", identity)
            sessions = find(tx, "session", Query({"user": identity}, limit=100)).records
    open_ = [one.document() for one in sessions if one.values["ended_at"] is None]
    if as_json:
        print_json(record.document() | {"sessions": open_})
        return
    _tell(record, as_json=False)
    for one in open_:
        click.echo(
            f"{'session':<16} {one['id']}  since {one['createdAt']}  {one['application']} {one['place']}".rstrip()
        )


@command.command()
@click.argument("user")
@click.option("--role", type=_ROLES, help="The role; told from --patient or --clinician when left out.")
@click.option("--patient", metavar="ID", help="The patient that the user is.")
@click.option("--clinician", metavar="NAME", help="The clinician that the user is.")
@json_option
def approve(user: str, role: str | None, patient: str | None, clinician: str | None, as_json: bool) -> None:
    """Make the account of somebody who signed up active, as the patient or clinician that they are."""
    from vitalgate.storage import records_accounts

    if role is None and patient is None and clinician is None:
        raise Misuse("say who the account is: --patient ID, --clinician NAME, or --role for another role")
    with _database() as database:
        identity = _found(database, user)
        with database.service(_who()) as tx:
            record = records_accounts.approve(tx, identity, role=role, patient=patient, clinician=clinician)
    _tell(record, as_json=as_json)


@command.command()
@click.argument("user")
@json_option
def disable(user: str, as_json: bool) -> None:
    """Take all access away, at once: every session ends; what the user did stays."""
    from vitalgate.storage import records_accounts

    with _database() as database:
        identity = _found(database, user)
        with database.service(_who()) as tx:
            record = records_accounts.disable(tx, identity)
    _tell(record, as_json=as_json)


@command.command()
@click.argument("user")
@json_option
def enable(user: str, as_json: bool) -> None:
    """Give access back, and end a lock-out."""
    from vitalgate.storage import records_accounts

    with _database() as database:
        identity = _found(database, user)
        with database.service(_who()) as tx:
            record = records_accounts.enable(tx, identity)
    _tell(record, as_json=as_json)


@command.command("reset-password")
@click.argument("user")
@_STDIN
@json_option
def reset_password(user: str, password_stdin: bool, as_json: bool) -> None:
    """Set another password for a user; asks for it. Every session ends."""
    from vitalgate.storage import records_accounts, records_read

    with _database() as database:
        identity = _found(database, user)
        chosen = _password(password_stdin)
        with database.service(_who()) as tx:
            records_accounts.set_password_of(tx, identity, chosen)
            record = records_read.get(tx, "user", identity)
    _tell(record, as_json=as_json)


@command.command()
@json_option
def reseal(as_json: bool) -> None:
    """Put what identifies people under the key ring's current keys, after `vitalgate keys rotate`.

    After it says 0, the ring's earlier keys are not needed for people any more. Safe to run at any time, and again.
    """
    from vitalgate.storage.records_reseal import reseal as work

    with _database() as database:
        changed = work(database)
    if as_json:
        print_json({"resealed": changed})
    else:
        click.echo(f"{changed} rows are under the key ring's current keys now.")
