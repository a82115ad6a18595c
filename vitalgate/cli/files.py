"""Uploaded files: wrap their keys anew after the key ring was rotated; remove those that no record names."""

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


@command.command(epilog="Example: vitalgate files tidy --look")
@click.option(
    "--days", default=7.0, show_default=True, type=click.FloatRange(0.05), help="Leave what is younger than this."
)
@click.option("--look", is_flag=True, help="Only say what would be removed.")
@json_option
def tidy(days: float, look: bool, as_json: bool) -> None:
    """Remove uploaded files that no record names, and objects in the store that the database does not know.

    A file is uploaded before the record that names it is sent, so young ones are left. Each removal is an audit event.
    `vitalgate api` does the same every six hours, with a week's grace.
    """
    import asyncio
    from datetime import timedelta

    from vitalgate.api.app import open_files
    from vitalgate.api.file_store import StoreAway
    from vitalgate.api.orphans import tidy as work
    from vitalgate.config.loading import SettingsError
    from vitalgate.pki import keyring
    from vitalgate.pki.keyring import BadKeyRing
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.records_database import RecordsDatabase

    loaded = settings().settings
    try:
        ring = keyring.read(loaded.security.keys_file)
        with RecordsDatabase(loaded.database, ring, most=2, application="files") as database:
            found = asyncio.run(work(database, open_files(loaded, ring), grace=timedelta(days=days), look=look))
    except (BadKeyRing, SettingsError, StorageError, StoreAway) as error:
        raise Failure(f"files were not tidied: {error}") from error
    if as_json:
        print_json({"unnamed": found.unnamed, "strays": found.strays, "bytes": found.size, "removed": not look})
    else:
        done = "would be removed" if look else "were removed"
        click.echo(
            f"{found.unnamed} files that no record names and {found.strays} that the database does not know {done}"
            f" ({found.size} bytes)."
        )
