"""Prove that every kept item is stored, a duplicate or dead-lettered."""

from __future__ import annotations

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings


@click.command()
@click.option("--tables-only", is_flag=True, help="Leave Kafka out: no records in flight, no gaps.")
@json_option
@click.pass_context
def command(ctx: click.Context, tables_only: bool, as_json: bool) -> None:
    """Count every item: received = stored + duplicate + dead-lettered.

    Rows are counted in the tables, not taken from our own counters; raw records beyond those applied are in flight;
    numbers that a device skipped so far are listed as gaps. Exit status 1 when it does not balance.
    """
    from vitalgate.storage import in_flight, ledger
    from vitalgate.storage.errors import StorageError

    given = settings().settings
    try:
        found = ledger.read(given.database)
        if not tables_only:
            in_flight.complete(found, given.kafka)
    except StorageError as error:
        raise Failure(f"{error}; --tables-only leaves Kafka out" if "Kafka" in str(error) else str(error)) from error
    if as_json:
        print_json(found.document())
    else:
        click.echo(found.text())
    if not found.balanced:
        ctx.exit(1)
