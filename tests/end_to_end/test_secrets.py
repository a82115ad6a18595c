"""No secret and no patient's name in a log, a process list, a topic, a metric or a table: everything is searched."""

from __future__ import annotations

import re
import secrets
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.storage.records_cast import patient, user
from vitalgate.client.device import Device
from vitalgate.config.transport import conninfo, kafka_options
from vitalgate.local.stack import Stack
from vitalgate.pki import keyring
from vitalgate.records.permissions import Role
from vitalgate.storage.records_database import Actor, RecordsDatabase
from vitalgate.storage.records_write import create
from vitalgate.testing.deployment import Deployment

pytestmark = pytest.mark.stack
_FEWEST = 8


@dataclass
class Lived:
    """A system in which something happened, and what must be nowhere."""

    system: Deployment
    secrets: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def lived(stack: Stack) -> Lived:
    """Devices, clinicians, a person with a name, readings, and log-ins that fail."""
    system = Deployment.running(stack.data)
    found = Lived(system)
    mark = secrets.token_hex(4)
    device = f"secret-{mark}"
    person = system.add_patient()
    told = system.command("device", "add", "bp-cuff", "--id", device, "--patient", person, "--json")
    found.secrets["the device's password"] = told["password"]
    again = system.command("device", "password", device, "--json")
    found.secrets["the device's new password"] = again["password"]
    clinician = system.command("clinician", "add", f"secret-ada-{mark}", "--team", "care", "--json")
    found.secrets["the clinician's password"] = clinician["password"]
    found.secrets |= of_the_stack(stack.data / "secrets")
    with Device(system.host, system.port, device, again["password"], tls=system.tls) as client:
        client.send_readings([{"metric": "pulse_rate", "value": 71, "unit": "/min"}])
        client.send_readings([{"metric": "pulse_rate", "value": "many", "unit": "/min"}])
        assert client.wait_until_kept(20)
    for name, password in ((device, told["password"]), ("vg-admin", f"guessed-{mark}"), (f"nobody-{mark}", mark)):
        subprocess.run(
            ["mosquitto_pub", "-h", system.host, "-p", str(system.port), "-u", name, "-P", password, "-t", "x", "-n"],
            capture_output=True, timeout=20, check=False,
        )  # fmt: skip
    found.secrets["a password that was guessed"] = f"guessed-{mark}"
    found.names = {
        "the patient's name": f"Quirine Xanthopoulou {mark}",
        "the account's name": f"Wenzeslaus Ybl {mark}",
        "the account's address": f"wenzeslaus.{mark}@example.org",
    }
    settings = system.settings
    with RecordsDatabase(settings.database, keyring.read(settings.security.keys_file), most=2) as database:
        with database.service("user:tester") as tx:
            administrator = user(tx, Role.ADMINISTRATOR, email=found.names["the account's address"])
            known = patient(tx, f"patient-{mark}")
        with database.acting(Actor(administrator, Role.ADMINISTRATOR)) as tx:
            profile = {
                "patient": known,
                "displayName": found.names["the patient's name"],
                "medicalRecordNumber": f"MRN{mark}",
                "dateOfBirth": "1950-02-03",
            }
            create(tx, "patient_profile", profile)
    system.command("audit", "verify", "--json", status=None)
    return found


def of_the_stack(folder: Path) -> dict[str, str]:
    """Every secret below the folder, by where it is."""
    found = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8").strip()
        if path.name == "pgpass":
            text = text.rpartition(":")[2]
        if "PRIVATE KEY" in text:
            text = text.splitlines()[1]
        if path.name.endswith(".ring"):
            for line in text.splitlines():
                if not line.startswith("#"):
                    found[f"{path.name} {line.split()[1]}"] = line.split()[2]
            continue
        found[str(path.relative_to(folder))] = text
    assert len(found) >= _FEWEST
    assert all(len(text) >= 20 for text in found.values())
    return found


def where_found(wanted: Mapping[str, str], places: Iterator[tuple[str, bytes]]) -> list[str]:
    """Which of the texts are in which place."""
    marks = {what: text.encode() for what, text in wanted.items()}
    hits, searched = [], 0
    for place, data in places:
        searched += len(data)
        hits += [f"{what} is in {place}" for what, mark in marks.items() if mark in data]
    assert searched > 1000, "nothing was searched"
    return hits


def logs(system: Deployment) -> Iterator[tuple[str, bytes]]:
    for path in sorted((system.data / "logs").iterdir()):
        yield path.name, path.read_bytes()


def processes(_: Deployment) -> Iterator[tuple[str, bytes]]:
    """What everybody on the machine may read of a process, and what its owner may."""
    for process in psutil.process_iter():
        for part in ("cmdline", "environ"):
            try:
                data = Path(f"/proc/{process.pid}/{part}").read_bytes()
            except OSError:
                continue
            yield f"{part} of process {process.pid}", data


def topics(system: Deployment) -> Iterator[tuple[str, bytes]]:
    kafka = system.settings.kafka
    consumer = Consumer(
        {**kafka_options(kafka), "group.id": "vg-none", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    try:
        found = consumer.list_topics(timeout=10).topics
        places = [
            TopicPartition(name, partition, OFFSET_BEGINNING)
            for name, topic in found.items() if name.startswith(kafka.prefix) and not name.startswith("__")
            for partition in topic.partitions
        ]  # fmt: skip
        assert len(places) > 20
        consumer.assign(places)
        open_ = {(place.topic, place.partition) for place in places}
        while open_:
            message = consumer.poll(10)
            assert message is not None, f"no answer from {sorted(open_)[:3]}"
            place = (str(message.topic()), int(message.partition() or 0))
            if message.error() is not None:
                open_.discard(place)
                continue
            headers = repr(message.headers()).encode()
            yield f"topic {place[0]}", b" ".join([message.key() or b"", message.value() or b"", headers])
    finally:
        consumer.close()


def metrics(system: Deployment) -> Iterator[tuple[str, bytes]]:
    for name, data in logs(system):
        for port in set(re.findall(rb'"event": "health endpoints", "port": (\d+)', data)):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port.decode()}/metrics", timeout=5) as answer:
                    yield f"metrics of {name}", answer.read()
            except OSError:
                continue


def tables(system: Deployment) -> Iterator[tuple[str, bytes]]:
    """Every row of every table of ours, as text."""
    database = system.settings.database
    with psycopg.connect(conninfo(database)) as connection:
        named = connection.execute(
            "SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
            ([f"{database.db_schema}_data", f"{database.db_schema}_records"],),
        ).fetchall()
        for (name,) in named:
            query: Any = f"SELECT string_agg(t::text, chr(10)) FROM (SELECT * FROM {name} LIMIT 20000) t"
            row = connection.execute(query).fetchone()
            yield f"table {name}", (row[0] or "").encode() if row else b""


@pytest.mark.parametrize("places", [logs, processes, topics, metrics, tables], ids=lambda places: places.__name__)
def test_no_secret_is_anywhere(lived: Lived, places: Any) -> None:
    assert where_found(lived.secrets, places(lived.system)) == []


@pytest.mark.parametrize("places", [logs, topics, metrics, tables], ids=lambda places: places.__name__)
def test_no_name_of_a_person_is_anywhere(lived: Lived, places: Any) -> None:
    assert where_found(lived.names, places(lived.system)) == []


def test_what_is_searched_for_would_be_found(lived: Lived, tmp_path: Path) -> None:
    name, text = next(iter(lived.secrets.items()))
    assert where_found(lived.secrets, iter([("a log", b"x" * 1000), ("here", b"..." + text.encode())])) == [
        f"{name} is in here"
    ]


def test_files_with_secrets_are_for_their_owner_alone(lived: Lived) -> None:
    data = lived.system.data
    for path in [*(data / "secrets").rglob("*"), *data.glob("*/dynamic-security.json"), *(data / "logs").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_passwords_are_stored_as_hashes(lived: Lived) -> None:
    text = (lived.system.data / "mosquitto" / "dynamic-security.json").read_text(encoding="utf-8")
    assert text.count('"salt"') >= 4
    with psycopg.connect(conninfo(lived.system.settings.database)) as connection:
        rows = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL").fetchall()
    assert rows
    assert all(str(stored).startswith("SCRAM-SHA-256$") for (stored,) in rows)
