"""Patients by an opaque id: add, list, show."""

from __future__ import annotations

from datetime import datetime

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings
from vitalgate.cli._times import TIME


@click.group()
def command() -> None:
    """Patients, by an opaque id and a time zone; no name is needed, and none should be in the id."""


@command.command()
@click.argument("patient_id")
@click.option("--zone", default="UTC", show_default=True, help="IANA time zone: decides the patient's days.")
@click.option("--team", help="Care team that gets the alerts [default: alerting.default_team].")
@json_option
def add(patient_id: str, zone: str, team: str | None, as_json: bool) -> None:
    """Add a patient."""
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.registry import Registry

    given = settings().settings
    try:
        with Registry(given.database) as registry:
            registry.add_patient(patient_id, zone, team or given.alerting.default_team)
    except StorageError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json({"patient_id": patient_id, "zone": zone, "team": team or given.alerting.default_team})
    else:
        click.echo(f"Patient {patient_id} added.")


@command.command()
@click.argument("patient_id")
@click.argument("zone")
@click.option("--since", type=TIME, required=True, help="From when on.")
def move(patient_id: str, zone: str, since: datetime) -> None:
    """Say that a patient lives in another time zone from some moment on."""
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.registry import Registry

    try:
        with Registry(settings().settings.database) as registry:
            registry.move_patient(patient_id, zone, since)
    except StorageError as error:
        raise Failure(str(error)) from error
    click.echo(f"Patient {patient_id}: {zone} from {since.isoformat()}.")


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List patients with their time zone, team and devices."""
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.registry import Registry

    try:
        with Registry(settings().settings.database) as registry:
            found = registry.patients()
    except StorageError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json([patient.document() for patient in found])
        return
    for patient in found:
        click.echo(
            f"{patient.patient_id:<24} {patient.zones[-1][1]:<20} {patient.team:<12} {' '.join(patient.devices)}"
        )
    if not found:
        click.echo("No patients; `vitalgate patient add ID` adds one.")


@command.command()
@click.argument("patient_id")
@json_option
def show(patient_id: str, as_json: bool) -> None:
    """Show a patient: time zones with their history, team, every device and when."""
    from vitalgate.storage.errors import StorageError
    from vitalgate.storage.registry import Registry

    try:
        with Registry(settings().settings.database) as registry:
            found = registry.patients(patient_id)
            assignments = registry.assignments(patient_id=patient_id)
    except StorageError as error:
        raise Failure(str(error)) from error
    if not found:
        raise Failure(f"no patient {patient_id!r}; `vitalgate patient list` shows those there are")
    if as_json:
        print_json({**found[0].document(), "assignments": [assignment.document() for assignment in assignments]})
        return
    click.echo(f"patient  {found[0].patient_id}\nteam     {found[0].team}")
    for since, zone in found[0].zones:
        click.echo(f"zone     {zone}" + (f" since {since.isoformat()}" if since else ""))
    for assignment in assignments:
        stop = assignment.stop.isoformat() if assignment.stop else "now"
        click.echo(f"device   {assignment.device_id}  {assignment.start.isoformat()} to {stop}")
