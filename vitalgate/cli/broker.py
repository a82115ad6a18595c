"""Prepare somebody's own broker for Vitalgate."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings


@click.group()
def command() -> None:
    """Prepare your own broker, as docker-compose.yml does; `vitalgate up` does this by itself."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def prepare(file: Path, as_json: bool) -> None:
    """Write FILE with the gateway's and the administrator's user, unless it exists.

    For Mosquitto it is the dynamic security file (`plugin_opt_config_file FILE`), for RabbitMQ (mqtt.broker) the
    definitions (`load_definitions = FILE`). The passwords are read from mqtt.password_file and
    mqtt.admin_password_file; the file holds salted hashes only. Start the broker with the settings in deploy/mosquitto/
    or deploy/rabbitmq/.
    """
    from vitalgate.config.loading import read_secret
    from vitalgate.config.rabbit_definitions import definitions
    from vitalgate.local.layout import write_private
    from vitalgate.local.mosquitto import dynamic_security

    mqtt = settings().settings.mqtt
    there = file.is_file() and file.stat().st_size > 0
    if not there:
        admin = read_secret(mqtt.admin_password_file, "broker administrator's password")
        gateway = read_secret(mqtt.password_file, "gateway's password")
        if mqtt.broker == "rabbitmq":
            document = definitions(mqtt, admin, gateway)
        else:
            document = dynamic_security({mqtt.admin_username: (admin, "admin"), mqtt.username: (gateway, "gateway")})
        try:
            write_private(file, json.dumps(document, indent=1))
        except OSError as error:
            raise Failure(
                f"{file} cannot be written: {error.strerror}; the broker's user must own its folder"
            ) from error
    if as_json:
        print_json({"file": str(file), "written": not there})
    else:
        click.echo(f"{file} {'was there and is kept' if there else 'written'}.")
