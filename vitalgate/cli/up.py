"""Start the whole stack on this machine: broker, Kafka, database and our own processes."""

from __future__ import annotations

import signal
import time

import click

from vitalgate.cli._context import Misuse, check_setting, options, settings


@click.command(epilog="Example: vitalgate up --detach --set kafka.nodes=3")
@click.option("--detach", "-d", is_flag=True, help="Come back when all is ready and leave it running.")
@click.option(
    "--broker", type=click.Choice(["mosquitto", "rabbitmq"]),
    help="The MQTT broker to start (setting mqtt.broker): mosquitto, or rabbitmq, whose acknowledgement is durable.",
)  # fmt: skip
@click.option(
    "--only", metavar="NAMES", help="Start these alone, comma separated: mqtt, kafka, postgres, or processes by name."
)
@click.option(
    "--tls", is_flag=True, help="Encrypt every connection, with an authority made in the data directory (local.tls)."
)
def command(detach: bool, broker: str | None, only: str | None, tls: bool) -> None:
    """Start the whole stack on this machine and keep it running until Ctrl-C or `vitalgate down`.

    What dies is started again. A part whose address is in the settings (mqtt.host, kafka.bootstrap, database.dsn) is
    yours, and nothing is started for it. State, logs and secrets are in the data directory (--data).
    """
    from vitalgate.local.errors import StackError
    from vitalgate.local.plan import check_only
    from vitalgate.local.stack import Stack

    given = options()
    if broker is not None:
        given.flags["mqtt.broker"] = broker
    for name in given.flags:
        check_setting(name)
    if tls:
        given.flags["local.tls"] = "true"
    loaded = settings()
    names = {name.strip() for name in only.split(",") if name.strip()} if only else None
    try:
        check_only(names)
    except StackError as error:
        raise Misuse(str(error)) from error
    stack = Stack(loaded.settings.stack.data, given.flags, names, config=given.config)
    began = time.monotonic()

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        stack.start(lambda name, seconds: click.echo(f"  {name} ready after {seconds:.1f} s"), detach=detach)
        running = stack.settings.settings
        click.echo(f"The stack is ready after {time.monotonic() - began:.1f} s (data in {stack.data}).")
        click.echo(f"  MQTT      {running.mqtt.host}:{running.mqtt.port} ({running.mqtt.broker})")
        click.echo(f"  Kafka     {running.kafka.bootstrap}")
        click.echo(f"  database  {running.database.dsn}")
        if not detach:
            click.echo("Ctrl-C stops it.")
            stack.wait()
    except KeyboardInterrupt:
        click.echo("stopping …", err=True)
        stack.stop()
