"""A registered device in a test: sends with the client library, and asks the system what it has of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitalgate.client.device import Device
from vitalgate.client.protocol import Key, Policy
from vitalgate.testing.deployment import Deployment

#: A test does not wait as long as a device at home.
_POLICY = Policy(first_s=1.0, cap_s=5.0)
_PATIENCE_S = 15.0


class TestedDevice:
    """One device with its own credentials.

    Attributes
    ----------
    device_id, password
        How it gets in; for a client of your own making.
    patient
        Whose it is.
    """

    __test__ = False  # pytest: not a test, though its name begins like one

    def __init__(self, system: Deployment, device_id: str, password: str, patient: str, folder: Path) -> None:
        self.system = system
        self.device_id = device_id
        self.password = password
        self.patient = patient
        self._folder = folder
        self._client: Device | None = None

    @classmethod
    def register(
        cls, system: Deployment, kind: str, patient: str | None, folder: Path, *, device_id: str | None = None
    ) -> TestedDevice:
        """Register a device of this kind; raises CommandFailed when that is refused."""
        patient = patient or system.add_patient()
        device_id = device_id or f"{kind}-{secrets.token_hex(4)}"
        told = system.command("device", "add", kind, "--id", device_id, "--patient", patient, "--json")
        return cls(system, told["device_id"], told["password"], patient, folder)

    @property
    def client(self) -> Device:
        """The client library's device, connected at first use."""
        if self._client is None:
            self._client = Device(
                self.system.host, self.system.port, self.device_id, self.password,
                outbox=self._folder / f"{self.device_id}.sqlite", policy=_POLICY, tls=self.system.tls,
            )  # fmt: skip
        return self._client

    def send(self, *readings: Mapping[str, Any]) -> Key:
        """Send readings as one message and wait for its receipt; its number. Raises AssertionError without receipt."""
        key = self.client.send_readings(readings)
        self.settle()
        return key

    def settle(self, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until everything sent is receipted. Raises AssertionError when that does not happen."""
        if not self.client.wait_until_kept(timeout_s):
            raise AssertionError(f"{self.client.pending()} messages have no receipt after {timeout_s:g} s")

    def readings(self, at_least: int = 1, timeout_s: float = _PATIENCE_S) -> list[dict[str, Any]]:
        """Rows of the view `readings` of this device, all versions, in order of time and version."""
        return self._wait(
            lambda: self.system.query(
                "SELECT * FROM readings WHERE device_id = %(device)s ORDER BY time, metric, site, index, version",
                {"device": self.device_id},
            ),
            at_least, timeout_s, "readings",
        )  # fmt: skip

    def dead_letters(self, at_least: int = 1, timeout_s: float = _PATIENCE_S) -> list[dict[str, Any]]:
        """Rows of the view `dead_letters` of this device, oldest first; `reason` and `detail` say what was wrong."""
        return self._wait(
            lambda: self.system.query(
                "SELECT * FROM dead_letters WHERE device_id = %(device)s ORDER BY id", {"device": self.device_id}
            ),
            at_least, timeout_s, "dead letters",
        )  # fmt: skip

    def alerts(self, at_least: int = 1, timeout_s: float = _PATIENCE_S) -> list[dict[str, Any]]:
        """Rows of the view `alerts` of this device's patient."""
        return self._wait(
            lambda: self.system.query(
                "SELECT * FROM alerts WHERE patient_id = %(patient)s ORDER BY onset", {"patient": self.patient}
            ),
            at_least, timeout_s, "alerts",
        )  # fmt: skip

    def _wait(
        self, ask: Callable[[], list[dict[str, Any]]], at_least: int, timeout_s: float, what: str
    ) -> list[dict[str, Any]]:
        give_up = time.monotonic() + timeout_s
        while len(rows := ask()) < at_least:
            if time.monotonic() > give_up:
                raise AssertionError(f"{self.device_id} has {len(rows)} {what} after {timeout_s:g} s, not {at_least}")
            time.sleep(0.05)
        return rows

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.close()


def values(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | str | None]:
    """The latest value by metric of rows of the view `readings`."""
    found: dict[str, float | str | None] = {}
    for row in sorted(rows, key=lambda row: (row["time"], row["version"])):
        found[row["metric"]] = row["value"] if row["value"] is not None else row["code"]
    return found
