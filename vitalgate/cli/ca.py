"""Certificate authorities for devices and for services: make, issue, renew, revoke, list."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli._context import Failure, data_directory, json_option, print_json, settings

if TYPE_CHECKING:
    from vitalgate.pki.authority import Authority, Issued

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


@contextmanager
def _failing() -> Iterator[None]:
    from vitalgate.pki.certificates import PkiError

    try:
        yield
    except PkiError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from error


def _authority() -> Authority:
    from vitalgate.pki.authority import Authority

    named = settings().settings.security.ca_dir
    return Authority(Path(named) if named else data_directory() / "ca")


@command.command()
@json_option
def init(as_json: bool) -> None:
    """Make the authorities that are not there yet; what is there stays."""
    authority = _authority()
    with _failing():
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

    with _failing():
        entry, pair = _authority().issue(kind, name, datetime.now(UTC), days=days, hosts=hosts)
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

    authority, now = _authority(), datetime.now(UTC)
    with _failing():
        old = authority.find(name)
        entry, pair = authority.issue(old.kind, old.name, now, days=days, hosts=old.hosts)
        files = write_pair(out, old.name, pair)
        revoked = [] if keep_old else authority.revoke(old.name, now, keep=entry.serial)
    _push(revoked)
    _tell_issued(entry, files, as_json, revoked)


@command.command()
@click.argument("what", metavar="NAME or SERIAL")
@json_option
def revoke(what: str, as_json: bool) -> None:
    """Revoke all valid certificates of a NAME, or one by its SERIAL number.

    The broker of a running local stack reads the list at once, and the device's connection is cut. A broker of your
    own needs the list (devices/crl.pem) and SIGHUP; then `vitalgate device revoke` cuts the connection.
    """
    with _failing():
        revoked = _authority().revoke(what, datetime.now(UTC))
    done = _push(revoked)
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
    with _failing():
        entries = _authority().listed()
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
    with _failing():
        entry = _authority().find(what)
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


def _push(revoked: Sequence[Issued]) -> bool:
    """Have the local stack's broker read the list, and cut the devices' connections; False where none runs here."""
    from vitalgate.config.loading import SettingsError, read_secret
    from vitalgate.gateway import dynsec
    from vitalgate.gateway.link import LinkDown
    from vitalgate.local import control
    from vitalgate.local.errors import StackError

    devices = sorted({entry.name for entry in revoked if entry.kind == "device"})
    mqtt = settings().settings.mqtt
    if not devices or not mqtt.certificate_port:
        return False
    try:
        control.kill_process(data_directory(), "mosquitto", signal.SIGHUP)
        password = read_secret(mqtt.admin_password_file, "broker administrator's password (mqtt.admin_password_file)")
        with dynsec.Dynsec(mqtt, password) as broker:
            state = broker.clients()
            # A device that may come back with a password or another certificate is cut off by being let in again.
            for name in devices:
                if name in state:
                    commands = [dynsec.disable(name)] + ([] if state[name].disabled else [dynsec.enable(name)])
                    broker.run(commands)
    except control.NotRunningError:
        return False
    except (StackError, LinkDown, dynsec.DynsecError, SettingsError) as error:
        raise Failure(
            f"{', '.join(devices)}: revoked and on the list, but the broker was not told: {error}; send it SIGHUP"
        ) from error
    return True
