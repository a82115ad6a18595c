"""Show what the stack runs, where it listens and whether each part answers."""

from __future__ import annotations

from typing import Any

import click

from vitalgate.cli._context import data_directory, json_option, print_json


@click.command()
@json_option
def command(as_json: bool) -> int:
    """Show addresses, processes and health; exit status 1 when something does not answer."""
    from vitalgate.local import control

    document = control.status(data_directory())
    if as_json:
        print_json(document)
    else:
        _show(document)
    healthy = document["ready"] and all(part["ok"] for part in document["health"].values())
    return 0 if healthy else 1


def _show(document: dict[str, Any]) -> None:
    for title, text in (
        ("MQTT", "{host}:{port}".format(**document.get("mqtt", {"host": "?", "port": "?"}))),
        ("Kafka", document.get("kafka", {}).get("bootstrap", "?")),
        ("database", document.get("database", {}).get("dsn", "?")),
    ):
        click.echo(f"{title:<10} {text}")
    click.echo(f"\n{'process':<12} {'pid':>8} {'state':<9} restarts")
    for process in document["processes"]:
        click.echo(f"{process['name']:<12} {process['pid'] or '-':>8} {process['state']:<9} {process['restarts']}")
    click.echo()
    for name, part in document["health"].items():
        click.echo(f"{name:<12} {'ok' if part['ok'] else 'NOT OK'} {part.get('detail', '')}".rstrip())
