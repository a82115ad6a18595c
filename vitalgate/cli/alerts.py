"""Alerts: list, show, acknowledge, silence, comment, history, figures, rosters, and a live table."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli import _quiet_day
from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings
from vitalgate.cli._times import TIME

if TYPE_CHECKING:
    from collections.abc import Callable

_alert = click.argument("alert")
_who = click.option("--as", "who", help="In whose name [default: who runs this].")


@click.group()
def command() -> None:
    """Alerts: list, show, acknowledge, silence, comment, history, figures, rosters, and a live table."""


command.add_command(_quiet_day.command)


@command.command("list")
@click.option("--team", help="Only of this team.")
@click.option("--patient", help="Only of this patient.")
@click.option("--priority", type=click.Choice(["high", "medium", "low"]), help="Only these.")
@json_option
def list_(team: str | None, patient: str | None, priority: str | None, as_json: bool) -> None:
    """List the alerts that are not closed, the most pressing first."""
    found = [
        alert for alert in _open()
        if team in (None, alert["team"]) and patient in (None, alert["patient"])
        and priority in (None, alert["priority"])
    ]  # fmt: skip
    if as_json:
        print_json(found)
        return
    for row in _rows(found):
        click.echo(
            f"{row['priority']:<7} {row['age']:>7}  {row['id'][:8]}  {row['patient']:<16} {row['title']:<34}"
            f" {row['value']:<14} {row['state']}"
        )
    if not found:
        click.echo("No open alerts.")


@command.command()
@_alert
@json_option
def show(alert: str, as_json: bool) -> None:
    """Show ALERT (its id, or the beginning of it): how it stands, and all that belongs to it."""
    found = _one(alert)
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if value in (None, "", [], False) or name in ("strip", "event_id"):
            continue
        click.echo(f"{name:<17} {', '.join(map(str, value)) if isinstance(value, list) else value}")
    strip = found.get("strip")
    if strip:
        there = sum(sample is not None for sample in strip.get("samples") or [])
        click.echo(
            f"{'strip':<17} {strip['device_id']} {strip['channel']} recording {strip['recording']}, samples"
            f" {strip['first_sample']} to {strip['stop_sample']} ({there} at hand)"
        )


@command.command()
@_alert
@_who
@click.option("--text", default="", help="A word with it.")
def ack(alert: str, who: str | None, text: str) -> None:
    """Acknowledge ALERT: it is not escalated any more."""
    _ask(alert, "acknowledge", who, text=text)


@command.command()
@_alert
@_who
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="For so long from now.")
@click.option("--until", type=TIME, help="Or until then.")
@click.option("--reason", required=True, help="Why.")
def silence(alert: str, who: str | None, minutes: float | None, until: datetime | None, reason: str) -> None:
    """Silence ALERT for a time, 24 hours at most; it stays on the table."""
    if (minutes is None) == (until is None):
        raise Misuse("give one of --minutes and --until")
    end = until or datetime.now(UTC) + timedelta(minutes=minutes or 0)
    _ask(alert, "silence", who, until=end, reason=reason)


@command.command()
@_alert
@_who
def unsilence(alert: str, who: str | None) -> None:
    """End the silence of ALERT."""
    _ask(alert, "unsilence", who)


@command.command()
@_alert
@click.argument("text")
@_who
def comment(alert: str, text: str, who: str | None) -> None:
    """Add a comment to ALERT, a closed one too."""
    _ask(alert, "comment", who, text=text)


@command.command()
@click.argument("alert", required=False)
@click.option("--patient", help="All alerts of this patient.")
@click.option("--from", "start", type=TIME, help="What was worked out from this time on.")
@click.option("--to", "stop", type=TIME, help="Before this time.")
@json_option
def history(
    alert: str | None, patient: str | None, start: datetime | None, stop: datetime | None, as_json: bool
) -> None:
    """Show every step of ALERT, or of all alerts of a patient, as Kafka holds them."""
    if alert is None and patient is None:
        raise Misuse("give an alert or --patient")
    found = [
        event for event in _events(start, stop)
        if (alert is None or event["alert_id"].startswith(alert)) and patient in (None, event["patient"])
    ]  # fmt: skip
    if as_json:
        print_json(found)
        return
    for event in found:
        by = f" [{event['who']}]" if event.get("who") else ""
        said = f" “{event['comment']}”" if event.get("comment") else ""
        hindsight = " (in hindsight)" if event["hindsight"] else ""
        click.echo(
            f"{event['detected_at']}  {event['alert_id'][:8]}  {event['priority']:<7}"
            f" {event.get('happened', event['state']):<13} {event['text']}{hindsight}{by}{said}"
        )
    if not found:
        raise Failure("no such events; Kafka holds them for kafka.retention_hours, view alert_events for ever")


@command.command()
@click.option("--from", "start", type=TIME, help="From this time on [default: a week ago].")
@click.option("--to", "stop", type=TIME, help="Before this time [default: now].")
@click.option("--team", help="Only of this team.")
@json_option
def stats(start: datetime | None, stop: datetime | None, team: str | None, as_json: bool) -> None:
    """Alarm fatigue in figures: per patient and day, share acknowledged, time to it, the noisiest rules."""
    from vitalgate.alerts.statistics import figures
    from vitalgate.config import topics
    from vitalgate.stream.alerting_read import NoAnswerError, newest

    now = datetime.now(UTC)
    begin, end = start or now - timedelta(days=7), stop or now
    if end <= begin:
        raise Misuse(f"--to {end.isoformat()} is not after --from {begin.isoformat()}")
    events = [event for event in _events(begin, end) if team in (None, event["team"])]
    try:
        patients = [json.loads(value) for value in newest(settings().settings.kafka, topics.REGISTRY_PATIENTS).values()]
    except NoAnswerError as error:
        raise Failure(str(error)) from error
    looked_after = sum(team in (None, patient["team"]) for patient in patients)
    if start is None and events:
        # Counted from the first event: a system that is a day old has no week behind it.
        begin = max(begin, datetime.fromisoformat(events[0]["detected_at"]))
    found = figures(events, looked_after, begin, end)
    if as_json:
        print_json(found)
        return
    share, wait = found["acknowledged_share"], found["median_time_to_acknowledge_s"]
    click.echo(f"{found['alerts']} alerts of {found['patients']} patients in {found['patient_days']} patient-days")
    click.echo(f"alerts per patient and day    {found['alerts_per_patient_day']}")
    click.echo(f"told aloud                    {found['notified']}")
    click.echo(f"acknowledged of these         {'-' if share is None else f'{100 * share:.1f} %'}")
    click.echo(f"median time to acknowledge    {'-' if wait is None else f'{wait:.0f} s'}")
    for name in ("escalated", "retracted", "hindsight", "suppressed"):
        click.echo(f"{name:<29} {found[name]}")
    for row in found["noisiest"][:10]:
        click.echo(f"  {row['rule']:<34} {row['alerts']:>6} alerts, {row['per_patient_day']:.2f} a patient and day")


@command.command()
@click.option("--team", help="Only of this team.")
@_who
def watch(team: str | None, who: str | None) -> None:
    """Show a live table of open alerts; acknowledge with a key."""
    from vitalgate.storage.registry_user import user
    from vitalgate.stream.alerting_read import NoAnswerError

    try:
        from vitalgate.stream.alerting_watch import run
    except ImportError as error:
        raise Failure(f"the live table needs rich ({error}); install vitalgate[local]") from error
    try:
        run(settings().settings.kafka, who or user(), team)
    except NoAnswerError as error:
        raise Failure(str(error)) from error


@command.group()
def roster() -> None:
    """Rosters of care teams: who is told, and who next when nobody answers."""


@roster.command("show")
@click.argument("team", required=False)
@json_option
def roster_show(team: str | None, as_json: bool) -> None:
    """Show all rosters, or TEAM's."""
    from vitalgate.stream.alerting_setting import SettingError, rosters

    found = [
        one for one in _setting(SettingError, lambda: rosters(settings().settings.kafka)) if team in (None, one.team)
    ]
    if as_json:
        print_json([one.model_dump(mode="json", by_alias=True) for one in found])
        return
    for one in found:
        click.echo(f"{one.team}: {', '.join(one.members)}")
        for priority, rungs in one.escalation.items():
            click.echo(f"  {priority:<7} {', '.join(f'after {rung.after_s:g} s to {rung.to}' for rung in rungs)}")
        for duty in one.on_call:
            click.echo(f"  on call {duty.who} {duty.from_.isoformat()} to {duty.to.isoformat()}")
    if not found:
        click.echo("No roster: alerts of teams without one do not escalate.")


@roster.command("set")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", "only", is_flag=True, help="Check it only.")
def roster_set(file: Path, only: bool) -> None:
    """Put the roster in FILE (JSON or TOML) in force for its team. One that cannot work is refused."""
    import tomllib

    from pydantic import ValidationError

    from vitalgate.alerts.profile import first_fault
    from vitalgate.alerts.roster import Roster
    from vitalgate.stream.alerting_setting import SettingError, set_roster

    try:
        text = file.read_text(encoding="utf-8")
        document = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
        made = Roster.model_validate(document)
    except (ValueError, ValidationError) as error:
        raise Misuse(f"{file}: {first_fault(error)}") from error
    if not only:
        _setting(SettingError, lambda: set_roster(settings().settings.kafka, document))
    click.echo(f"{made.team}: {'good' if only else 'set'}.")


@roster.command("remove")
@click.argument("team")
def roster_remove(team: str) -> None:
    """Take TEAM's roster away: its alerts do not escalate any more."""
    from vitalgate.stream.alerting_setting import SettingError, remove_roster

    _setting(SettingError, lambda: remove_roster(settings().settings.kafka, team))
    click.echo(f"{team}: removed.")


def _setting(fault: type[Exception], act: Callable[[], Any]) -> Any:
    try:
        return act()
    except fault as error:
        raise Failure(str(error)) from error


def _open() -> list[dict[str, Any]]:
    from vitalgate.stream.alerting_read import NoAnswerError, open_alerts

    try:
        return open_alerts(settings().settings.kafka)
    except NoAnswerError as error:
        raise Failure(str(error)) from error


def _events(start: datetime | None, stop: datetime | None) -> list[dict[str, Any]]:
    from vitalgate.stream.alerting_read import NoAnswerError, events

    def keep(event: dict[str, Any]) -> bool:
        at = datetime.fromisoformat(event["detected_at"])
        return (start is None or at >= start) and (stop is None or at < stop)

    try:
        return events(settings().settings.kafka, keep)
    except NoAnswerError as error:
        raise Failure(str(error)) from error


def _rows(alerts: list[dict[str, Any]]) -> list[dict[str, str]]:
    from vitalgate.alerts.board import Board

    board = Board()
    for alert in alerts:
        board.take(f"{alert['patient']}|{alert['alert_id']}", alert)
    return board.rows(round(datetime.now(UTC).timestamp() * 1e6))


def _one(name: str) -> dict[str, Any]:
    """The alert of an id, or of the beginning of one: how it stands, closed ones too."""
    found = {alert["alert_id"]: alert for alert in _open() if alert["alert_id"].startswith(name)}
    if not found:
        for event in _events(None, None):
            if event["alert_id"].startswith(name):
                found[event["alert_id"]] = event
    if len(found) != 1:
        many = f"{len(found)} alerts begin with {name!r}; give more of the id" if found else f"no alert {name!r}"
        raise Failure(f"{many}; `vitalgate alerts list` shows the open ones")
    return next(iter(found.values()))


def _ask(name: str, action: str, who: str | None, **more: Any) -> None:
    from vitalgate.storage.registry_user import user
    from vitalgate.stream.alerting_ask import ask
    from vitalgate.stream.alerting_read import NoAnswerError

    try:
        reply = ask(settings().settings.kafka, _one(name), action, who or user(), **more)
    except ValueError as error:
        raise Misuse(str(error)) from error
    except NoAnswerError as error:
        raise Failure(str(error)) from error
    if reply.outcome == "refused":
        raise Failure(f"refused: {reply.detail}")
    click.echo(f"{reply.alert_id[:8]}: {reply.state}.")
