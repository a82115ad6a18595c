"""Alert rules: list, check, explain for a patient, simulate on history, and a patient's own limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings
from vitalgate.cli._times import TIME

if TYPE_CHECKING:
    from vitalgate.alerts.rule import Rule
    from vitalgate.alerts.rules import Book


@click.group()
def command() -> None:
    """Alert rules: list, check, explain for a patient, simulate on history; and limits of a patient's own."""


def _book() -> Book:
    from vitalgate.alerts import rules

    try:
        return rules.load(settings().settings.alerting.rules)
    except rules.RuleError as error:
        raise Failure(str(error)) from error


def _rule(book: Book, name: str) -> Rule:
    rule = book.rules.get(name)
    if rule is None:
        raise Misuse(f"there is no rule {name!r}; `vitalgate rules list` shows those there are")
    return rule


@command.command("list")
@click.option("--priority", type=click.Choice(["high", "medium", "low"]), help="Only these.")
@json_option
def list_(priority: str | None, as_json: bool) -> None:
    """List the rules in force: id, priority, version, title."""
    found = [rule for rule in _book().rules.values() if priority in (None, rule.priority)]
    if as_json:
        print_json([rule.model_dump(exclude_none=True) for rule in found])
        return
    for rule in sorted(found, key=lambda rule: ({"high": 0, "medium": 1, "low": 2}[rule.priority], rule.id)):
        marks = " latched" * rule.latched + " technical" * (rule.kind == "technical")
        click.echo(f"{rule.priority:<7} {rule.id:<34} v{rule.version:<3} {rule.title}{marks}")


@command.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@json_option
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Check rule FILES (or folders), by default all rules in force: valid, able to fire, and true to their vectors."""
    from vitalgate.alerts.rule_check import check_files, check_shipped

    found = check_files(files) if files else check_shipped(settings().settings.alerting.rules)
    if as_json:
        print_json({"rules": found.rules, "vectors": found.vectors, "faults": found.faults})
    else:
        for fault in found.faults:
            click.echo(fault)
        click.echo(f"{found.rules} rules, {found.vectors} vectors, {len(found.faults)} faults")
    if found.faults:
        raise click.exceptions.Exit(1)


@command.command()
@click.argument("patient")
@click.option("--rule", "only", help="Only this rule.")
@json_option
def explain(patient: str, only: str | None, as_json: bool) -> None:
    """Say which rules are in force for PATIENT now, with which limits, since when, by whom and why."""
    from vitalgate.alerts.rule_check import explain as told

    book = _book()
    if only is not None:
        _rule(book, only)
    own, cohorts, zones = _own(patient)
    document = told(book, own, cohorts, zones, round(datetime.now(UTC).timestamp() * 1e6), only)
    if as_json:
        print_json(document)
        return
    for row in document["rules"]:
        click.echo(f"{row['state']:<9} {row['priority']:<7} {row['rule']:<34} {'; '.join(row['conditions'])}")
        for line in row["because"]:
            click.echo(f"{'':<18}{line}")
    for line in document["trouble"]:
        click.echo(f"not used: {line}")


@command.command()
@click.argument("rule")
@click.option(
    "--on",
    "history",
    required=True,
    metavar="HISTORY",
    help="`database`, a folder or file of `vitalgate export parquet`, or a file of JSON lines.",
)
@click.option("--from", "start", type=TIME, help="From this time on [default: thirty days ago].")
@click.option("--to", "stop", type=TIME, help="Before this time [default: now].")
@click.option("--patient", help="Only this patient.")
@click.option("--limit", type=float, help="With another limit.")
@click.option("--clear", type=float, help="With another clearing value.")
@click.option("--for-s", type=float, help="With another duration, seconds.")
@json_option
def simulate(
    rule: str, history: str, start: datetime | None, stop: datetime | None, patient: str | None, limit: float | None,
    clear: float | None, for_s: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Say what RULE (an id, or a rule file) would have done: the alerts, and how many per patient and day."""
    from vitalgate.alerts.rule_check import read_rule
    from vitalgate.alerts.rules import RuleError
    from vitalgate.alerts.simulation import simulate as run
    from vitalgate.stream import alerting_history as source
    from vitalgate.stream.alerting_setting import SettingError
    from vitalgate.stream.alerting_setting import cohorts as cohorts_of

    try:
        made = read_rule(rule, _book(), limit, clear, for_s)
    except RuleError as error:
        raise Misuse(str(error)) from error
    now = datetime.now(UTC)
    begin, end = start or now - timedelta(days=30), stop or now
    if end <= begin:
        raise Misuse(f"--to {end.isoformat()} is not after --from {begin.isoformat()}")
    try:
        if history == "database":
            database = settings().settings.database
            samples, own = source.from_database(database, made, begin, end, patient), source.profiles(database)
            groups = {one.cohort: one.overrides for one in cohorts_of(settings().settings.kafka)}
        else:
            path = Path(history)
            if not path.exists():
                raise Misuse(f"{history!r} is neither `database` nor a file or folder that is there")
            first = round(begin.timestamp() * 1e6) if start else 0
            last = round(end.timestamp() * 1e6)
            read = source.from_file(path)
            samples = (s for s in read if first <= s.time_us < last and patient in (None, s.patient))
            own, groups = {}, {}
        done = run(made, samples, own, groups)
    except (source.HistoryError, SettingError) as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json(
            {
                "rule": made.id, "samples": done.samples, "patients": done.patients,
                "patient_days": round(done.days, 3), "count": len(done.alerts),
                "alerts": [event.model_dump(mode="json") for event in done.alerts],
                "per_patient_day": round(done.per_patient_day, 4), "trouble": done.trouble,
            }
        )  # fmt: skip
        return
    for event in done.alerts:
        over = event.cleared_at.isoformat(timespec="seconds") if event.cleared_at else "still open"
        again = f" ({event.count} times)" if event.count > 1 else ""
        click.echo(f"{event.onset.isoformat(timespec='seconds')}  {over:<25}  {event.patient:<16} {event.text}{again}")
    for line in done.trouble:
        click.echo(f"not used: {line}")
    click.echo(
        f"{made.id}: {len(done.alerts)} alerts of {done.patients} patients in {done.days:.1f} patient-days"
        f" ({done.per_patient_day:.2f} a patient and day), from {done.samples:,} samples"
    )


@command.command("set")
@click.argument("who")
@click.argument("rule")
@click.option("--cohort", is_flag=True, help="WHO is a cohort, not a patient.")
@click.option("--limit", type=float, help="Other limit, in the rule's unit.")
@click.option("--clear", type=float, help="Other clearing value.")
@click.option("--for-s", type=float, help="Other duration, seconds.")
@click.option("--off", is_flag=True, help="Switch the rule off for this stretch.")
@click.option("--quiet-hours", metavar="HH:MM-HH:MM", help="Of the patient's local day; not for high priority.")
@click.option("--from", "start", type=TIME, help="From this event time on [default: always].")
@click.option("--to", "stop", type=TIME, help="Before this event time [default: until further notice].")
@click.option("--reason", required=True, help="Why.")
@click.option("--author", help="Who decided it [default: who runs this].")
def set_(
    who: str, rule: str, cohort: bool, start: datetime | None, stop: datetime | None, author: str | None, **given: Any
) -> None:
    """Give a patient (or cohort) WHO limits of their own for RULE. What could never fire is refused."""
    from vitalgate.storage.registry_user import user

    _rule(_book(), rule)
    entry = {
        "limit": given["limit"], "clear": given["clear"], "for_s": given["for_s"],
        "quiet_hours": given["quiet_hours"], "from": start and start.isoformat(), "to": stop and stop.isoformat(),
        "enabled": False if given["off"] else None,
    }  # fmt: skip
    entry = {key: value for key, value in entry.items() if value is not None}
    if not set(entry) - {"from", "to"}:
        raise Misuse("nothing is changed; give --limit, --clear, --for-s, --quiet-hours or --off")
    entry |= {"author": author or user(), "reason": given["reason"], "at": datetime.now(UTC).isoformat()}

    def add(own: dict[str, Any]) -> dict[str, Any]:
        there = own.get(rule, [])
        return own | {rule: [*(there if isinstance(there, list) else [there]), entry]}

    _change(who, cohort, add, rule)


@command.command()
@click.argument("who")
@click.argument("rule")
@click.option("--cohort", is_flag=True, help="WHO is a cohort, not a patient.")
def unset(who: str, rule: str, cohort: bool) -> None:
    """Take all limits of RULE that are WHO's own away."""
    _change(who, cohort, lambda own: {key: value for key, value in own.items() if key != rule}, rule)


@command.command()
@click.argument("patient")
@click.argument("name")
@click.argument("value", type=float)
@click.option("--from", "start", type=TIME, help="From this event time on [default: always].")
@click.option("--reason", required=True, help="Why.")
@click.option("--author", help="Who decided it [default: who runs this].")
def fact(patient: str, name: str, value: float, start: datetime | None, reason: str, author: str | None) -> None:
    """Set a fact that rules use for PATIENT: spo2_scale (1 or 2), pef_best (L/min)."""
    from vitalgate.storage.registry_user import user

    entry: dict[str, Any] = {"value": value, "author": author or user(), "reason": reason}
    if start is not None:
        entry["from"] = start.isoformat()

    def add(own: dict[str, Any]) -> dict[str, Any]:
        facts = dict(own.get("_facts") or {})
        there = facts.get(name, [])
        old = there if isinstance(there, list) else [{"value": there}]
        facts[name] = [*(one for one in old if one.get("from") != entry.get("from")), entry]
        return own | {"_facts": facts}

    _change(patient, False, add, name)


@command.command()
@click.argument("patient")
@click.argument("names", nargs=-1)
def cohorts(patient: str, names: tuple[str, ...]) -> None:
    """Say which cohorts PATIENT is in; their limits count where the patient has none. Without names: in none."""
    _change(patient, False, lambda own: own | {"_cohorts": list(names)}, "")


def _change(who: str, cohort: bool, change: Any, about: str) -> None:
    """Check what it would be, then write it."""
    from vitalgate.alerts.checks import override_faults
    from vitalgate.stream.alerting_setting import SettingError, change_cohort, change_patient

    rules = list(_book().rules.values())
    now = round(datetime.now(UTC).timestamp() * 1e6)

    def checked(own: dict[str, Any]) -> dict[str, Any]:
        new: dict[str, Any] = change(own)
        before = set(override_faults(own, rules, now))
        fresh = [text for text in override_faults(new, rules, now) if text not in before]
        if fresh:
            raise Misuse("; ".join(fresh))
        return new

    try:
        applied = (change_cohort if cohort else change_patient)(settings().settings, who, checked, about)
    except SettingError as error:
        raise Failure(str(error)) from error
    click.echo(f"{who}: set." if applied else f"{who}: set; it counts when the registrar runs.")


def _own(patient: str) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]], tuple[tuple[int, str], ...]]:
    from vitalgate.stream.alerting_setting import SettingError, own_of

    try:
        return own_of(settings().settings, patient)
    except SettingError as error:
        raise Failure(str(error)) from error
