"""Bring the database schema up to date."""

from __future__ import annotations

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Bring the database schema up to date; safe to run twice, and by several processes at once.

    Tables go into the schema `<database.db_schema>_data`, views into `<database.db_schema>`.
    """
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.migrate import migrate

    try:
        outcome = migrate(settings().settings.database)
    except StorageError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json({"form": outcome.form, "applied": outcome.applied, "version": outcome.version})
        return
    for name in outcome.applied:
        click.echo(f"applied {name}")
    click.echo(f"The schema is at version {outcome.version} ({outcome.form}).")
