"""List every setting with its value, where the value comes from, and what it means."""

from __future__ import annotations

from dataclasses import asdict

import click

from vitalgate.cli._context import json_option, print_json, settings


@click.command()
@click.argument("prefix", default="")
@json_option
def command(prefix: str, as_json: bool) -> None:
    """List every setting, or those whose name begins with PREFIX, such as `mqtt` or `kafka.linger_ms`.

    A setting is given in a TOML file ([mqtt] port = 1884), in the environment (VITALGATE_MQTT_PORT=1884) or as a flag
    (--set mqtt.port=1884); the later of these wins.
    """
    rows = [row for row in settings().describe() if row.name.startswith(prefix)]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        click.echo(f"{row.name} = {row.value!r}  ({row.source})\n    {row.meaning}")
