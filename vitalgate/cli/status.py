"""Show what the stack runs, where it listens and whether each part answers."""

from __future__ import annotations

from typing import Any

import click

from vitalgate.cli._context import data_directory, json_option, print_json


@click.command()
@json_option
def command(as_json: bool) -> int:
    """Show addresses, processes, health and figures; exit status 1 when something does not answer.

    Figures: records that each worker is behind, devices with an open gap in their numbering, dead letters by reason
    since intake started, the broker's queue, and whether the ledger balanced and the audit trail held when the
    registrar last looked.
    """
    from vitalgate.local import control

    document = control.status(data_directory(), figures=True)
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
    _figures(document.get("figures") or {})


def _figures(told: dict[str, Any]) -> None:
    if not told:
        return
    click.echo()
    lag = ", ".join(f"{worker} {count:,}" for worker, count in told["lag"].items() if count)
    click.echo(f"lag            {lag or 'none'}")
    click.echo(f"open gaps      {told['open_gaps']}")
    dead = ", ".join(f"{reason} {count:,}" for reason, count in told["dead_letters"].items())
    click.echo(f"dead letters   {dead or 'none'}")
    broker, audit, ledger = told["broker"], told["audit"], told["ledger"]
    if broker["queue_bytes"] is not None:
        refused = f", {broker['refused']:,} refused" if broker["refused"] else ""
        click.echo(f"broker queue   {broker['queue_bytes']:,} bytes, {broker['queue_ratio']:.1%} of its bound{refused}")
    if audit["verified_at"] is None:
        click.echo("audit trail    not verified yet")
    elif audit["broken_at"]:
        click.echo(f"audit trail    BROKEN at link {audit['broken_at']}: `vitalgate audit verify`")
    else:
        click.echo(f"audit trail    holds through link {audit['verified_links']:,}")
    if ledger["balanced"] is None:
        click.echo("ledger         not reckoned yet")
    else:
        click.echo(f"ledger         {'balanced' if ledger['balanced'] else 'NOT BALANCED: `vitalgate ledger`'}")
    if told["undelivered_alerts"]:
        click.echo(f"alerts         {told['undelivered_alerts']} of high priority REACHED NOBODY in time")
