"""Stop the stack that `vitalgate up` started."""

from __future__ import annotations

import click

from vitalgate.cli._context import data_directory


@click.command()
@click.option("--remove", is_flag=True, help="Delete the data directory too: all data, secrets and logs.")
def command(remove: bool) -> None:
    """Stop the stack in the data directory; what it stored stays, unless --remove is given."""
    from vitalgate.local import control
    from vitalgate.local.stack import remove_data

    data = data_directory()
    try:
        control.stop(data)
        click.echo(f"The stack in {data} has stopped.")
    except control.NotRunningError:
        click.echo(f"No stack is running in {data}.")
    if remove:
        remove_data(data)
        click.echo(f"{data} is deleted.")
