"""Add, list, show, assign, configure, revoke devices; check what a device sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings
from vitalgate.cli._device_configure import configure
from vitalgate.cli._times import TIME

if TYPE_CHECKING:
    from vitalgate.stream.enrolment import Outcome

_PERSON = "vitalgate.device.person"
LATER = "not applied yet: the registrar will do it when it runs (vitalgate status shows whether it does)"


@click.group()
@click.option(
    "--as",
    "name",
    metavar="NAME",
    help="In whose name the change is made, for the audit; the operating system's user when left out.",
)
@click.pass_context
def command(ctx: click.Context, name: str | None) -> None:  # fmt: skip
    """Devices: what kinds there are, who has which, and whether what they send is right."""
    if name is not None and not (name.isprintable() and 0 < len(name) <= 100 and name == name.strip()):
        raise Misuse(f"--as {name!r}: use 1 to 100 printable characters")
    ctx.meta[_PERSON] = name


def person() -> str:
    """Who makes the change: `user:` and the name given with --as, or the operating system's."""
    from vitalgate.storage.registry_user import user

    name = click.get_current_context().meta.get(_PERSON)
    return f"user:{name}" if name else user()


@contextmanager
def failing() -> Iterator[None]:
    """Faults of the registry and the broker as messages."""
    from vitalgate.gateway.access import AccessError
    from vitalgate.gateway.link import LinkDown
    from vitalgate.storage.errors import StorageError
    from vitalgate.stream.enrolment import EnrolmentError

    try:
        yield
    except (StorageError, LinkDown, AccessError, EnrolmentError) as error:
        raise Failure(str(error)) from error


command.add_command(configure)


@command.command()
@json_option
def kinds(as_json: bool) -> None:
    """List the kinds of devices, with what each measures."""
    from vitalgate.devices import catalogue

    rows = [
        {
            "kind": kind.name,
            "title": kind.title,
            "metrics": sorted(kind.metrics),
            "channels": sorted(kind.channels),
            "settings": {name: one.model_dump(exclude_defaults=True) for name, one in kind.settings.items()},
        }
        for kind in catalogue.load().kinds.values()
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['kind']:<18} {row['title']}")
        measures = [*row["metrics"], *(f"waveform {name}" for name in row["channels"])]
        click.echo(click.wrap_text(", ".join(measures), 100, " " * 19, " " * 19))
        if row["settings"]:
            click.echo(click.wrap_text(f"settings {', '.join(row['settings'])}", 100, " " * 19, " " * 19))


@command.command()
@click.argument("kind", required=False)
@click.option("--id", "device_id", metavar="ID", help="The device's id; it is also its MQTT user name.")
@click.option("--patient", metavar="P", help="Assign it to this patient from now on.")
@click.option("--serial", default="", help="Serial number.")
@click.option("--firmware", default="", help="Firmware version.")
@click.option("--sample-rate", metavar="HZ", help="Sampling rate, where it differs from the kind's (250 or 1000/3).")
@click.option(
    "--from", "file", metavar="FILE", type=click.File("r"),
    help="Add many: CSV with a header line, or JSON lines, with device_id, kind, patient, serial, firmware.",
)  # fmt: skip
@json_option
def add(
    kind: str | None, device_id: str | None, patient: str | None, serial: str, firmware: str,
    sample_rate: str | None, file: Any, as_json: bool,
) -> None:  # fmt: skip
    """Add a device of a KIND and print its user name and password, this once.

    The password is stored nowhere; `vitalgate device password ID` sets a new one.
    """
    from vitalgate.stream import enrolment

    with failing():
        if file is not None:
            if device_id is not None:
                raise Misuse("--id and --from exclude each other: the file names the ids")
            wanted = enrolment.read_wanted(file.read(), kind)
        elif kind is None or device_id is None:
            raise Misuse("name the KIND and --id ID, or a file with --from FILE; `vitalgate device kinds` lists kinds")
        else:
            attributes = {} if sample_rate is None else {"sample_rate": sample_rate}
            wanted = [enrolment.Wanted(device_id, kind, patient, serial, firmware, attributes)]
        _tell(enrolment.add(settings().settings, wanted, who=person()), as_json=as_json, many=file is not None)


@command.command()
@click.argument("device_id", metavar="ID")
@json_option
def password(device_id: str, as_json: bool) -> None:
    """Give a device a new password and print it, this once; its connection is cut."""
    from vitalgate.stream import enrolment

    with failing():
        _tell(enrolment.new_credentials(settings().settings, device_id, who=person()), as_json=as_json, many=False)


def _tell(outcome: Outcome, *, as_json: bool, many: bool) -> None:
    rows = [{"device_id": d.device_id, "username": d.username, "password": d.password} for d in outcome.devices]
    if as_json:
        print_json(rows if many else rows[0])
    else:
        for row in rows:
            click.echo(f"{row['device_id']}  user name {row['username']}  password {row['password']}")
    if not outcome.applied:
        click.echo(LATER, err=True)


@command.command("list")
@click.option("--kind", help="Only this kind.")
@click.option("--patient", metavar="P", help="Only those assigned to this patient now.")
@json_option
def list_(kind: str | None, patient: str | None, as_json: bool) -> None:
    """List the devices with who has them now."""
    from vitalgate.storage.registry import Registry

    with failing(), Registry(settings().settings.database) as registry:
        found = [
            device
            for device in registry.devices()
            if (kind is None or device.kind == kind) and (patient is None or device.patient == patient)
        ]
    rows = [
        {"device_id": d.device_id, "kind": d.kind, "state": d.state, "patient": d.patient, "serial": d.serial}
        for d in found
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['device_id']:<28} {row['kind']:<18} {row['state']:<8} {row['patient'] or '-'}")


@command.command()
@click.argument("device_id", metavar="ID")
@json_option
def show(device_id: str, as_json: bool) -> None:
    """Show a device with its settings and all its assignments."""
    from vitalgate.storage.registry import Registry

    with failing(), Registry(settings().settings.database) as registry:
        found = registry.devices(device_id)
        if not found:
            raise Failure(f"no device {device_id!r}; `vitalgate device list` shows those there are")
        assignments = registry.assignments(device_id)
        wished = registry.settings(device_id)
    device = found[0]
    document: dict[str, Any] = {
        "device_id": device.device_id,
        "kind": device.kind,
        "state": device.state,
        "serial": device.serial,
        "firmware": device.firmware,
        **device.attributes,
        "created_at": _text(device.created_at),
        "revoked_at": _text(device.revoked_at),
        "settings": dict(wished[0].settings) if wished else {},
        "settings_revision": wished[0].revision if wished else 0,
        "assignments": [
            {"id": a.id, "patient": a.patient_id, "from": _text(a.start), "to": _text(a.stop)} for a in assignments
        ],
    }
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        if key not in ("assignments", "settings", "settings_revision") and value not in (None, ""):
            click.echo(f"{key:<12} {value}")
    for key, value in sorted(document["settings"].items()):
        click.echo(f"setting      {key} = {json.dumps(value, ensure_ascii=False)}")
    for row in document["assignments"]:
        click.echo(f"assigned     {row['patient']} from {row['from']} to {row['to'] or 'now on'}")


@command.command()
@click.argument("device_id", metavar="ID")
@click.option("--patient", metavar="P", help="Who has (or had) it; --nobody to take it back.")
@click.option("--nobody", is_flag=True, help="Nobody has (or had) it.")
@click.option("--from", "start", type=TIME, help="Since when (RFC 3339); now when left out.")
@click.option("--to", "stop", type=TIME, help="Until when; open when left out.")
@json_option
def assign(
    device_id: str, patient: str | None, nobody: bool, start: datetime | None, stop: datetime | None, as_json: bool
) -> None:
    """Say who has a device, or correct who had it: what was said of that time before is replaced.

    Its data, features and alerts move to the patient who had it when it was measured.
    """
    from vitalgate.storage.registry import Registry
    from vitalgate.stream.enrolment import APPLY_S

    if (patient is None) != nobody:
        raise Misuse("name --patient P, or --nobody")
    begin = start or datetime.now(UTC)
    with failing(), Registry(settings().settings.database, who=person()) as registry:
        change = registry.assign(device_id, patient, begin, stop)
        applied = registry.wait_applied(change.outbox, APPLY_S)
    moved = [
        {"from": _text(low), "to": _text(high), "before": before, "after": after}
        for _, low, high, before, after in change.moved
    ]
    if as_json:
        print_json({"device_id": device_id, "moved": moved, "applied": applied})
    else:
        for row in moved:
            who = f"{row['before'] or 'nobody'} -> {row['after'] or 'nobody'}"
            click.echo(f"{device_id}  {who}  from {row['from']} to {row['to'] or 'now on'}")
        if not moved:
            click.echo(f"{device_id}: nothing changes")
    if not applied:
        click.echo(LATER, err=True)


@command.command()
@click.argument("device_ids", metavar="ID...", nargs=-1, required=True)
@json_option
def revoke(device_ids: tuple[str, ...], as_json: bool) -> None:
    """Take access away from devices at once: connections are cut; what they sent stays.

    Certificates that `vitalgate ca` here gave them are revoked too.
    """
    from vitalgate.cli._certificates import revoke_certificates
    from vitalgate.storage.registry import Registry
    from vitalgate.stream.enrolment import APPLY_S

    with failing(), Registry(settings().settings.database, who=person()) as registry:
        changes = [registry.revoke(device_id) for device_id in device_ids]
        applied = registry.wait_applied(changes[-1].outbox, APPLY_S)
    certificates = sum(map(revoke_certificates, device_ids))
    if as_json:
        print_json({"revoked": list(device_ids), "applied": applied, "certificates": certificates})
    else:
        click.echo("\n".join(f"{device_id} revoked" for device_id in device_ids))
    if not applied:
        click.echo(LATER, err=True)


@command.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, allow_dash=True))
@click.option("--kind", metavar="KIND", help="The device's kind; with --live the registry knows it.")
@click.option(
    "--topic",
    "--leaf",
    "leaf",
    default=None,
    help="readings, waveforms or status; told from the content when left out.",
)
@click.option("--live", "device_id", metavar="ID", help="Watch what this device sends.")
@click.option("--seconds", type=float, default=None, help="How long to watch; until Ctrl-C when left out.")
@json_option
def check(
    file: Path | None, kind: str | None, leaf: str | None, device_id: str | None, seconds: float | None, as_json: bool
) -> None:
    """Tell what is right and wrong with a payload in FILE (- is standard input), or with what a device sends (--live).

    Exit status 1 when something would be refused.
    """
    if (file is None) == (device_id is None):
        raise Misuse("name a FILE with --kind KIND, or --live ID")
    from vitalgate.stream.live_check import leaf_of, watch

    if device_id is not None:
        with failing():
            _end(_watch(watch(settings().settings, device_id, kind, seconds), as_json=as_json))
    from vitalgate.devices import check as checks
    from vitalgate.devices.catalogue import UnknownName

    if kind is None:
        raise Misuse("name the device's --kind KIND; `vitalgate device kinds` lists them")
    assert file is not None
    payload = click.open_file(str(file), "rb").read()
    loaded = settings().settings
    try:
        findings = checks.check(
            payload, leaf or leaf_of(payload), kind,
            settings=loaded.intake, max_payload_bytes=loaded.mqtt.max_payload_bytes,
        )  # fmt: skip
    except UnknownName as error:
        raise Misuse(str(error)) from error
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        click.echo("\n".join(str(finding) for finding in findings))
    _end(any(finding.level == "wrong" for finding in findings))


def _end(wrong: bool) -> NoReturn:
    click.get_current_context().exit(1 if wrong else 0)


def _watch(found: Iterator[Any], *, as_json: bool) -> bool:
    wrong = False
    for sighting in found:
        wrong = wrong or any(finding.level == "wrong" for finding in sighting.findings)
        if as_json:
            findings = [finding._asdict() for finding in sighting.findings]
            click.echo(json.dumps({"topic": sighting.topic, "received_at": sighting.received_at, "findings": findings}))
        else:
            click.echo(f"{sighting.received_at}  {sighting.topic}")
            for finding in sighting.findings:
                click.echo(f"  {finding}")
    return wrong


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
