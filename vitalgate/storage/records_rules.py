"""The declarations of the records, loaded into the database, which enforces them."""

from __future__ import annotations

import orjson

from vitalgate.records.catalogue import RECORDS
from vitalgate.records.permissions import permissions
from vitalgate.storage.connect import Connection, Names


def load(connection: Connection, where: Names) -> bool:
    """Have the tables `permissions` and `record_verbs` say what the declarations say; whether anything changed."""
    allowed = [(one.record, one.verb, one.role.value, one.relation.value, one.condition.value) for one in permissions()]
    verbs = [
        (kind.name, step.verb, list(step.frm), step.to, sorted(set(kind.columns_of(step))), _stamps(step.stamps))
        for kind in RECORDS.values()
        for step in kind.transitions.values()
        if kind.table
    ]
    with connection.transaction():
        table = where.fill("{schema}_records.")
        there = connection.execute(
            f"SELECT record, verb, role, relation, condition FROM {table}permissions ORDER BY 1, 2, 3, 4"  # noqa: S608
        ).fetchall()
        done = connection.execute(
            f"SELECT record, verb, from_states, to_state, columns, stamps::text FROM {table}record_verbs ORDER BY 1, 2"  # noqa: S608  a plain identifier
        ).fetchall()
        same = there == sorted(allowed) and [(*row[:5], orjson.loads(row[5])) for row in done] == sorted(
            ((*row[:5], orjson.loads(row[5])) for row in verbs), key=lambda row: row[:2]
        )
        if same:
            return False
        connection.execute(f"LOCK TABLE {table}permissions, {table}record_verbs IN ACCESS EXCLUSIVE MODE")
        connection.execute(f"DELETE FROM {table}permissions")  # noqa: S608
        connection.execute(f"DELETE FROM {table}record_verbs")  # noqa: S608
        cursor = connection.cursor()
        cursor.executemany(f"INSERT INTO {table}permissions VALUES (%s, %s, %s, %s, %s)", allowed)  # noqa: S608
        cursor.executemany(f"INSERT INTO {table}record_verbs VALUES (%s, %s, %s, %s, %s, %s)", verbs)  # noqa: S608
    return True


def _stamps(stamps: object) -> str:
    return orjson.dumps(stamps).decode()
