"""Send mutated payloads through the running system and find each again."""

from __future__ import annotations

import secrets
import time

import click

from vitalgate.cli._context import Failure, data_directory, json_option, print_json, settings


@click.command(
    epilog="Example: vitalgate up --detach; vitalgate fuzz --count 100000. Takes minutes; it leaves its devices."
)
@click.option("--count", default=10_000, show_default=True, type=click.IntRange(1000), help="Payloads to send.")
@click.option("--seed", default=1, show_default=True, help="Decides what is sent.")
@click.option(
    "--patience", default=600.0, show_default=True, type=click.FloatRange(1), help="Seconds to wait for each."
)
@json_option
def command(count: int, seed: int, patience: float, as_json: bool) -> int:
    """Send so many bad payloads to the stack in the data directory, through its broker, as devices of every kind.

    Good messages changed in structure and in bytes (JSON and CBOR), crafted ones for every reason, depth, numbers and
    packed samples beyond reason, ten megabytes, topics where no device may publish; between them messages of devices
    that do nothing wrong. Afterwards no process may have restarted or kept growing, each payload must be found by its
    hash as stored or dead-lettered, every reason that a device can cause must have been hit, and nothing of the good
    devices refused. Exit status 1 when that is not so.
    """
    from vitalgate.devices import catalogue
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.registry import Registry
    from vitalgate.stream import enrolment
    from vitalgate.torture.fuzz_payloads import Fuzz
    from vitalgate.torture.fuzz_run import run

    loaded = settings().settings
    name = f"fuzz-{secrets.token_hex(3)}"
    bad = {kind: f"{name}-{kind}" for kind in catalogue.load().kinds}
    clean = {kind: f"{name}-good-{kind}" for kind in bad}
    try:
        with Registry(loaded.database) as registry:
            registry.add_patient(name, "Europe/Berlin", "care")
        wanted = [enrolment.Wanted(one, kind, name) for devices in (bad, clean) for kind, one in devices.items()]
        told = enrolment.add(loaded, wanted, apply_s=30.0)
        passwords = {device.device_id: device.password for device in told.devices}
        verdict = run(
            data_directory(), loaded, passwords, Fuzz(seed, bad, clean, time.time_ns() // 1000), count,
            say=lambda text: click.echo(f"  {text}", err=as_json), patience_s=patience,
        )  # fmt: skip
    except (StorageError, enrolment.EnrolmentError, TimeoutError) as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json(verdict.document())
    else:
        click.echo(
            f"{verdict.count:,} payloads ({verdict.parsed:,} parse) in {verdict.seconds:.0f} s: {verdict.stored:,} "
            f"stored, {verdict.dead:,} with a dead letter, {len(verdict.nowhere)} nowhere."
        )
        click.echo(f"The broker's log tells of {verdict.refused:,} refused publishes; {verdict.tricks:,} were sent.")
        for reason, hits in verdict.reasons.items():
            click.echo(f"  {reason:<18} {hits:>8,}")
        for process, mb in verdict.grew_mb.items():
            click.echo(f"  {process:<18} {mb:>+8.1f} MiB in the second half")
        for fault in verdict.faults():
            click.echo(f"! {fault}")
    return 1 if verdict.faults() else 0
