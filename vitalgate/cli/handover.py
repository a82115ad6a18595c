"""Alerts handed over by webhook, e-mail and Apprise: destinations, their check, a test, what was delivered."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings
from vitalgate.cli._times import TIME

if TYPE_CHECKING:
    from vitalgate.handover.destinations import Destinations


@click.group()
def command() -> None:
    """Alerts handed over by webhook, e-mail and Apprise: destinations, their check, a test, what was delivered.

    The destinations stand in the file that the setting handover.destinations names (docs/handover.md); the worker
    `vitalgate worker handover`, a part of `vitalgate up`, tells them and reads the file anew when it changes.
    """


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the destinations: how each is reached, whom it is for, and how much it is told. Secrets are not shown."""
    book = _book()
    rows: list[dict[str, Any]] = [
        {
            "name": name, "kind": one.kind, "for": one.clinician or "", "teams": list(one.teams),
            "priority": one.priority, "detail": one.detail, "quiet_hours": one.quiet_hours, "time_zone": one.time_zone,
            "technical": one.technical, "per_minute": one.per_minute,
        }
        for name, one in book.destination.items()
    ]  # fmt: skip
    if as_json:
        print_json(rows)
        return
    for row in rows:
        quiet = f", quiet {row['quiet_hours']} {row['time_zone']}" if row["quiet_hours"] else ""
        whose = f"{row['for']} of " if row["for"] else ""
        click.echo(
            f"{row['name']:<20} {row['kind']:<8} {whose}{', '.join(row['teams']) or 'all teams'};"
            f" {row['priority']} priority and above; detail: {row['detail']}{quiet}"
        )
    if not rows:
        click.echo("No destinations: alerts are on Kafka and MQTT only. docs/handover.md has examples.")


@command.command()
@click.option("--offline", is_flag=True, help="Look at the file and its secrets only, not at teams and clinicians.")
@json_option
def check(offline: bool, as_json: bool) -> None:
    """Check the file of destinations: what cannot work fails, what will not be told is said.

    Nothing is sent; `vitalgate handover test NAME` does that.
    """
    from vitalgate.handover.coverage import gaps
    from vitalgate.handover.senders import secret_faults

    book = _book()
    faults = [fault for name, one in book.destination.items() for fault in secret_faults(name, one, book)]
    found: list[str] = [] if offline else gaps(book, *_people())
    if as_json:
        print_json({"destinations": len(book.destination), "faults": faults, "gaps": found})
    else:
        for line in found:
            click.echo(f"note: {line}")
    if faults:
        raise Failure("; ".join(faults))
    if not as_json:
        click.echo(f"{len(book.destination)} destinations, all can be used.")


@command.command()
@click.argument("name")
@json_option
def test(name: str, as_json: bool) -> None:
    """Send a test notification to the destination NAME, once, from here. It is about nobody."""
    import asyncio
    import time
    import uuid

    from vitalgate.handover.destinations import DestinationsError
    from vitalgate.handover.notice import test_notice
    from vitalgate.handover.outcome import Outcome
    from vitalgate.handover.senders import sender

    book = _book()
    destination = book.destination.get(name)
    if destination is None:
        raise Misuse(f"there is no destination {name!r}; there are {', '.join(book.destination) or 'none'}")

    async def once() -> Outcome:
        one = sender(name, destination, book, settings().settings.handover.attempt_s)
        try:
            return await one.send(test_notice(name, str(uuid.uuid4()), time.time_ns() // 1000))
        finally:
            await one.close()

    try:
        outcome = asyncio.run(once())
    except DestinationsError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json({"destination": name, "result": outcome.result, "error": outcome.error})
    if outcome.result != "delivered":
        raise Failure(f"{name}: not delivered: {outcome.error}")
    if not as_json:
        click.echo(f"{name}: delivered.")


@command.command()
@click.argument("delivery", required=False)
@click.option("--patient", help="Only of this patient.")
@click.option("--destination", help="Only to this destination.")
@click.option(
    "--state", type=click.Choice(["waiting", "retrying", "late", "delivered", "failed", "withdrawn", "settled"]),
    help="Only those whose last step is this.",
)  # fmt: skip
@click.option("--from", "start", type=TIME, help="Decided on from this time on [default: a day ago].")
@json_option
def deliveries(
    delivery: str | None, patient: str | None, destination: str | None, state: str | None, start: datetime | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show what became of notifications, as Kafka holds it; with DELIVERY (its id, or the beginning) every step."""
    from vitalgate.stream.alerting_read import NoAnswerError
    from vitalgate.stream.handover_read import latest, steps

    begin = start or (datetime.now(UTC) - timedelta(days=1) if delivery is None else datetime.min.replace(tzinfo=UTC))

    def keep(one: dict[str, Any]) -> bool:
        return (
            (delivery is None or one["delivery_id"].startswith(delivery)) and patient in (None, one["patient"])
            and destination in (None, one["destination"]) and datetime.fromisoformat(one["created_at"]) >= begin
        )  # fmt: skip

    try:
        found = steps(settings().settings.kafka, keep)
    except NoAnswerError as error:
        raise Failure(str(error)) from error
    if delivery is None:
        found = [one for one in latest(found) if state in (None, one["state"])]
    if as_json:
        print_json(found)
        return
    for one in found:
        due = f", due {one['due']}" if one["due"] else ""
        why = f" ({one['error']})" if one["error"] else ""
        alarms = "1 alarm" if one["count"] == 1 else f"{one['count']} alarms"
        click.echo(
            f"{one['at']}  {one['delivery_id'][:8]}  {one['priority']:<7} {one['patient']:<16} {one['destination']:<18}"
            f" {one['state']:<9} {alarms}, {one['attempts']} attempts{due}{why}"
        )
    if not found:
        click.echo("No deliveries; --from looks further back.")


def _book() -> Destinations:
    from vitalgate.handover.destinations import DestinationsError, parse

    file = settings().settings.handover.destinations
    try:
        return parse(Path(file).read_text(encoding="utf-8") if file else "")
    except DestinationsError as error:
        raise Misuse(f"{file}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Misuse(f"file {file} (handover.destinations) cannot be read: {why}") from error


def _people() -> tuple[set[str], dict[str, frozenset[str] | None]]:
    """Teams that patients have, and teams of clinicians, from the registry's topics."""
    from vitalgate.config import topics
    from vitalgate.stream.alerting_read import NoAnswerError, newest

    loaded = settings().settings
    try:
        patients = [json.loads(value) for value in newest(loaded.kafka, topics.REGISTRY_PATIENTS).values()]
        people = {key.decode(): json.loads(v) for key, v in newest(loaded.kafka, topics.REGISTRY_CLINICIANS).items()}
    except NoAnswerError as error:
        raise Failure(f"{error}; --offline checks the file alone") from error
    teams = {patient["team"] or loaded.alerting.default_team for patient in patients}
    return teams, {
        name: frozenset(one["teams"]) if one["state"] == "active" else None for name, one in people.items()
    }  # fmt: skip
