"""`vitalgate reprocess`: run history again after an algorithm or an assignment changed."""

from __future__ import annotations

from datetime import datetime

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings
from vitalgate.cli._times import TIME


@click.command()
@click.option("--from", "start", required=True, type=TIME, help="First event time, RFC 3339.")
@click.option("--to", "stop", required=True, type=TIME, help="Event time before which to stop.")
@click.option("--patient", help="Only this patient's.")
@click.option("--algorithm", metavar="NAME", help="vg-beats or vg-rhythm (ECG), or alerts (readings); default: ECG.")
@json_option
def command(start: datetime, stop: datetime, patient: str | None, algorithm: str | None, as_json: bool) -> None:
    """Send stored items through the workers again.

    New results bear the name and version of the algorithm that is installed now, and a higher revision: they take the
    place of the earlier ones and are the current ones. What comes out the same is not told again, and nothing that
    devices sent is changed. The command returns when Kafka has everything; the workers follow.

    \b
    vitalgate reprocess --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z --patient p-0001
    """
    from vitalgate.gateway.confirmed import NotDelivered
    from vitalgate.storage.errors import StorageError
    from vitalgate.stream.reprocess import ALGORITHMS, Summary, reprocess

    if algorithm is not None and algorithm not in ALGORITHMS:
        raise Misuse(f"--algorithm {algorithm} is unknown; one of {', '.join(ALGORITHMS)} is")
    if stop <= start:
        raise Misuse(f"--to {stop.isoformat()} does not come after --from {start.isoformat()}")

    def tell(summary: Summary) -> None:
        if not as_json:
            click.echo(f"  {summary.devices[-1]}: {summary.messages} messages so far", err=True)

    try:
        summary = reprocess(settings().settings, start, stop, patient=patient, algorithm=algorithm, tell=tell)
    except (StorageError, NotDelivered) as error:
        raise Failure(f"{error}; give the same command again, repeats do no harm") from error
    if as_json:
        print_json(summary.__dict__)
        return
    click.echo(
        f"{summary.messages} messages of {len(summary.devices)} devices and {len(summary.patients)} patients are sent "
        f"again: {summary.readings} readings, {summary.samples} samples."
    )
    for name, version in summary.algorithms.items():
        click.echo(f"  {name} {version} is current for these results")
