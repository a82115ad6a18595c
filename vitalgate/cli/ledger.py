"""Prove that every kept item is stored, a duplicate or dead-lettered."""

from __future__ import annotations

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings


@click.command()
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Count every item: received = stored + duplicate + dead-lettered.

    Rows are counted in the tables, not taken from our own counters. Exit status 1 when it does not balance.
    """
    from vitalgate.storage import ledger
    from vitalgate.storage.errors import StorageError

    try:
        found = ledger.read(settings().settings.database)
    except StorageError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json(found.document())
    else:
        for name in ("received", "stored", "duplicate", "dead_lettered", "in_flight", "lost"):
            click.echo(f"{name.replace('_', '-'):<14}{getattr(found, name):>14,}")
        for fault in found.faults:
            click.echo(f"! {fault}")
        click.echo("balanced" if found.balanced else "NOT BALANCED")
    if not found.balanced:
        ctx.exit(1)
