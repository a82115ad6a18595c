"""Uploaded files: wrap their keys anew after the key ring was rotated."""

from __future__ import annotations

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings


@click.group(epilog="Example: vitalgate keys rotate; vitalgate files reseal")
def command() -> None:
    """Files that users uploaded, each encrypted by a key of its own, which the key ring wraps."""


@command.command()
@json_option
def reseal(as_json: bool) -> None:
    """Wrap every file's key and name by the ring's current key; the files themselves are not touched.

    After it, the ring's earlier seal keys are not needed for files any more. Safe to run at any time, and again.
    """
    from vitalgate.api.files_table import reseal as work
    from vitalgate.pki import keyring
    from vitalgate.pki.keyring import BadKeyRing
    from vitalgate.pki.sealing import SealError
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.records_database import RecordsDatabase

    loaded = settings().settings
    try:
        ring = keyring.read(loaded.security.keys_file)
        with RecordsDatabase(loaded.database, ring, most=2, application="files") as database:
            changed = work(database)
    except (BadKeyRing, SealError, StorageError) as error:
        raise Failure(f"files were not resealed: {error}") from error
    if as_json:
        print_json({"resealed": changed, "key": ring.seals[0].id})
    else:
        click.echo(f"{changed} files are wrapped by {ring.seals[0].id} now.")
