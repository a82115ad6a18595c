"""Add clinicians, give them teams, revoke, list and show them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings

if TYPE_CHECKING:
    from vitalgate.stream.clinicians import Told

_PERSON = "vitalgate.clinician.person"
LATER = "not applied yet: the registrar will do it when it runs (vitalgate status shows whether it does)"


@click.group()
@click.option(
    "--as", "name", metavar="NAME",
    help="In whose name the change is made, for the audit; the operating system's user when left out.",
)  # fmt: skip
@click.pass_context
def command(ctx: click.Context, name: str | None) -> None:
    """Clinicians: who sees and answers the alerts of which teams, over MQTT."""
    if name is not None and not (name.isprintable() and 0 < len(name) <= 100 and name == name.strip()):
        raise Misuse(f"--as {name!r}: use 1 to 100 printable characters")
    ctx.meta[_PERSON] = name


def _person() -> str:
    from vitalgate.storage.registry_user import user

    name = click.get_current_context().meta.get(_PERSON)
    return f"user:{name}" if name else user()


@contextmanager
def _failing() -> Iterator[None]:
    from vitalgate.gateway.access import AccessError
    from vitalgate.gateway.link import LinkDown
    from vitalgate.storage.errors import StorageError
    from vitalgate.stream.enrolment import EnrolmentError

    try:
        yield
    except (StorageError, LinkDown, AccessError, EnrolmentError) as error:
        raise Failure(str(error)) from error


@command.command()
@click.argument("user")
@click.option("--team", "teams", multiple=True, metavar="TEAM", help="A team whose alerts they see; may be repeated.")
@click.option("--name", default="", help="As people call them.")
@json_option
def add(user: str, teams: tuple[str, ...], name: str, as_json: bool) -> None:
    """Add a clinician and print the password of the broker's USER, this once.

    The password is stored nowhere; `vitalgate clinician password USER` sets a new one.
    """
    from vitalgate.stream import clinicians

    with _failing():
        _tell(clinicians.add(settings().settings, user, name, teams, who=_person()), as_json=as_json)


@command.command()
@click.argument("user")
@json_option
def password(user: str, as_json: bool) -> None:
    """Give a clinician a new password and print it, this once; their connections are cut."""
    from vitalgate.stream import clinicians

    with _failing():
        _tell(clinicians.new_credentials(settings().settings, user, who=_person()), as_json=as_json)


def _tell(told: Told, *, as_json: bool) -> None:
    if as_json:
        print_json({"clinician": told.username, "username": told.username, "password": told.password})
    else:
        click.echo(f"user name {told.username}  password {told.password}")
    _later(told.applied)


def _later(applied: bool) -> None:
    if not applied:
        click.echo(LATER, err=True)


@command.command()
@click.argument("user")
@click.option("--team", "teams", multiple=True, metavar="TEAM", help="Give them this team; may be repeated.")
@click.option("--not-team", "others", multiple=True, metavar="TEAM", help="Take this team away; may be repeated.")
@json_option
def assign(user: str, teams: tuple[str, ...], others: tuple[str, ...], as_json: bool) -> None:
    """Give a clinician teams, or take teams away; the broker obeys with the next message."""
    from vitalgate.storage.registry_clinicians import CareRegistry
    from vitalgate.stream.enrolment import APPLY_S

    if not teams and not others:
        raise Misuse("name --team TEAM or --not-team TEAM")
    with _failing(), CareRegistry(settings().settings.database, who=_person()) as registry:
        change = registry.assign_clinician(user, teams, others)
        applied = registry.wait_applied(change.outbox, APPLY_S)
        now = registry.clinicians(user)[0].teams
    if as_json:
        print_json({"clinician": user, "teams": now, "changed": change.outbox is not None, "applied": applied})
    else:
        click.echo(f"{user}: {', '.join(now) or 'no team'}{'' if change.outbox else ' (nothing changes)'}")
    _later(applied)


@command.command()
@click.argument("users", metavar="USER...", nargs=-1, required=True)
@json_option
def revoke(users: tuple[str, ...], as_json: bool) -> None:
    """Take access away from clinicians at once: connections are cut; what they did stays."""
    from vitalgate.storage.registry_clinicians import CareRegistry
    from vitalgate.stream.enrolment import APPLY_S

    with _failing(), CareRegistry(settings().settings.database, who=_person()) as registry:
        changes = [registry.revoke_clinician(user) for user in users]
        applied = registry.wait_applied(changes[-1].outbox, APPLY_S)
    if as_json:
        print_json({"revoked": list(users), "applied": applied})
    else:
        click.echo("\n".join(f"{user} revoked" for user in users))
    _later(applied)


@command.command("list")
@click.option("--team", help="Only of this team.")
@json_option
def list_(team: str | None, as_json: bool) -> None:
    """List the clinicians with their teams."""
    from vitalgate.storage.registry_clinicians import CareRegistry

    with _failing(), CareRegistry(settings().settings.database) as registry:
        found = [one for one in registry.clinicians() if team is None or team in one.teams]
    if as_json:
        print_json([one.document() for one in found])
        return
    for one in found:
        click.echo(f"{one.clinician_id:<24} {one.state:<8} {', '.join(one.teams) or '-':<30} {one.name}".rstrip())
    if not found:
        click.echo("No clinicians.")


@command.command()
@click.argument("user")
@json_option
def show(user: str, as_json: bool) -> None:
    """Show a clinician, and the topics that are theirs."""
    from vitalgate.gateway.alert_topics import clinician_topics
    from vitalgate.storage.registry_clinicians import CareRegistry

    with _failing(), CareRegistry(settings().settings.database) as registry:
        found = registry.clinicians(user)
    if not found:
        raise Failure(f"no clinician {user!r}; `vitalgate clinician list` shows those there are")
    one = found[0]
    topics = clinician_topics(user, one.teams) if one.state == "active" else {"read": [], "write": []}
    if as_json:
        print_json(one.document() | {"topics": topics})
        return
    for key, value in one.document().items():
        if value not in (None, "", []):
            click.echo(f"{key:<12} {', '.join(value) if isinstance(value, list) else value}")
    for kind, names in topics.items():
        for name in names:
            click.echo(f"{'may ' + kind:<12} {name}")
