"""Bring the database schema up to date."""

from __future__ import annotations

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings


@click.command()
@click.option("--maintain", is_flag=True, help="Also do the housekeeping that is due, as the archiver does by itself.")
@json_option
def command(maintain: bool, as_json: bool) -> None:
    """Bring the database schema up to date; safe to run twice, and by several processes at once.

    Tables go into the schema `<database.db_schema>_data`, views into `<database.db_schema>`.
    """
    from dataclasses import asdict

    from vitalgate.storage import maintenance
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.migrate import migrate

    try:
        outcome = migrate(settings().settings.database)
        report = maintenance.run(settings().settings.database) if maintain else None
    except StorageError as error:
        raise Failure(str(error)) from error
    if as_json:
        done = {"maintenance": asdict(report)} if report else {}
        print_json({"form": outcome.form, "applied": outcome.applied, "version": outcome.version, **done})
        return
    for name in outcome.applied:
        click.echo(f"applied {name}")
    click.echo(f"The schema is at version {outcome.version} ({outcome.form}).")
    if report:
        click.echo(
            f"{len(report.partitions)} partitions made, {report.refreshed} stretches of aggregates refreshed, "
            f"{report.joined} waveform blocks joined, {sum(report.dropped.values())} rows dropped."
        )
