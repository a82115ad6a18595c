"""Run simulated patients and devices against the system, and check what came of it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from vitalgate.cli._context import Failure, Misuse, data_directory, json_option, print_json, settings


@click.command(
    epilog="Examples: vitalgate simulate --scenario sepsis; vitalgate simulate --patients 20 --seed 7;"
    " vitalgate simulate --scenario mine.toml --speed 60. The format of a scenario: docs/scenarios.md."
)
@click.option("--scenario", default="stable", show_default=True, metavar="NAME or FILE", help="What happens to whom.")
@click.option("--patients", type=click.IntRange(1, 5000), metavar="N", help="N of each of the scenario's patients.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same people.")
@click.option("--speed", type=click.FloatRange(1), metavar="X", help="Virtual seconds in one second.")
@click.option("--journal", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where to keep it.")
@click.option("--check/--no-check", default=True, show_default=True, help="Compare the outcome with the database.")
@click.option("--list", "only_list", is_flag=True, help="List the shipped scenarios and end.")
@json_option
def command(
    scenario: str, patients: int | None, seed: int, speed: float | None, journal: Path | None, check: bool,
    only_list: bool, as_json: bool,
) -> int:  # fmt: skip
    """Run a scenario: simulated patients whose devices send over MQTT, each with its own credentials.

    Afterwards the devices' own journal is joined with the database, and alerts and counts are compared with what the
    scenario says must come of it. Exit status 1 when something else came of it.
    """
    from vitalgate.cli._enrol import SystemRegistry
    from vitalgate.config.transport import conninfo, context
    from vitalgate.devices import catalogue
    from vitalgate.simulators import scenario as scenarios
    from vitalgate.simulators.cast import assemble, cast, new_prefix
    from vitalgate.simulators.clock import VirtualClock
    from vitalgate.simulators.fleet import Progress
    from vitalgate.simulators.journal import Journal
    from vitalgate.simulators.run import conclude

    kinds = catalogue.load()
    if only_list:
        for name in scenarios.shipped():
            click.echo(f"{name:<20} {scenarios.load(name).title}")
        return 0
    try:
        chosen = scenarios.load(scenario, kinds.kinds)
    except scenarios.ScenarioError as error:
        raise Misuse(str(error)) from error
    system = settings().settings
    pace = speed or chosen.speed
    registry = SystemRegistry(system)
    prefix = new_prefix()
    path = journal or data_directory() / "journals" / f"{prefix}.sqlite"
    early = VirtualClock.for_run(chosen.seconds, pace)
    passwords = registry.enrol(cast(chosen, early, prefix=prefix, seed=seed, copies=patients), early.start - 60)
    clock = VirtualClock.for_run(chosen.seconds, pace, time.time() + 1)
    members = cast(chosen, clock, prefix=prefix, seed=seed, copies=patients)
    book = Journal(path)
    fleet = assemble(
        chosen,
        members,
        passwords,
        clock,
        book,
        kinds,
        registry,
        host=system.mqtt.host,
        port=system.mqtt.port,
        tls=context(system.mqtt, "mqtt"),
    )
    if not as_json:
        click.echo(
            f"{chosen.title}: {len(members.players)} patients, {len(members.props)} devices, {chosen.seconds:g} s"
            f" in {chosen.seconds / pace:.0f} s. Journal: {path}"
        )

    def watch(progress: Progress) -> None:
        if click.get_text_stream("stderr").isatty():
            click.echo(
                f"\r  {progress.virtual_s:8.0f} s  {progress.connected} online  {progress.messages} messages"
                f"  {progress.pending} without receipt   ",
                err=True, nl=False,
            )  # fmt: skip

    receipted = asyncio.run(fleet.run(watch))
    book.close()
    if click.get_text_stream("stderr").isatty():
        click.echo(err=True)
    if not receipted and not check:
        raise Failure("not every message was receipted; `vitalgate status` shows whether all processes run")
    if not check:
        return 0
    verdict = conclude(
        chosen, path, conninfo(system.database), system.database.db_schema, still_s=system.analysis.idle_s + 3
    )
    if as_json:
        print_json({"scenario": chosen.name, "journal": str(path), "receipted": receipted, **verdict.document()})
    else:
        for line in verdict.lines():
            click.echo(line)
    return 0 if verdict.good else 1
