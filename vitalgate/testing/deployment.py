"""A running system as a test sees it: its addresses, its command line, its database."""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.config.transport import conninfo, context


class CommandFailed(AssertionError):
    """A `vitalgate` command ended with another status than expected; the text has what it printed."""


@dataclass(frozen=True)
class Deployment:
    """A stack that runs in a data directory."""

    data: Path
    settings: Settings

    @classmethod
    def running(cls, data: Path) -> Deployment:
        """The one in this directory."""
        return cls(data, load(data=str(data)).settings)

    @property
    def host(self) -> str:
        """The broker's address."""
        return self.settings.mqtt.host

    @property
    def port(self) -> int:
        """The broker's port."""
        return self.settings.mqtt.port

    @property
    def tls(self) -> ssl.SSLContext | None:
        """A context for the broker, where it wants TLS."""
        return context(self.settings.mqtt, "mqtt")

    def command(self, *arguments: str, status: int | None = 0) -> Any:
        """Run `vitalgate ARGUMENTS`; its output, parsed when it is JSON.

        Parameters
        ----------
        status
            The exit status that is expected; None for any.

        Raises
        ------
        CommandFailed
            When it ends with another.
        """
        done = subprocess.run(
            [sys.executable, "-m", "vitalgate.cli", *arguments, "--data", str(self.data)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if status is not None and done.returncode != status:
            raise CommandFailed(
                f"vitalgate {' '.join(arguments)} ended with status {done.returncode}, expected {status}:\n"
                f"{done.stdout}{done.stderr}"
            )
        try:
            return json.loads(done.stdout)
        except ValueError:
            return done.stdout

    def add_patient(self, *, team: str = "care", zone: str = "Europe/Berlin") -> str:
        """Add a patient with an id of its own; the id."""
        from vitalgate.storage.registry import Registry

        patient = f"patient-{secrets.token_hex(4)}"
        with Registry(self.settings.database) as registry:
            registry.add_patient(patient, zone, team)
        return patient

    def query(self, text: LiteralString, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a query on the public views, such as `SELECT * FROM readings WHERE device_id = %(device)s`."""
        import psycopg
        from psycopg.rows import dict_row

        database = self.settings.database
        with psycopg.connect(
            conninfo(database), options=f"-c search_path={database.db_schema}", row_factory=dict_row
        ) as connection:
            return connection.execute(text, values).fetchall()

    def simulate(self, scenario: str, *options: str) -> dict[str, Any]:
        """What `vitalgate simulate --json` says of a scenario; `good` and `faults` among it."""
        found = self.command("simulate", "--scenario", scenario, "--json", *options, status=None)
        if not isinstance(found, dict):
            raise CommandFailed(f"the scenario {scenario} did not run:\n{found}")
        return found


def scenario_file(scenario: str | Path | Mapping[str, Any], folder: Path) -> str:
    """The name or path by which `vitalgate simulate` finds a scenario; a mapping is written to a file."""
    if not isinstance(scenario, Mapping):
        return str(scenario)
    path = folder / f"{scenario.get('name', 'scenario')}.toml"
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in scenario.items()), encoding="utf-8")
    return str(path)


def _toml(value: Any) -> str:
    """A value as TOML, inline."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value)
