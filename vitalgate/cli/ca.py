"""Certificate authorities for devices and for services: make, issue, renew, revoke, list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli._certificates import authority_here, failing, push_revoked
from vitalgate.cli._context import json_option, print_json

if TYPE_CHECKING:
    from vitalgate.pki.authority import Issued

_OUT = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", default=Path(), show_default="here",
    help="Where NAME.pem and NAME.key are written; the key (mode 600) is kept nowhere else.",
)  # fmt: skip
_DAYS = click.option(
    "--days", default=365, show_default=True, type=click.IntRange(1, 3650), help="How long it is valid."
)


@click.group(epilog="Example: vitalgate ca init && vitalgate ca issue device bp-17 --out bp-17/ && vitalgate ca list")
def command() -> None:
    """Two certificate authorities of your own: one for devices, one for services and servers.

    They are in security.ca_dir (by default `ca` in the data directory). Whoever has that directory can be anybody:
    keep it off the servers, and where backups are sealed. docs/tls.md says who needs which file.
    """


@command.command()
@json_option
def init(as_json: bool) -> None:
    """Make the authorities that are not there yet; what is there stays."""
    authority = authority_here()
    with failing():
        made = authority.init(datetime.now(UTC))
    document = {
        "directory": str(authority.folder),
        "made": [str(path) for path in made],
        "devices_ca": str(authority.ca_file("devices")),
        "services_ca": str(authority.ca_file("services")),
        "devices_crl": str(authority.crl_file("devices")),
    }
    if as_json:
        print_json(document)
        return
    click.echo(
        f"{len(made)} authorities made in {authority.folder}." if made else f"{authority.folder}: kept as it is."
    )
    click.echo(f"  the broker trusts for devices      {document['devices_ca']}, but not {document['devices_crl']}")
    click.echo(f"  everybody trusts for servers       {document['services_ca']}")


@command.command()
@click.argument("kind", type=click.Choice(["device", "service", "server", "node"]))
@click.argument("name")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Name or address of a server; may be repeated.")
@_DAYS
@_OUT
@json_option
def issue(kind: Any, name: str, hosts: tuple[str, ...], days: int, out: Path, as_json: bool) -> None:
    """Issue a certificate with a new key.

    A device's NAME is its id, and then its MQTT user name. A service's is what the table of rights in Kafka calls it
    (gateway, intake, …). A node is a server of a Kafka cluster, which is its fellows' client too.
    """
    from vitalgate.pki.authority import write_pair

    with failing():
        entry, pair = authority_here().issue(kind, name, datetime.now(UTC), days=days, hosts=hosts)
        files = write_pair(out, name, pair)
    _tell_issued(entry, files, as_json)


@command.command()
@click.argument("name")
@click.option("--keep-old", is_flag=True, help="Leave the earlier certificates valid until they end.")
@_DAYS
@_OUT
@json_option
def renew(name: str, keep_old: bool, days: int, out: Path, as_json: bool) -> None:
    """Issue another certificate, with another key, in place of NAME's; revoke the earlier ones.

    With --keep-old a device can fetch its new one before the old one is revoked (`vitalgate ca revoke SERIAL`).
    """
    from vitalgate.pki.authority import write_pair

    authority, now = authority_here(), datetime.now(UTC)
    with failing():
        old = authority.find(name)
        entry, pair = authority.issue(old.kind, old.name, now, days=days, hosts=old.hosts)
        files = write_pair(out, old.name, pair)
        revoked = [] if keep_old else authority.revoke(old.name, now, keep=entry.serial)
    push_revoked(revoked)
    _tell_issued(entry, files, as_json, revoked)


@command.command()
@click.argument("what", metavar="NAME or SERIAL")
@json_option
def revoke(what: str, as_json: bool) -> None:
    """Revoke all valid certificates of a NAME, or one by its SERIAL number.

    The broker of a running local stack reads the list at once, and the device's connection is cut. A broker of your
    own needs the list (devices/crl.pem) and SIGHUP; then `vitalgate device revoke` cuts the connection.
    """
    with failing():
        revoked = authority_here().revoke(what, datetime.now(UTC))
    done = push_revoked(revoked)
    if as_json:
        print_json({"revoked": [asdict(entry) for entry in revoked], "broker_told": done})
        return
    for entry in revoked:
        click.echo(f"revoked {entry.kind} {entry.name}, serial {entry.serial}")
    if not done and any(entry.kind == "device" for entry in revoked):
        click.echo("No local broker runs here: give yours the new devices/crl.pem, and SIGHUP.")


@command.command(name="list")
@click.option("--ending", type=click.IntRange(0), metavar="DAYS", help="Only what ends within so many days.")
@json_option
def list_(ending: int | None, as_json: bool) -> None:
    """List what was issued: kind, name, state, end, serial number."""
    now = datetime.now(UTC)
    with failing():
        entries = authority_here().listed()
    if ending is not None:
        entries = [entry for entry in entries if entry.state(now) == "valid" and _days_left(entry, now) <= ending]
    if as_json:
        print_json([{**asdict(entry), "state": entry.state(now)} for entry in entries])
        return
    for entry in entries:
        click.echo(f"{entry.kind:<8} {entry.name:<28} {entry.state(now):<8} {entry.not_after[:10]}  {entry.serial}")


@command.command()
@click.argument("what", metavar="NAME or SERIAL")
@json_option
def show(what: str, as_json: bool) -> None:
    """Show the newest certificate of a NAME, or one by its SERIAL number."""
    with failing():
        entry = authority_here().find(what)
    document = {**asdict(entry), "state": entry.state(datetime.now(UTC))}
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        click.echo(f"{key.replace('_', ' '):<12} {', '.join(value) if isinstance(value, tuple) else value or '-'}")


def _days_left(entry: Issued, now: datetime) -> float:
    return (datetime.fromisoformat(entry.not_after) - now).total_seconds() / 86_400


def _tell_issued(entry: Issued, files: Sequence[Path], as_json: bool, revoked: Sequence[Issued] = ()) -> None:
    certificate, key = files
    if as_json:
        gone = [each.serial for each in revoked]
        print_json({**asdict(entry), "certificate": str(certificate), "key": str(key), "replaced": gone})
        return
    click.echo(f"{entry.kind} {entry.name}: {certificate} and {key}, valid until {entry.not_after[:10]}")
    for each in revoked:
        click.echo(f"revoked the earlier one, serial {each.serial}")
