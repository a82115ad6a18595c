"""Every role against every table and verb: what `roles.toml` gives and no more; who owns the trail cannot log in."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from vitalgate.config.settings import DatabaseSettings
from vitalgate.config.transport import conninfo
from vitalgate.storage import maintenance, partitions, roles
from vitalgate.storage.connect import Names, connect, names
from vitalgate.storage.migrate import migrate

ROLES = (*roles.table(), roles.AUDIT)


@pytest.fixture
def where(migrated: DatabaseSettings) -> Names:
    return names(migrated)


@pytest.fixture
def owner(migrated: DatabaseSettings) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with connect(migrated, "test roles", autocommit=True) as connection:
        yield connection


def relations(connection: psycopg.Connection[tuple[object, ...]], where: Names) -> list[tuple[str, str]]:
    rows = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition ORDER BY 1, 2",
        ([where.schema, where.data, f"{where.schema}_records"],),
    ).fetchall()
    return [(str(schema), str(name)) for schema, name in rows]


def attempt(
    connection: psycopg.Connection[tuple[object, ...]], role: str, schema: str, relation: str, verb: str
) -> bool:
    """Whether the server lets the role plan and begin the statement; nothing is changed."""
    target = sql.Identifier(schema, relation)
    row = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attidentity = '' LIMIT 1",
        (target.as_string(connection),),
    ).fetchone()
    assert row is not None
    column = sql.Identifier(str(row[0]))
    statement = {
        "SELECT": sql.SQL("EXPLAIN SELECT {1} FROM {0}"),
        "INSERT": sql.SQL("EXPLAIN INSERT INTO {0} ({1}) SELECT NULL"),
        "UPDATE": sql.SQL("EXPLAIN UPDATE {0} SET {1} = NULL"),
        "DELETE": sql.SQL("EXPLAIN DELETE FROM {0}"),
        "TRUNCATE": sql.SQL("TRUNCATE {0}"),
    }[verb].format(target, column)
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.Error:  # a view that takes no changes, a column that may not be NULL: past the rights
        return True
    return True


VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


def test_the_matrix_of_role_table_and_verb(owner: psycopg.Connection[tuple[object, ...]], where: Names) -> None:
    there = relations(owner, where)
    given = roles.wanted(
        where, [name for schema, name in there if schema == where.schema],
        [name for schema, name in there if schema == where.data],
    )  # fmt: skip
    others = [roles.role(where, name) for name in roles.table() if name != roles.OWNER]
    rows = owner.execute(
        "SELECT r, s, t, v FROM unnest(%s::text[]) r, unnest(%s::text[], %s::text[]) AS u (s, t), unnest(%s::text[]) v"
        " CROSS JOIN LATERAL (SELECT format('%%I.%%I', s, t) AS f) AS named WHERE has_table_privilege(r, f, v)"
        " OR (v IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(r, f, v))",
        (others, [schema for schema, _ in there], [name for _, name in there], list(VERBS)),
    ).fetchall()
    assert set(rows) == {grant for grant in given if grant[0] in others}
    assert len(others) * len(there) * len(VERBS) > 1000


@pytest.mark.parametrize("relation", ["readings", "devices", "audit_events", "dead_letters", "registry_outbox"])
def test_statements_go_as_the_matrix_says(
    owner: psycopg.Connection[tuple[object, ...]], where: Names, relation: str
) -> None:
    given = roles.wanted(where, [], [relation])
    for name in roles.table():
        if name == roles.OWNER:
            continue
        role = roles.role(where, name)
        for verb in VERBS[:5]:
            may = (role, where.data, relation, verb) in given
            assert attempt(owner, role, where.data, relation, verb) == may, (name, verb)


def test_who_inserts_may_draw_the_numbers(owner: psycopg.Connection[tuple[object, ...]], where: Names) -> None:
    rows = owner.execute(
        "SELECT has_sequence_privilege(%s, %s::regclass, 'USAGE'), has_sequence_privilege(%s, %s::regclass, 'USAGE')",
        (roles.role(where, "archiver"), f"{where.data}.alert_events_n", roles.role(where, "reader"),
         f"{where.data}.alert_events_n"),
    ).fetchone()  # fmt: skip
    assert rows == (True, False)


def test_every_table_over_time_is_named_or_left_out_on_purpose(
    owner: psycopg.Connection[tuple[object, ...]], where: Names
) -> None:
    named = {table for entry in roles.table().values() for table in entry.get("tables", {})}
    there = {name for schema, name in relations(owner, where) if schema == where.data}
    assert named <= there, named - there


def test_the_housekeeper_owns_all_but_the_trail(owner: psycopg.Connection[tuple[object, ...]], where: Names) -> None:
    rows = owner.execute(
        "SELECT c.relname, pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relkind IN ('r', 'p')",
        (where.data,),
    ).fetchall()
    for relation, holder in rows:
        trail = str(relation).startswith(roles.TRAIL)
        assert holder == roles.role(where, roles.AUDIT if trail else roles.OWNER), relation
    housekeeper = roles.role(where, roles.OWNER)
    for verb in ("INSERT", "UPDATE", "DELETE", "TRUNCATE"):
        for relation in roles.TRAIL:
            assert not attempt(owner, housekeeper, where.data, relation, verb), (relation, verb)


def test_the_owner_of_the_trail_cannot_log_in_and_nobody_is_it(
    owner: psycopg.Connection[tuple[object, ...]], where: Names
) -> None:
    audit = roles.role(where, roles.AUDIT)
    assert owner.execute("SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = %s", (audit,)).fetchone() == (
        False, False,
    )  # fmt: skip
    for name in roles.table():
        row = owner.execute("SELECT pg_has_role(%s, %s, 'MEMBER')", (roles.role(where, name), audit)).fetchone()
        assert row == (False,), name


def test_no_role_can_do_more_than_its_tables(owner: psycopg.Connection[tuple[object, ...]], where: Names) -> None:
    for name in ROLES:
        role = roles.role(where, name)
        row = owner.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles"
            " WHERE rolname = %s",
            (role,),
        ).fetchone()
        assert row == (False,) * 5, name
        may_create = owner.execute("SELECT has_schema_privilege(%s, %s, 'CREATE')", (role, where.data)).fetchone()
        assert may_create == (name in (roles.OWNER, roles.AUDIT),), name


def test_the_reader_sees_views_and_not_the_pieces_of_tables(
    owner: psycopg.Connection[tuple[object, ...]], where: Names
) -> None:
    reader = roles.role(where, "reader")
    assert attempt(owner, reader, where.schema, "readings", "SELECT")
    assert not attempt(owner, reader, where.data, "readings", "SELECT")
    pieces = owner.execute(
        "SELECT n.nspname, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n"
        " ON n.oid = c.relnamespace JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn"
        " ON pn.oid = p.relnamespace WHERE pn.nspname = %s AND c.relkind = 'r'",
        (where.data,),
    ).fetchall()
    for schema, piece in pieces:
        assert not attempt(owner, reader, str(schema), str(piece), "SELECT")


def test_applying_again_changes_nothing_and_takes_back_what_was_added(
    owner: psycopg.Connection[tuple[object, ...]], migrated: DatabaseSettings, where: Names
) -> None:
    reader = sql.Identifier(roles.role(where, "reader"))
    owner.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(sql.Identifier(where.data, "readings"), reader))
    assert attempt(owner, roles.role(where, "recorder"), where.data, "readings", "INSERT")
    owner.execute(
        sql.SQL("REVOKE INSERT ON {} FROM {}").format(
            sql.Identifier(where.data, "readings"), sql.Identifier(roles.role(where, "recorder"))
        )
    )
    migrate(migrated)
    assert attempt(owner, roles.role(where, "recorder"), where.data, "readings", "INSERT")
    row = owner.execute(
        "SELECT has_table_privilege(%s, %s, 'SELECT')", (roles.role(where, "reader"), f"{where.data}.readings")
    ).fetchone()
    assert row == (False,)


def test_roles_log_in_with_the_passwords_of_their_files(
    migrated: DatabaseSettings, where: Names, tmp_path: Path
) -> None:
    for name in ("recorder", "housekeeper"):
        (tmp_path / name).write_text(secrets.token_urlsafe(24) + "\n")
    migrate(migrated.model_copy(update={"role_passwords": str(tmp_path)}))
    as_recorder = migrated.model_copy(
        update={"user": roles.role(where, "recorder"), "password_file": str(tmp_path / "recorder")}
    )
    with connect(as_recorder, "test roles") as connection:
        assert connection.execute("SELECT current_user").fetchone() == (roles.role(where, "recorder"),)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT FROM devices")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(conninfo(as_recorder), password="wrong", passfile="")


def test_housekeeping_is_done_by_its_own_role(migrated: DatabaseSettings, where: Names, tmp_path: Path) -> None:
    (tmp_path / "housekeeper").write_text(secrets.token_urlsafe(24))
    migrate(migrated.model_copy(update={"role_passwords": str(tmp_path)}))
    as_housekeeper = migrated.model_copy(
        update={
            "user": roles.role(where, roles.OWNER), "password_file": str(tmp_path / "housekeeper"),
            "retention_days": 3650,
        }
    )  # fmt: skip
    assert maintenance.run(as_housekeeper).ran
    with connect(as_housekeeper, "test roles", autocommit=True) as connection:
        far = datetime.now(UTC) + timedelta(days=400)
        if partitions.form(connection) == "plain":
            for table in ("audit_events", "readings"):
                made = partitions.ensure(connection, where, table, migrated.chunk_days, far)
                assert made, table
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DROP TABLE audit_events")
