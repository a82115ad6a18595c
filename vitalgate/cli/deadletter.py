"""Dead letters: list them, show one, send them through again."""

from __future__ import annotations

from datetime import datetime

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings
from vitalgate.cli._times import TIME


@click.group()
def command() -> None:
    """What could not be accepted: list it, show it with its original bytes, send it through again after a fix."""


_reason = click.option("--reason", help="Reason code, such as unknown_device.")
_device = click.option("--device", help="Device id.")
_from = click.option("--from", "start", type=TIME, help="Received at or after this time.")
_to = click.option("--to", "stop", type=TIME, help="Received before this time.")
_limit = click.option("--limit", default=1000, show_default=True, help="At most so many, the oldest first.")


@command.command("list")
@_reason
@_device
@_from
@_to
@_limit
@click.option("--all", "resolved", is_flag=True, help="Those that were resolved by a replay as well.")
@json_option
def list_(
    reason: str | None, device: str | None, start: datetime | None, stop: datetime | None, limit: int, resolved: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """List dead letters, oldest first."""
    from vitalgate.storage.deadletter_store import DeadLetters, Wanted
    from vitalgate.storage.errors import StorageError

    try:
        found = DeadLetters(settings().settings.database).find(
            Wanted(None, reason, device, start, stop, resolved, limit)
        )
    except StorageError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json([dead.document() for dead in found])
        return
    for dead in found:
        click.echo(dead.line())
    if not found:
        click.echo("No dead letters.")


@command.command()
@click.argument("number", type=int)
@json_option
def show(number: int, as_json: bool) -> None:
    """Show one dead letter with its original bytes."""
    from vitalgate.storage.deadletter_store import DeadLetters, Wanted
    from vitalgate.storage.errors import StorageError

    try:
        found = DeadLetters(settings().settings.database).find(Wanted(ids=[number], resolved=True))
    except StorageError as error:
        raise Failure(str(error)) from error
    if not found:
        raise Failure(f"there is no dead letter {number}; `vitalgate deadletter list` shows those there are")
    document = found[0].document()
    if as_json:
        print_json(document)
    else:
        for name, value in document.items():
            if value is not None:
                click.echo(f"{name:<13} {value}")


@command.command()
@click.argument("numbers", type=int, nargs=-1)
@_reason
@_device
@_from
@_to
@_limit
@click.option("--again", is_flag=True, help="Those too that were replayed before and are not resolved.")
@json_option
def replay(
    numbers: tuple[int, ...], reason: str | None, device: str | None, start: datetime | None, stop: datetime | None,
    limit: int, again: bool, as_json: bool,
) -> None:  # fmt: skip
    """Send dead letters through again, as new raw records that name the old ones.

    Name them by number, or choose them by --reason, --device, --from and --to. One that goes through is resolved; one
    that is refused again stays open. Replaying twice does nothing twice.
    """
    from vitalgate.storage.deadletter_store import DeadLetters, Wanted
    from vitalgate.storage.errors import StorageError
    from vitalgate.stream.audit_inbox import AuditEvent, tell_audit
    from vitalgate.stream.errors import NotDeliveredError

    if not numbers and not (reason or device or start or stop):
        raise click.UsageError("say which: numbers, or at least one of --reason, --device, --from, --to")
    given = settings().settings
    try:
        done = DeadLetters(given.database).replay(
            Wanted(list(numbers) or None, reason, device, start, stop, False, limit), given.kafka, again=again
        )
        for dead in done.sent:
            tell_audit(
                given.kafka,
                AuditEvent("dead_letter_replayed", "dead_letter", dead.dead_id, str(dead.replays + 1), {"id": dead.id}),
                "deadletter replay",
            )
    except (StorageError, NotDeliveredError) as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json({"replayed": [dead.id for dead in done.sent], "refused": dict(done.refused)})
        return
    click.echo(f"{len(done.sent)} sent through again.")
    for number, why in done.refused:
        click.echo(f"{number}: not sent, {why}")
