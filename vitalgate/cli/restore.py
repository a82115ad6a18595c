"""Put a backup back, and have Kafka replayed from where it was taken."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings
from vitalgate.cli.backup import pg_folders

if TYPE_CHECKING:
    from vitalgate.stream.restore import Restored


@click.command(epilog="On one machine: vitalgate up --detach --only mqtt,kafka,postgres; vitalgate restore DIRECTORY; "
                      "vitalgate down; vitalgate up --detach; vitalgate ledger")  # fmt: skip
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--check", is_flag=True, help="Only say whether every file is as it was written, and what is in it.")
@click.option("--replace", is_flag=True, help="Also when the database holds something: that is gone then.")
@click.option(
    "--keep-database", is_flag=True,
    help="Only Kafka was lost and the database has all: leave it as it is, and fill the new Kafka from both.",
)  # fmt: skip
@click.option(
    "--new-kafka", is_flag=True,
    help="Go on beside a new, empty Kafka: what came after the backup is lost, but for what devices still hold.",
)  # fmt: skip
@json_option
def command(directory: Path, check: bool, replace: bool, keep_database: bool, new_kafka: bool, as_json: bool) -> None:
    """Put the backup in DIRECTORY into an empty database, with none of our processes running.

    With the Kafka of the backup, the recorder and the archiver are set back to the backup's offsets and read the rest
    again when they start: nothing is lost that Kafka still has, and the registry is brought forward from its topics.
    With a new, empty Kafka, the compacted topics and the audit trail are written into it, and all numbering goes on.
    """
    from vitalgate.local.errors import StackError
    from vitalgate.local.topics import create_topics
    from vitalgate.storage.errors import StorageError
    from vitalgate.stream.errors import NotDeliveredError, TransientError
    from vitalgate.stream.manifest import BackupError, read
    from vitalgate.stream.restore import put_back

    loaded = settings().settings
    try:
        manifest = read(directory)
        if check:
            if as_json:
                print_json(vars(manifest))
            else:
                click.echo(
                    f"A backup of {manifest.made_at} by version {manifest.version}, schema {manifest.schema}, "
                    f"{manifest.database['form']} form; all {len(manifest.files)} files are as they were written."
                )
            return
        create_topics(loaded.kafka)
        done = put_back(
            loaded, directory, manifest, folders=pg_folders(), replace=replace,
            keep_database=keep_database, new_kafka=new_kafka,
            say=lambda text: None if as_json else click.echo(f"  {text}"),
        )  # fmt: skip
    except (BackupError, StorageError, TransientError, NotDeliveredError, StackError) as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json({**vars(done), "registry": vars(done.registry)})
    else:
        _tell(done)


def _tell(done: Restored) -> None:
    click.echo("The backup is back. Start everything; `vitalgate ledger` balances when it has caught up.")
    for topic, count in done.expired.items():
        click.echo(f"! {count:,} records of {topic} have expired in Kafka since the backup: they are lost.")
    if done.kafka == "new":
        click.echo(
            "! What came after the backup was in the lost Kafka: devices still have what they hold no receipt for."
        )
        click.echo(
            "  A broker that was lost too does not know its users: stop it, `vitalgate registrar restore FILE` on its "
            "dynamic security file, start it."
        )
    if done.registry.devices or done.registry.patients or done.registry.assignments:
        brought = done.registry
        click.echo(
            f"  Taken over from the registry topics: {len(brought.devices)} devices, {len(brought.patients)} patients, "
            f"{len(brought.assignments)} changes of assignment."
        )
    for clinician in done.registry.clinicians_missing:
        click.echo(f"! clinician {clinician} was added after the backup: `vitalgate clinician add {clinician} …` again")
    if done.anchors_moved:
        click.echo(
            f"! The audit trail lost links that anchors knew: they are the proof of it, now in {done.anchors_moved}"
        )
