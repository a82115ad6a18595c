"""Roles of the database: one a process, with the rights of `roles.toml` and no others; the trail's has no log-in."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from vitalgate.config.loading import read_secret
from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.connect import Connection, Names
from vitalgate.storage.errors import StorageError

AUDIT: Final = "audit"
"""Owns the audit trail's tables, and cannot log in: nobody who can may change or drop them, but a superuser."""
OWNER: Final = "housekeeper"
TRAIL: Final = ("audit_events", "audit_anchors")
VERBS: Final[Mapping[str, str]] = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}

_KINDS = """
    SELECT c.relname, c.relkind::text, pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n
    ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
"""
_PARTITIONS = """
    SELECT c.relname, p.relname, pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
    JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relispartition AND c.relkind = 'r'
"""
_GIVEN = """
    SELECT grantee, table_schema, table_name, privilege_type FROM information_schema.role_table_grants
    WHERE grantee = ANY(%s) AND table_schema = ANY(%s)
"""
_SEQUENCES = """
    SELECT DISTINCT s.oid::regclass::text FROM pg_depend d JOIN pg_attrdef a ON a.oid = d.objid
    JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' JOIN pg_class c ON c.oid = a.adrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classid = 'pg_attrdef'::regclass AND n.nspname = %s AND c.relname = ANY(%s)
"""
Grant = tuple[str, str, str, str]


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, Any]]:
    """The table of rights as it is written."""
    return tomllib.loads(resources.files("vitalgate.storage").joinpath("roles.toml").read_text(encoding="utf-8"))


def role(where: Names, name: str) -> str:
    """A role's name in a deployment."""
    return f"{where.schema}_{name}"


def wanted(where: Names, views: list[str], tables: list[str]) -> set[Grant]:
    """Every right: role, schema, table, privilege; `views` and `tables` are the public views and the tables."""
    found: set[Grant] = set()
    for name, entry in table().items():
        for key, schema in (("tables", where.data), ("records", f"{where.schema}_records")):
            for relation, verbs in entry.get(key, {}).items():
                found |= {(role(where, name), schema, relation, VERBS[verb]) for verb in verbs}
        if entry.get("reads"):
            found |= {(role(where, name), where.data, relation, "SELECT") for relation in tables}
        if entry.get("views"):
            found |= {(role(where, name), where.schema, view, "SELECT") for view in views}
    # Views show the trail by their owner's rights, and housekeeping counts it.
    found |= {(role(where, OWNER), where.data, relation, "SELECT") for relation in TRAIL}
    return found


def apply(connection: Connection, where: Names, settings: DatabaseSettings) -> None:
    """Make the roles, owners and rights what the table says; safe to run again, and quick when nothing changed.

    Raises
    ------
    StorageError
        When a role is missing and this one may not create it; the text has the statements for who may.
    """
    _make(connection, where)
    with connection.transaction():
        _own(connection, where)
        _grant(connection, where)
        _give_function(connection, where)
        _let_number(connection, where)
        _let_call(connection, where)
    _passwords(connection, where, settings)


def _make(connection: Connection, where: Names) -> None:
    there = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
    names = [role(where, name) for name in (*table(), AUDIT)]
    missing = [name for name in names if name not in there]
    try:
        for name in missing:
            connection.execute(_create(name))
        for name in (role(where, OWNER), role(where, AUDIT)):
            row = connection.execute("SELECT pg_has_role(current_user, %s, 'MEMBER')", (name,)).fetchone()
            if row is None or not row[0]:
                connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege as error:
        again = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        owners = f"{role(where, OWNER)}, {role(where, AUDIT)}"
        statements = [_create(name).as_string(connection) for name in names if name not in again]
        raise StorageError(
            "roles are missing and this role may not create them; have a superuser run: "
            + "".join(f"{statement}; " for statement in statements)
            + f"GRANT {owners} TO the role that migrates"
        ) from error


def _create(name: str) -> sql.Composed:
    """Without a password nobody logs in; `database.role_passwords` gives them."""
    login = "NOLOGIN" if name.endswith(f"_{AUDIT}") else "LOGIN"
    rights = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    return sql.SQL(f"CREATE ROLE {{}} {login} {rights}").format(sql.Identifier(name))


def _own(connection: Connection, where: Names) -> None:
    """Give every table its owner; views keep theirs, but continuous aggregates, which the housekeeper refreshes."""
    owner, audit = role(where, OWNER), role(where, AUDIT)
    for name in (owner, audit):
        connection.execute(
            sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(sql.Identifier(where.data), sql.Identifier(name))
        )
    for relation, kind, now in connection.execute(_KINDS, (where.data,)).fetchall():
        if kind != "v":
            _give(connection, where, "TABLE", relation, now, audit if relation in TRAIL else owner)
    for relation, parent, now in connection.execute(_PARTITIONS, (where.data,)).fetchall():
        _give(connection, where, "TABLE", relation, now, audit if parent in TRAIL else owner)
    if connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").rowcount:
        rows = connection.execute(
            "SELECT view_name, view_owner FROM timescaledb_information.continuous_aggregates WHERE view_schema = %s"
            # An aggregate of another is changed after it.
            " ORDER BY hypertable_name = ANY(SELECT materialization_hypertable_name FROM"
            " timescaledb_information.continuous_aggregates)",
            (where.data,),
        ).fetchall()
        for relation, now in rows:
            _give(connection, where, "MATERIALIZED VIEW", relation, now, owner)


def _give(connection: Connection, where: Names, kind: str, relation: str, now: str, owner: str) -> None:
    if now != owner:
        connection.execute(
            sql.SQL(f"ALTER {kind} {{}} OWNER TO {{}}").format(
                sql.Identifier(where.data, relation), sql.Identifier(owner)
            )
        )


def _let_number(connection: Connection, where: Names) -> None:
    """Who may insert into a table may draw the numbers that its columns' defaults take from a sequence."""
    for name, entry in table().items():
        for key, schema in (("tables", where.data), ("records", where.records)):
            tables = [relation for relation, verbs in entry.get(key, {}).items() if "a" in verbs]
            if not tables:
                continue
            for (sequence,) in connection.execute(_SEQUENCES, (schema, tables)).fetchall():
                connection.execute(
                    sql.SQL(f"GRANT USAGE ON SEQUENCE {sequence} TO {{}}").format(sql.Identifier(role(where, name)))
                )


def _let_call(connection: Connection, where: Names) -> None:
    """Functions of the records' schema that a role calls by itself, every form of each."""
    schema = f"{where.schema}_records"
    for name, entry in table().items():
        if entry.get("functions"):
            connection.execute(
                sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
                    sql.Identifier(schema), sql.Identifier(role(where, name))
                )
            )
        if entry.get("functions", {}).get("records"):
            connection.execute(
                sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
                    sql.Identifier(schema), sql.Identifier(role(where, name))
                )
            )
        for function in entry.get("functions", {}).get("records", ()):
            rows = connection.execute(
                "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
                " WHERE n.nspname = %s AND p.proname = %s",
                (schema, function),
            ).fetchall()
            for (form,) in rows:
                connection.execute(
                    sql.SQL(f"GRANT EXECUTE ON FUNCTION {form} TO {{}}").format(sql.Identifier(role(where, name)))
                )


def _give_function(connection: Connection, where: Names) -> None:
    """What makes partitions of the trail runs as the trail's owner, for the housekeeper alone."""
    if connection.execute(
        "SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = %s AND proname = %s",
        (where.data, "add_trail_partition"),
    ).rowcount:
        name = sql.SQL("{}.add_trail_partition(text, timestamptz, timestamptz)").format(sql.Identifier(where.data))
        connection.execute(
            sql.SQL("REVOKE ALL ON FUNCTION {0} FROM PUBLIC; ALTER FUNCTION {0} OWNER TO {1};"
                    " GRANT EXECUTE ON FUNCTION {0} TO {2}").format(
                name, sql.Identifier(role(where, AUDIT)), sql.Identifier(role(where, OWNER))
            )
        )  # fmt: skip


def _grant(connection: Connection, where: Names) -> None:
    schemas = [where.schema, where.data, f"{where.schema}_records"]
    ours = [role(where, name) for name in table()]
    relations = {
        (schema, relation) for schema in schemas for relation, _, _ in connection.execute(_KINDS, (schema,)).fetchall()
    }
    views = [relation for schema, relation in relations if schema == where.schema]
    tables = [relation for schema, relation in relations if schema == where.data]
    want = {grant for grant in wanted(where, views, tables) if (grant[1], grant[2]) in relations}
    owner = role(where, OWNER)
    have = {
        (who, schema, relation, verb)
        for who, schema, relation, verb in connection.execute(_GIVEN, (ours, schemas)).fetchall()
        if not (who == owner and relation not in TRAIL)
    }
    for name in ours:
        for schema in sorted({grant[1] for grant in want if grant[0] == name}):
            connection.execute(
                sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(name))
            )
    for verb, word, grants in (("GRANT", "TO", want - have), ("REVOKE", "FROM", have - want)):
        for who, schema, relation, right in sorted(grants):
            connection.execute(
                sql.SQL(f"{verb} {right} ON {{}} {word} {{}}").format(
                    sql.Identifier(schema, relation), sql.Identifier(who)
                )
            )


def _passwords(connection: Connection, where: Names, settings: DatabaseSettings) -> None:
    """Give roles the passwords of their files, as SCRAM verifiers: no password goes to the server or into its log."""
    if not settings.role_passwords:
        return
    for name, path in _password_files(Path(settings.role_passwords)):
        user = role(where, name)
        secret = read_secret(str(path), f"password of {user}")
        verifier = connection.pgconn.encrypt_password(secret.encode(), user.encode(), b"scram-sha-256").decode()
        connection.execute(
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(user), sql.Literal(verifier))
        )


def _password_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for name in table():
        path = folder / name
        if path.is_file():
            yield name, path
