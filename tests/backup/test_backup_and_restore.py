"""A backup put into an empty database, beside the Kafka it was taken with: the ledger balances."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from vitalgate.cli import cli
from vitalgate.local import control
from vitalgate.local.errors import PartError
from vitalgate.local.stack import Stack
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
        for name in reversed(OWN):
            control.stop_process(self.stack.data, name)

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
def test_nothing_is_lost_with_the_database_while_kafka_has_all(bed: Bed, tmp_path: Path) -> None:
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

    later.client.close()
    oximeter.client.close()
