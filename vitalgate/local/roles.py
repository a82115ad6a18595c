"""Whom each of our processes is in the database of the one-machine stack, and its password."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vitalgate.config.loading import env_name
from vitalgate.local.layout import Layout

#: Processes with a role of their own in the database, which bears their name.
OWN: Final = ("recorder", "archiver", "analysis", "registrar")
#: Processes that have no business there: they are not even told where it is.
NONE: Final = ("gateway", "notifier", "intake", "alerting", "handover", "auditor")
HOUSEKEEPER: Final = "housekeeper"
READER: Final = "reader"


def folder(layout: Layout) -> Path:
    """Where the roles' passwords are, a file each."""
    return layout.secrets / "database-roles"


def make_passwords(layout: Layout) -> Path:
    """Make those that are not there yet; the folder."""
    home = folder(layout)
    home.mkdir(mode=0o700, exist_ok=True)
    for name in (*OWN, HOUSEKEEPER, READER):
        layout.secret(f"{home.name}/{name}")
    return home


def environments(layout: Layout, schema: str) -> dict[str, dict[str, str]]:
    """By the name of each process, the settings that say who it is in the database."""
    home = folder(layout)
    found = {name: {env_name("database.dsn"): ""} for name in NONE}
    for name in OWN:
        found[name] = {
            env_name("database.user"): f"{schema}_{name}",
            env_name("database.password_file"): str(home / name),
        }
    found["archiver"] |= {
        env_name("database.housekeeper_user"): f"{schema}_{HOUSEKEEPER}",
        env_name("database.housekeeper_password_file"): str(home / HOUSEKEEPER),
    }
    return found
