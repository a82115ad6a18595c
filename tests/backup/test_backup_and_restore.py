"""A backup put into an empty database, beside the Kafka it was taken with and a new one: the ledger balances."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from vitalgate.cli import cli
from vitalgate.config import topics
from vitalgate.local import control
from vitalgate.local.errors import PartError
from vitalgate.local.stack import Stack
from vitalgate.local.topics import create_topics
from vitalgate.testing.deployment import CommandFailed, Deployment
from vitalgate.testing.device import TestedDevice

#: What stores, confirms and audits; the rest has all that it knows in Kafka.
OWN = ("archiver", "auditor", "recorder", "intake", "registrar", "notifier", "gateway")
PARTS = ("mqtt", "kafka", "postgres")
START = datetime.now(UTC) - timedelta(hours=2)


class Bed:
    """A stack of its own, whose database and Kafka are lost and made anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = Stack(folder / "data", {"audit.checkpoint_s": "1"}, {*PARTS, *OWN})
        self.stack.start()
        self.system = Deployment.running(self.stack.data)
        self.minute = 0

    def stop_own(self) -> None:
        """Stop our processes; Kafka, the database and the broker stay."""
        with ThreadPoolExecutor(len(OWN)) as pool:
            list(pool.map(lambda name: control.stop_process(self.stack.data, name), OWN))

    def start_own(self) -> None:
        for name in OWN:
            control.start_process(self.stack.data, name, 0)
        control.wait_until(
            self.stack.data, lambda status: all(one["state"] == "ready" for one in status["processes"]), 60
        )

    def lose_database(self) -> None:
        """An empty database in the place of ours."""
        dsn = self.system.settings.database.dsn
        with psycopg.connect(dsn, dbname="postgres", autocommit=True) as connection:
            connection.execute("DROP DATABASE vitalgate WITH (FORCE)")
            connection.execute("CREATE DATABASE vitalgate")

    def lose_kafka(self) -> None:
        """All topics and groups gone, as on a new node."""
        from kafka.admin import KafkaAdminClient

        kafka = self.system.settings.kafka
        admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        try:
            there = [name for name in admin.list_topics() if not name.startswith("__")]
            admin.delete_topics(there)
            until(lambda: not [name for name in admin.list_topics() if not name.startswith("__")], "topics go")
        finally:
            admin.close()
        until(lambda: len(create_topics(kafka)) in (0, len(topics.ALL)), "topics come")

    def send(self, device: TestedDevice, count: int) -> None:
        for _ in range(count):
            self.minute += 1
            at = (START + timedelta(seconds=10 * self.minute)).isoformat()
            device.client.send_readings([{"metric": "spo2", "value": 90 + self.minute % 10, "unit": "%", "time": at}])
        device.settle()

    def command(self, *arguments: str, status: int | None = 0) -> Any:
        """As `Deployment.command`, in this process: it is quicker."""
        done = CliRunner().invoke(cli, [*arguments, "--data", str(self.stack.data)], catch_exceptions=False)
        if status is not None and done.exit_code != status:
            raise CommandFailed(f"vitalgate {' '.join(arguments)}: {done.exit_code}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def ledger(self) -> dict[str, Any]:
        return self.command("ledger", "--json", status=None)  # type: ignore[no-any-return]

    def settled(self, stored: int) -> dict[str, Any]:
        """The ledger once all is stored."""
        told: dict[str, Any] = {}

        def done() -> bool:
            told.update(self.ledger())
            return told["in_flight"] == 0 and told["stored"] >= stored

        until(done, f"{stored} items are stored", 60, lambda: f"{told}\n{self.log('recorder')}")
        return told

    def log(self, name: str) -> str:
        """The last lines of a process's log."""
        return "\n".join((self.stack.data / "logs" / f"{name}.log").read_text().splitlines()[-15:])

    def audit_holds(self) -> int:
        """Both sides of the audit trail hold; the last link."""
        topic = self.command("audit", "verify", "--json")
        table = self.command("audit", "verify", "--table", "--wait", "30", "--json")
        assert topic["ok"] and table["ok"] and topic["first"] == table["first"] == 1
        return int(topic["last"])


def until(met: Callable[[], Any], what: str, seconds: float = 30, why: Callable[[], str] = str) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, f"not within {seconds} s: {what} {why()}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    folder = Path(tempfile.mkdtemp(prefix="vitalgate-test-"))
    folder.chmod(0o711)
    try:
        made = Bed(folder)
    except PartError as error:
        pytest.skip(f"a part is missing on this machine: {error}")
    yield made
    made.stack.stop(remove=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_lost_with_the_database_and_all_goes_on_with_a_new_kafka(bed: Bed, tmp_path: Path) -> None:
    system = bed.system
    oximeter = TestedDevice.register(system, "pulse-oximeter", None, tmp_path)
    bed.send(oximeter, 40)
    bed.settled(40)
    backup = tmp_path / "backup"
    told = bed.command("backup", str(backup), "--json")
    assert told["settled"] and "audit.signing_key_file" in told["keys"] and not told["copied"]
    assert not (backup / "keys").exists()
    with pytest.raises(CommandFailed, match="is there already"):
        bed.command("backup", str(backup))

    # --- after it: messages, a device, a patient, a correction
    bed.send(oximeter, 25)
    later = TestedDevice.register(system, "thermometer", None, tmp_path)
    at = (START + timedelta(minutes=3)).isoformat()
    later.send({"metric": "temperature", "value": 37.5, "unit": "Cel", "time": at})
    later.send({"metric": "temperature", "value": 37.6, "unit": "Cel", "time": at})
    before = bed.settled(67)
    links = bed.audit_holds()

    # --- the database is lost, the Kafka is not
    with pytest.raises(CommandFailed, match=r"holds .* rows"):
        bed.command("restore", str(backup))
    with pytest.raises(CommandFailed, match=r"connected to the database: .*recorder"):
        bed.command("restore", str(backup), "--replace")
    bed.stop_own()
    bed.lose_database()
    done = bed.command("restore", str(backup), "--json")
    assert (done["kafka"], done["expired"]) == ("same", {})
    assert done["replayed"] > 0
    assert later.device_id in done["registry"]["devices"] and later.patient in done["registry"]["patients"]
    bed.start_own()
    after = bed.settled(67)
    assert after["balanced"] and after["lost"] == 0
    assert [after[name] for name in ("received", "stored", "duplicate", "dead_lettered")] == [
        before[name] for name in ("received", "stored", "duplicate", "dead_lettered")
    ]
    assert [row["value"] for row in later.readings(2)] == [37.5, 37.6]
    assert len(oximeter.readings(65)) == 65
    assert bed.audit_holds() > links
    bed.send(oximeter, 5)  # the device goes on as if nothing had been
    assert bed.settled(72)["balanced"]
    devices = {row["device_id"]: row["patient_id"] for row in system.query("SELECT * FROM devices")}
    assert devices[later.device_id] == later.patient

    # --- both are lost: what the second backup has goes on in a new Kafka
    unnumbered(bed, later, 36.0)
    bed.settled(73)
    second = tmp_path / "second"
    bed.command("backup", str(second), "--with-keys", "--json")
    kept = bed.ledger()
    high_water = marks(bed)
    bed.send(oximeter, 3)  # these are lost: the devices hold receipts for them
    bed.settled(76)
    bed.audit_holds()
    bed.command("audit", "anchor", system.settings.audit.anchor_file, "--json")  # knows of links that the backup lacks
    bed.stop_own()
    bed.lose_kafka()
    bed.lose_database()
    done = bed.command("restore", str(second), "--new-kafka", "--json")
    assert done["kafka"] == "new" and done["links"] > 0
    assert done["anchors_moved"]
    bed.start_own()
    after = bed.settled(73)
    assert after["balanced"] and after["received"] == kept["received"]
    bed.send(oximeter, 6)
    unnumbered(bed, later, 36.5)  # the same measurement again, without a number: later than the first, so it stands
    after = bed.settled(80)
    assert after["balanced"] and after["lost"] == 0 and after["faults"] == []
    assert all(mark > high_water[partition] for partition, mark in marks(bed).items() if mark != high_water[partition])
    found = [row for row in later.readings(2) if row["value"] in (36.0, 36.5)]
    assert [(row["value"], row["version"]) for row in found] == [(36.0, 1), (36.5, 2)]
    current = system.query(
        "SELECT value FROM readings_current WHERE device_id = %(device)s AND value < 37", {"device": later.device_id}
    )
    assert [row["value"] for row in current] == [36.5]
    bed.audit_holds()

    # --- the Kafka alone is lost: the database has all, the backup is older than it
    bed.stop_own()
    bed.lose_kafka()
    done = bed.command("restore", str(second), "--keep-database", "--new-kafka", "--json")
    assert done["numbered"] >= 2
    bed.start_own()
    bed.send(oximeter, 4)  # receipts come: what was kept since the backup is known
    after = bed.settled(84)
    assert after["balanced"] and after["lost"] == 0
    assert [gap["missing"] for gap in after["gaps"]] == [[[71, 73]]], "the three that were lost are told, nothing else"
    bed.audit_holds()
    later.client.close()
    oximeter.client.close()


def unnumbered(bed: Bed, device: TestedDevice, value: float) -> None:
    """A message without epoch and number: its order is that of its raw record."""
    import paho.mqtt.publish as publish

    at = (START + timedelta(minutes=1)).isoformat()
    body = json.dumps({"readings": [{"metric": "temperature", "value": value, "unit": "Cel", "time": at}]})
    publish.single(
        topics.device_topic(device.device_id, "readings"), body, qos=1, hostname=bed.system.host,
        port=bed.system.port, client_id=f"{device.device_id}-plain",
        auth={"username": device.device_id, "password": device.password},
    )  # fmt: skip
    until(lambda: [row for row in device.readings() if row["value"] == value], f"{value} is stored", 30)


def marks(bed: Bed) -> dict[int, int]:
    with psycopg.connect(bed.system.settings.database.dsn) as connection:
        return dict(
            connection.execute(
                "SELECT partition, max(last_offset) FROM vitalgate_data.ledger GROUP BY partition"
            ).fetchall()
        )
