"""The database into one file and back, by PostgreSQL's own pg_dump and pg_restore.

With TimescaleDB the whole database is dumped and put into one made anew, between `timescaledb_pre_restore` and
`timescaledb_post_restore`, as its documentation demands. Plain PostgreSQL gives and takes our schemas alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from vitalgate.config.settings import DatabaseSettings
from vitalgate.config.transport import conninfo
from vitalgate.storage.connect import Connection, names
from vitalgate.storage.errors import StorageError, transient

#: What libpq reads from the environment: no password and no host name stands on a command line.
_ENV = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD",
    "passfile": "PGPASSFILE", "dbname": "PGDATABASE", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "connect_timeout": "PGCONNECT_TIMEOUT",
}  # fmt: skip
#: Schemas that belong to PostgreSQL and TimescaleDB.
_THEIRS = re.compile(r"^(pg_.*|information_schema|public|_?timescaledb_.*|toolkit_.*)$")


@dataclass(frozen=True)
class Facts:
    """What has to be known of a database to put a dump of it elsewhere."""

    major: int
    form: str
    """timescale or plain; empty when nothing was migrated yet."""
    timescale: str
    """Version of the extension, or empty."""
    schemas: list[str]
    others: list[str]
    """Schemas of somebody else."""
    roles: list[str] = field(default_factory=list)
    """Roles that own or may do something in our schemas; made without log-in where they are missing."""
    members: list[list[str]] = field(default_factory=list)
    """[role, member] among them."""
    migrations: int = 0
    items: int = 0
    """Rows that nobody would want to lose: ledger lines, devices, patients, people."""


def facts(settings: DatabaseSettings) -> Facts:
    """Ask the database.

    Raises
    ------
    TransientDatabaseError
        When it is away.
    """
    with transient(), _open(settings) as connection:
        version = connection.info.server_version // 10000
        found = [name for (name,) in connection.execute("SELECT nspname FROM pg_namespace ORDER BY 1").fetchall()]
        ours = [name for name in _ours(settings) if name in found]
        others = [name for name in found if name not in ours and not _THEIRS.match(name)]
        extension = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
        form, migrations, items = "", 0, 0
        if names(settings).data in ours:
            form, migrations, items = _content(connection, settings)
        roles, members = _roles(connection, ours)
        return Facts(
            version, form, str(extension[0]) if extension else "", ours, others, roles, members, migrations, items
        )


def _ours(settings: DatabaseSettings) -> list[str]:
    where = names(settings)
    return [where.schema, where.data, where.records]


def _content(connection: Connection, settings: DatabaseSettings) -> tuple[str, int, int]:
    where = names(settings)

    def one(query: LiteralString, table: str, schema: str = where.data) -> Any:
        there = connection.execute("SELECT to_regclass(%s)", (f"{schema}.{table}",)).fetchone()
        if there is None or there[0] is None:
            return None
        row = connection.execute(sql.SQL(query).format(sql.Identifier(schema, table))).fetchone()
        return None if row is None else row[0]

    form = one("SELECT value FROM {} WHERE name = 'form'", "meta") or ""
    count = one("SELECT max(number) FROM {}", "migrations") or 0
    many: LiteralString = "SELECT count(*) FROM {}"
    items = sum(one(many, table) or 0 for table in ("ledger", "devices", "patients", "clinicians"))
    return str(form), int(count), items + (one(many, "users", where.records) or 0)


def _roles(connection: Connection, schemas: list[str]) -> tuple[list[str], list[list[str]]]:
    if not schemas:
        return [], []
    found = connection.execute(
        """
        WITH ours AS (SELECT oid, nspowner, nspacl FROM pg_namespace WHERE nspname = ANY(%s)),
        named AS (
            SELECT nspowner AS role FROM ours
            UNION SELECT relowner FROM pg_class WHERE relnamespace IN (SELECT oid FROM ours)
            UNION SELECT proowner FROM pg_proc WHERE pronamespace IN (SELECT oid FROM ours)
            UNION SELECT a.grantee FROM ours, aclexplode(nspacl) AS a
            UNION SELECT a.grantee FROM pg_class c, aclexplode(c.relacl) AS a
                WHERE c.relnamespace IN (SELECT oid FROM ours)
            UNION SELECT a.grantee FROM pg_proc p, aclexplode(p.proacl) AS a
                WHERE p.pronamespace IN (SELECT oid FROM ours)
            UNION SELECT unnest(polroles) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
                WHERE c.relnamespace IN (SELECT oid FROM ours))
        SELECT rolname FROM pg_roles WHERE oid IN (SELECT role FROM named) AND rolname !~ '^pg_' ORDER BY 1
        """,
        (schemas,),
    ).fetchall()
    roles = [name for (name,) in found]
    members = connection.execute(
        "SELECT r.rolname, m.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid"
        " JOIN pg_roles m ON m.oid = a.member WHERE r.rolname = ANY(%s) AND m.rolname = ANY(%s) ORDER BY 1, 2",
        (roles, roles),
    ).fetchall()
    return roles, [list(pair) for pair in members]


def dump(settings: DatabaseSettings, file: Path, known: Facts, folders: Iterable[Path] = ()) -> None:
    """Write a dump (custom format, compressed) from one snapshot.

    Parameters
    ----------
    folders
        Where to look for pg_dump before the PATH is looked at.

    Raises
    ------
    StorageError
        When pg_dump is not there or fails; the text carries what it said.
    """
    arguments = ["--format=custom", "--compress=6", "--no-password", f"--file={file}"]
    if known.form != "timescale":
        arguments += [f"--schema={name}" for name in known.schemas]
    _run("pg_dump", arguments, settings, known.major, folders)
    file.chmod(0o600)


def restore(settings: DatabaseSettings, file: Path, held: Facts, folders: Iterable[Path] = ()) -> None:
    """Put a dump in the place of what the database holds of us.

    Parameters
    ----------
    held
        The facts of the database that was dumped.

    Raises
    ------
    StorageError
        When this server cannot hold it, or pg_restore fails; then nothing usable is there: restore again.
    """
    here = facts(settings)
    if here.major < held.major:
        raise StorageError(
            f"the backup is of PostgreSQL {held.major}, this server is {here.major}: restore into {held.major} or later"
        )
    if held.form == "timescale":
        if here.others:
            raise StorageError(
                f"this database holds other schemas too ({', '.join(here.others)}), and a TimescaleDB backup takes a "
                "whole database: give database.dsn the name of a database of its own"
            )
        _make_anew(settings, held)
    else:
        with transient(), _open(settings) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS btree_gist SCHEMA public")
            for name in here.schemas:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
            _make_roles(connection, held)
    _run(
        "pg_restore", ["--exit-on-error", "--no-password", f"--dbname={_database(settings)}", str(file)], settings,
        max(here.major, held.major), folders,
    )  # fmt: skip
    if held.form == "timescale":
        with transient(), _open(settings) as connection:
            connection.execute("SELECT timescaledb_post_restore()")
    with transient(), _open(settings) as connection:
        connection.execute("ANALYZE")


def _make_anew(settings: DatabaseSettings, held: Facts) -> None:
    name = sql.Identifier(_database(settings))
    with transient(), _open(settings, dbname="postgres") as connection:
        _make_roles(connection, held)
        row = connection.execute(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'"
        ).fetchone()
        if row is None:
            raise StorageError(
                "the backup is of a database with TimescaleDB, which this server does not offer: install it there, or "
                "take the data over as Parquet (`vitalgate export`)"
            )
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    with transient(), _open(settings) as connection:
        try:
            connection.execute(
                sql.SQL("CREATE EXTENSION timescaledb SCHEMA public VERSION {}").format(sql.Literal(held.timescale))
            )
        except psycopg.Error as error:
            raise StorageError(
                f"the backup needs TimescaleDB {held.timescale} exactly, this server offers {row[0]}: install that "
                "version beside it, restore, then ALTER EXTENSION timescaledb UPDATE"
            ) from error
        connection.execute("SELECT timescaledb_pre_restore()")


def _make_roles(connection: Connection, held: Facts) -> None:
    """Roles that the dump names and this server has not: without log-in, which an administrator gives them."""
    there = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
    for name in held.roles:
        if name not in there:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
    for role, member in held.members:
        if role not in there or member not in there:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(member)))


def _open(settings: DatabaseSettings, **other: str) -> Connection:
    dsn = make_conninfo(conninfo(settings), **other)
    return psycopg.connect(dsn, autocommit=True, application_name="vitalgate backup", connect_timeout=10)


def _database(settings: DatabaseSettings) -> str:
    given = conninfo_to_dict(conninfo(settings))
    return str(given.get("dbname") or given.get("user") or "")


def _run(tool: str, arguments: list[str], settings: DatabaseSettings, major: int, folders: Iterable[Path]) -> None:
    given = conninfo_to_dict(conninfo(settings))
    env = {**os.environ, **{_ENV[name]: str(value) for name, value in given.items() if name in _ENV and value}}
    done = subprocess.run(
        [_tool(tool, major, folders), *arguments], env=env, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise StorageError(f"{tool} failed: {done.stderr.strip()[-800:]}")


def _tool(name: str, major: int, folders: Iterable[Path]) -> Path:
    found: dict[Path, int] = {}
    for place in (*(folder / name for folder in folders), shutil.which(name)):
        if place is None or not Path(place).is_file():
            continue
        said = subprocess.run([place, "--version"], capture_output=True, text=True, check=False).stdout
        if match := re.search(r"(\d+)", said):
            found[Path(place)] = int(match[1])
    able = {place: version for place, version in found.items() if version >= major}
    if not able:
        there = ", ".join(f"{place} ({version})" for place, version in found.items()) or "none was found"
        raise StorageError(
            f"{name} of PostgreSQL {major} or later is needed, as old as the server or newer; {there}. Install the "
            "client programs of that version, or name their folder in local.postgres_bin"
        )
    return min(able, key=lambda place: able[place])


def as_document(known: Facts) -> dict[str, Any]:
    """For the manifest."""
    return dict(vars(known))


def from_document(document: Mapping[str, Any]) -> Facts:
    """The facts of a manifest. Raises StorageError when some are missing."""
    try:
        return Facts(**document)
    except TypeError as error:
        raise StorageError(f"the manifest does not say what has to be known of the database: {error}") from error
