"""`vitalgate alerts quiet-day`: how many alarms stable people's day gives."""

from __future__ import annotations

import os

import click

from vitalgate.cli._context import Failure, json_option, print_json


@click.command("quiet-day")
@click.option("--patients", type=click.IntRange(1, 50), default=50, show_default=True, help="How many people.")
@click.option(
    "--hours", type=click.FloatRange(0.1, 240), default=24.0, show_default=True, help="From local midnight on."
)
@click.option(
    "--ecg-hours", type=click.FloatRange(0, 240), default=2.0, show_default=True,
    help="Hours of ECG that are analysed of each who wears a patch; all that they measure else is judged all day.",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Makes the people.")
@click.option(
    "--processes", type=click.IntRange(1, 64), default=os.cpu_count() or 1, help="Side by side [default: all]."
)
@json_option
def command(patients: int, hours: float, ecg_hours: float, seed: int, processes: int, as_json: bool) -> None:
    """Simulate a quiet day of stable people and count the alarms.

    Fifty people at home (heart failure, lungs, diabetes, after surgery, …) with all kinds of devices, of whom nothing
    is wrong: each message goes through intake, analysis and the shipped rules, accelerated, in this process; nothing
    else has to run. Fails when somebody had more than one alarm a day.
    """
    from vitalgate.scoring.quiet_day import quiet_day

    day = quiet_day(patients=patients, hours=hours, ecg_hours=ecg_hours, seed=seed, processes=min(processes, patients))
    found = day.document()
    if as_json:
        print_json(found)
    else:
        click.echo(
            f"{found['patients']} people, {found['hours']:g} h, {found['devices']} devices, "
            f"{found['messages']:,} messages ({found['refused']} refused), {found['ecg_hours']:g} h of ECG"
        )
        for one in found["told"]:
            click.echo(f"  {one['at_h']:6.2f} h  {one['patient']:<28} {one['rule']:<24} {one['text']}")
        click.echo(
            f"{found['alarms']} alarms: {found['alarms_per_patient_day']:g} per patient and day, at most "
            f"{found['most_of_one_patient']} of one patient (bar: 1)"
        )
    if not day.good:
        raise Failure(
            "the rules or the simulated people are wrong: somebody had more than one alarm, or data was refused"
        )
