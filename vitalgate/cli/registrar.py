"""Bring registry changes to Kafka and the broker, and send ticks (one process)."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vitalgate.cli._context import Failure, settings


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> int | None:
    """Bring registry changes to the registry topics and to the broker, and send the ticks that carry time.

    At its start it reconciles the broker's users with the registry. Exit status 75 asks the supervisor to start it
    again.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from vitalgate.gateway.daemon import run_daemon
    from vitalgate.stream.registrar import Registrar

    loaded = settings().settings
    return run_daemon("registrar", loaded, lambda health: Registrar(loaded, health=health))


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def restore(file: Path) -> None:
    """Write the registry's devices and clinicians into Mosquitto's dynamic security FILE, with their passwords.

    For a broker that lost its file: `vitalgate broker prepare FILE` makes it anew, this puts them back. The
    broker must not be running, for it would write over the file. RabbitMQ needs no such command: the registrar makes at
    its start what is missing there.
    """
    from vitalgate.gateway.credentials import BadHash, client_entry, clinician_entry, clinician_role, restore
    from vitalgate.local.layout import write_private
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.registry_clinicians import CareRegistry

    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        with CareRegistry(settings().settings.database) as registry:
            devices, people = registry.devices(), registry.clinicians()
        entries = [
            client_entry(device.device_id, device.credential_hash, revoked=device.state == "revoked")
            for device in devices
            if device.credential_hash
        ]
        known = len(entries)
        roles = []
        for one in people:
            revoked = one.state == "revoked"
            entries.append(clinician_entry(one.clinician_id, one.credential_hash, revoked=revoked))
            roles.append(clinician_role(one.clinician_id, [] if revoked else one.teams))
        owner = file.stat()
        write_private(file, json.dumps(restore(document, entries, roles), indent=1))
        _give(file, owner.st_uid, owner.st_gid)
    except (OSError, ValueError, BadHash, StorageError) as error:
        raise Failure(f"{file} was not written: {error}") from error
    click.echo(f"{known} devices and {len(people)} clinicians written to {file}; start the broker now.")


def _give(file: Path, user: int, group: int) -> None:
    import os

    if (file.stat().st_uid, file.stat().st_gid) != (user, group):
        os.chown(file, user, group)
