"""Connections and the names of the two schemas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from vitalgate.config.settings import DatabaseSettings
from vitalgate.config.transport import conninfo
from vitalgate.storage.errors import StorageError, transient

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Names:
    """The schemas of the views, of the tables, and of the records."""

    schema: str

    @property
    def data(self) -> str:
        """Schema of the tables; no reading role may touch it."""
        return f"{self.schema}_data"

    @property
    def records(self) -> str:
        """Schema of people and their records, which the application's role may enter."""
        return f"{self.schema}_records"

    @property
    def app_role(self) -> str:
        """Role that sees records, always as some user."""
        return f"{self.schema}_app"

    @property
    def auth_role(self) -> str:
        """Role that sees accounts and sessions, and no record."""
        return f"{self.schema}_auth"

    def fill(self, text: str) -> str:
        """SQL with `{schema}` and `{data}` put in. The setting's pattern keeps the names plain identifiers."""
        return text.replace("{data}", self.data).replace("{schema}", self.schema)


def names(settings: DatabaseSettings) -> Names:
    """The schema names of a deployment."""
    return Names(settings.db_schema)


def connect(
    settings: DatabaseSettings,
    application: str,
    *,
    autocommit: bool = False,
    timeout_s: float | None = None,
    views: bool = False,
) -> Connection:
    """Open a connection in UTC, on which a plain name means a table (or, with `views`, a public view).

    Parameters
    ----------
    application
        Shown in pg_stat_activity.
    timeout_s
        Statement timeout in seconds; None leaves the server's.

    Raises
    ------
    StorageError
        When no connection string is set.
    TransientDatabaseError
        When the server cannot be reached.
    """
    if not settings.dsn:
        raise StorageError(
            "database.dsn is empty: name a PostgreSQL (VITALGATE_DATABASE_DSN) or start one (vitalgate up)"
        )
    where = names(settings)
    path = where.schema if views else f"{where.data},{where.records}"
    options = f"-c search_path={path},public"
    options += " -c timezone=UTC -c datestyle=ISO -c jit=off -c client_min_messages=warning"
    if timeout_s is not None:
        options += f" -c statement_timeout={int(timeout_s * 1000)} -c lock_timeout={int(timeout_s * 1000)}"
    dsn = conninfo(settings)
    given = psycopg.conninfo.conninfo_to_dict(dsn)
    if given.get("options"):
        options = f"{given['options']} {options}"
    with transient():
        return psycopg.connect(
            dsn,
            autocommit=autocommit,
            application_name=f"vitalgate {application}",
            options=options,
            connect_timeout=int(given.get("connect_timeout") or 10),
            keepalives=1,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
