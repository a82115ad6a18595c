"""Key ring for fields that name a person: make, show, rotate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings

if TYPE_CHECKING:
    from vitalgate.pki.keyring import KeyRing


@click.group(epilog="Example: vitalgate keys new keys.ring; vitalgate keys rotate keys.ring")
def command() -> None:
    """The key ring (security.keys_file) by which names, addresses and the like are sealed in the database.

    Keep a copy where no backup of the database is: what it sealed is lost without it, and readable with it.
    """


_FILE = click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))


@contextmanager
def _failing() -> Iterator[None]:
    from vitalgate.pki.keyring import BadKeyRing

    try:
        yield
    except BadKeyRing as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from error


def _path(file: Path | None) -> Path:
    named = str(file) if file else settings().settings.security.keys_file
    if not named or named.startswith("env:"):
        raise Misuse(f"name the key ring's FILE: security.keys_file is {named or 'not set'}")
    return Path(named)


@command.command()
@_FILE
@json_option
def new(file: Path | None, as_json: bool) -> None:
    """Make a ring with fresh keys in FILE; refuses to replace one."""
    from vitalgate.pki import keyring

    path = _path(file)
    if path.exists():
        raise Failure(f"{path} exists, and what it sealed would be lost; `vitalgate keys rotate` changes its key")
    with _failing():
        keyring.write(path, ring := keyring.new_ring(datetime.now(UTC).date()))
    _tell(path, ring, as_json)


@command.command()
@_FILE
@json_option
def show(file: Path | None, as_json: bool) -> None:
    """Show the ids of the ring's keys, the current ones first; never a key."""
    from vitalgate.pki import keyring

    path = _path(file)
    with _failing():
        ring = keyring.read(str(path))
    _tell(path, ring, as_json)


@command.command()
@_FILE
@click.option("--index", "with_index", is_flag=True, help="Change the key of the search index too.")
@click.option("--drop", metavar="ID", help="Take an earlier key off, once nothing is sealed with it any more.")
@json_option
def rotate(file: Path | None, with_index: bool, drop: str | None, as_json: bool) -> None:
    """Put a new current key on the ring; what earlier ones sealed stays readable.

    New values are sealed with it when processes have read the ring again (restart them). Then have stored values
    sealed anew, and take the old key off with --drop.
    """
    from vitalgate.pki import keyring

    path = _path(file)
    with _failing():
        ring = keyring.read(str(path))
        today = datetime.now(UTC).date()
        uses: tuple[Any, ...] = ("seal", "index") if with_index else ("seal",)
        ring = keyring.without(ring, drop) if drop else keyring.rotated(ring, today, uses)
        keyring.write(path, ring)
    _tell(path, ring, as_json)


def _tell(path: Path, ring: KeyRing, as_json: bool) -> None:
    document = {
        "file": str(path), "seal": [key.id for key in ring.seals], "index": [key.id for key in ring.indexes],
    }  # fmt: skip
    if as_json:
        print_json(document)
        return
    click.echo(str(path))
    for use in ("seal", "index"):
        current, *earlier = document[use]
        click.echo(f"  {use:<6} {current}" + (f" (earlier: {', '.join(earlier)})" if earlier else ""))
