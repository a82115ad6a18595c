"""Carry what devices publish from the MQTT broker to Kafka (one process)."""

from __future__ import annotations

import click

from vitalgate.cli._context import settings


@click.command()
@click.option("--retire", is_flag=True, help="Take what is queued for this slot, end its session at the broker, leave.")
def command(retire: bool) -> int:
    """Carry what devices publish from the MQTT broker to Kafka.

    A message is acknowledged to the broker only after Kafka has acknowledged it. Several gateways may share the
    work: give each its own --set gateway.slot=N. Before a slot is given up, or the gateway's password changed, let it
    --retire, else the broker goes on to queue messages for it. SIGTERM drains and ends within five seconds. Exit
    status 75 asks the supervisor to start it again.
    """
    from vitalgate.config.loading import read_secret
    from vitalgate.gateway.daemon import run_daemon
    from vitalgate.gateway.gateway import Gateway

    loaded = settings().settings
    password = read_secret(loaded.mqtt.password_file, "gateway's MQTT password (mqtt.password_file)")
    return run_daemon("gateway", loaded, lambda health: Gateway(loaded, password, health=health, retire=retire))
