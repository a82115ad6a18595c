"""Back up the database with Kafka's offsets and compacted topics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from vitalgate.cli._context import Failure, data_directory, json_option, print_json, settings


@click.command(
    epilog="Example: vitalgate backup /backups/$(date +%F). docs/backup.md says what is in it and how often."
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--with-keys", is_flag=True,
    help="Copy keys and passwords into it too. Without it the backup only says where they are: keep them elsewhere.",
)  # fmt: skip
@click.option(
    "--wait", type=click.FloatRange(min=0), default=30.0, show_default=True, metavar="SECONDS",
    help="How long to wait for the recorder to store what is in Kafka, so that the backup is whole without that Kafka.",
)  # fmt: skip
@json_option
def command(directory: Path, with_keys: bool, wait: float, as_json: bool) -> None:
    """Write a backup into a new DIRECTORY while everything goes on running.

    In it are the database (pg_dump), the offset of every Kafka topic and consumer group at that moment, the compacted
    topics (the registry, what is kept of each device's numbering, open alerts, rosters), and a manifest with checksums.
    What came later is not in it: Kafka has that, and `vitalgate restore` reads it again.
    """
    from vitalgate.storage.errors import StorageError
    from vitalgate.stream.backup import take
    from vitalgate.stream.errors import TransientError
    from vitalgate.stream.manifest import BackupError

    loaded = settings().settings
    try:
        manifest = take(
            loaded, directory.absolute(), folders=pg_folders(), with_keys=with_keys, wait_s=wait, more=broker_users(),
            say=lambda text: None if as_json else click.echo(f"  {text}"),
        )  # fmt: skip
    except (BackupError, StorageError, TransientError) as error:
        raise Failure(str(error)) from error
    size = sum(file["bytes"] for file in manifest.files.values())
    if as_json:
        print_json({**vars(manifest), "directory": str(directory.absolute()), "bytes": size})
        return
    click.echo(f"Backed up into {directory}: {len(manifest.files)} files, {size:,} bytes.")
    if not manifest.settled:
        click.echo(
            "! The recorder was behind: with the Kafka of this moment nothing is missing, without it the last messages "
            "are. Take another backup when `vitalgate status` shows no lag."
        )
    for name, path in manifest.keys.items():
        if name not in manifest.copied:
            click.echo(f"  not in it: {name} = {path}")


def pg_folders() -> list[Path]:
    """Where PostgreSQL's programs may be: the folder that is set, then the servers of this machine."""
    from vitalgate.local.postgres import servers

    wished = settings().settings.local.postgres_bin
    return [*([Path(wished)] if wished else []), *(server.bin for server in servers())]


def broker_users() -> Mapping[str, str]:
    """The file of the local broker's users, with hashed passwords."""
    file = data_directory().absolute() / "mosquitto" / "dynamic-security.json"
    return {"broker.users": str(file)} if file.is_file() else {}
