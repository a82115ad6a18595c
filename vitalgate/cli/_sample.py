"""The playground: a database of its own, made-up people with records, and a page on which everything can be tried."""

from __future__ import annotations

import json
import random
import secrets
import tempfile
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli._context import options

if TYPE_CHECKING:
    from vitalgate.config.settings import DatabaseSettings, Settings
    from vitalgate.storage.records_database import RecordsDatabase

_HOURS = 24
_MINUTES = 60
#: metric, unit, mean, spread.
_METRICS = (("heart_rate", "/min", 72.0, 6.0), ("spo2", "%", 96.5, 1.0), ("respiration_rate", "/min", 15.0, 2.0))
_READINGS = """
    INSERT INTO readings (time, device_id, metric, site, idx, version, current, value_num, unit, epoch_no, ord, item,
                          received_at, skew_s, message_id, raw_partition, raw_offset)
    VALUES (%s, %s, %s, '', 0, 1, true, %s, %s, 0, %s, 0, %s, 0, gen_random_uuid(), 0, -1)
"""


def run_sample() -> int:
    """Start the database, fill it, serve until interrupted, and remove it all."""
    from vitalgate.cli.api import serve
    from vitalgate.local.stack import Stack
    from vitalgate.storage.migrate import migrate

    with tempfile.TemporaryDirectory(prefix="vitalgate-sample-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL may run as another user
        stack = Stack(Path(folder) / "data", {"log.level": "warning", **options().flags}, only={"postgres"})
        click.echo("starting a database …")
        stack.start()
        try:
            found = stack.settings.settings
            migrate(found.database)
            click.echo("making people …")
            people = _fill(found)
            page = resources.files("vitalgate.api").joinpath("playground.html").read_text(encoding="utf-8")
            # A name could end the script element if it held its end tag.
            page = page.replace("/*PEOPLE*/[]", json.dumps(people).replace("<", "\\u003c"))
            click.echo(f"The playground is at http://{found.api.host}:{found.api.port}/ — end it with Ctrl-C.")
            return serve(found, playground=page)
        finally:
            stack.stop(remove=True)


def _fill(found: Settings) -> list[dict[str, str]]:
    """People with records; for the page, each with a token."""
    from vitalgate.pki import keyring
    from vitalgate.storage import records_login
    from vitalgate.storage.records_database import RecordsDatabase

    password = secrets.token_urlsafe(18)
    with RecordsDatabase(found.database, keyring.read(found.security.keys_file), most=2) as database:
        _register(found.database)
        accounts = [
            ("Anna, a patient", "patient", "anna", None), ("Bert, a patient", "patient", "bert", None),
            ("Dr Carla, who looks after Anna", "clinician", None, "carla"),
            ("Dr Dora, who looks after neither", "clinician", None, "dora"),
            ("Ada, an administrator", "administrator", None, None),
        ]  # fmt: skip
        people = []
        for about, role, patient, clinician in accounts:
            email = f"{about.split(',')[0].split()[-1].lower()}@example.org"
            _account(database, email, password, about.split(",")[0], role, patient, clinician)
            people.append({"name": about.split(",")[0], "about": about, "patient": patient or "", "email": email})
        _records(database)
        for one in people:
            one["token"] = records_login.log_in(database, one["email"], password, application="playground").access_token
    return people


def _register(database: DatabaseSettings) -> None:
    from vitalgate.storage.aggregates import refresh_plain, refresh_timescale
    from vitalgate.storage.connect import connect
    from vitalgate.storage.registry import NewDevice, Registry

    now = datetime.now(UTC)
    begin = now - timedelta(hours=_HOURS)
    with Registry(database, who="user:sample") as registry:
        for name in ("anna", "bert"):
            registry.add_patient(name, "Europe/Berlin", f"team-{name}")
            registry.add_devices([NewDevice(f"{name}-oximeter", "pulse-oximeter", "", name, since=begin)])
    chance = random.Random(1)  # noqa: S311  made-up values, no secret
    rows = [
        (at, f"{name}-oximeter", metric, round(chance.gauss(mean, spread), 1), unit, minute, at)
        for name in ("anna", "bert")
        for metric, unit, mean, spread in _METRICS
        for minute in range(_HOURS * _MINUTES)
        for at in (begin + timedelta(minutes=minute),)
    ]
    with connect(database, "sample", autocommit=True) as connection:
        connection.cursor().executemany(_READINGS, rows)
        connection.execute("INSERT INTO aggregates_dirty (from_time, to_time) VALUES (%s, %s)", (begin, now))
        row = connection.execute("SELECT value FROM meta WHERE name = 'form'").fetchone()
        if row and row[0] == "timescale":
            refresh_timescale(connection, now)
        else:
            refresh_plain(connection)


def _account(
    database: RecordsDatabase, email: str, password: str, name: str, role: str, patient: str | None,
    clinician: str | None,
) -> None:  # fmt: skip
    from vitalgate.storage import records_accounts

    with database.service("service:sample") as tx:
        code = records_accounts.invite(tx, email, role, patient=patient, clinician=clinician)
    records_accounts.sign_up(database, email, password, name, role, invitation=code)


def _records(database: RecordsDatabase) -> None:
    from vitalgate.storage.records_write import create, transition

    soon = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=2)
    made: list[tuple[str, dict[str, Any], list[str]]] = [
        ("care_team", {"patient": "anna", "clinician": "carla", "role": "attending"}, []),
        ("patient_profile", {"patient": "anna", "medicalRecordNumber": "MRN-1", "displayName": "Anna Muster",
                             "dateOfBirth": "1958-04-05", "timeZone": "Europe/Berlin"}, []),
        ("patient_profile", {"patient": "bert", "medicalRecordNumber": "MRN-2", "displayName": "Bert Beispiel",
                             "dateOfBirth": "1949-09-30", "timeZone": "Europe/Berlin"}, []),
        ("ecg_report", {"patient": "anna", "reportType": "strip", "conclusion": "Sinus rhythm, single ectopic beats.",
                        "resultData": {"rate": 71, "pr": 162, "qrs": 94, "qt": 402, "qtc": 421}},
         ["finalise", "publish"]),
        ("lab_result", {"patient": "anna", "testCode": "2823-3", "testName": "Potassium", "resultValue": 4.1,
                        "units": "mmol/L", "referenceRange": {"low": 3.5, "high": 5.1}}, ["finalise"]),
        ("treatment_plan", {"patient": "anna", "kind": "monitoring", "summary": "Weigh every morning."}, ["activate"]),
        ("appointment", {"patient": "anna", "provider": "carla", "startAt": soon,
                         "endAt": soon + timedelta(minutes=30), "location": "Room 2"}, []),
        ("message", {"patient": "anna", "body": "Welcome! Write here whenever something is not as usual."}, []),
    ]  # fmt: skip
    for kind, values, verbs in made:
        with database.service("service:sample") as tx:
            record = create(tx, kind, values)
            for verb in verbs:
                transition(tx, kind, record.id, verb)
