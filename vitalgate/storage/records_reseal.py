"""Put what identifies people under the key ring's current keys after a rotation: values, their versions, indexes."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from vitalgate.pki.keyring import KeyRing
from vitalgate.pki.sealing import indexed_by, rewrap, sealed_by
from vitalgate.records.catalogue import RECORDS
from vitalgate.records.record_type import RecordType
from vitalgate.storage.records_audit import audit
from vitalgate.storage.records_database import RecordsDatabase, Transaction
from vitalgate.storage.records_keys import context, index, unsealed

#: Kind of record, its table, its sealed columns; TOTP secrets are in no record.
_TABLES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("patient_profile", "patient_profiles", ("medical_record_number", "display_name", "date_of_birth", "contact")),
    ("user", "users", ("email", "display_name", "totp_secret")),
)


def reseal(database: RecordsDatabase, most: int = 500) -> int:
    """Re-wrap and index anew everything that is under an earlier key; how many rows changed.

    Takes `most` rows a transaction. May be run again and at any time; a ring key can be taken off once it says 0.

    Raises
    ------
    UnknownKey, BrokenSeal
        When something was sealed with a key that is not on the ring, or was changed.
    """
    total = 0
    for name, table, columns in _TABLES:
        after = ""
        while True:
            with database.service("service:reseal") as tx:
                # No version: what the record says is the same.
                tx.execute("SELECT set_config('vitalgate.verb', 'reseal', true)")
                rows = tx.execute(
                    f"SELECT * FROM {table} WHERE id > %s ORDER BY id LIMIT %s FOR UPDATE",  # noqa: S608  our own
                    (after, most),
                )
                names = [column.name for column in rows.description or ()]
                found = [dict(zip(names, row, strict=True)) for row in rows]
                changed = sum(_row(tx, RECORDS[name], table, columns, row) for row in found)
                if changed:
                    audit(tx, f"{name}.reseal", name, "", detail={"count": changed})
            total += changed
            if len(found) < most:
                break
            after = found[-1]["id"]
    return total + _versions(database, most)


def _row(tx: Transaction, kind: RecordType, table: str, columns: tuple[str, ...], row: dict[str, Any]) -> bool:
    new: dict[str, Any] = {}
    for column in columns:
        value = row[column]
        if value is None:
            continue
        if sealed_by(value) != tx.keys.seals[0].id:
            new[column] = rewrap(tx.keys, value)
        at = row.get(f"{column}_index")
        if at is not None and indexed_by(at) != tx.keys.indexes[0].id:
            plain = unsealed(tx.keys, kind, column, context(kind, row, column), value)
            new[f"{column}_index"] = index(tx.keys, kind, column, plain)
    if new:
        sets = ", ".join(f"{column} = %({column})s" for column in new)
        tx.execute(f"UPDATE {table} SET {sets} WHERE id = %(id)s", {**new, "id": row["id"]})  # noqa: S608  our own
    return bool(new)


def _versions(database: RecordsDatabase, most: int) -> int:
    """Earlier versions of profiles, which hold the sealed bytes as JSON does."""
    name, _, columns = _TABLES[0]
    total, after = 0, ("", 0)
    while True:
        with database.service("service:reseal") as tx:
            rows = tx.execute(
                "SELECT id, version, doc FROM record_versions WHERE record = %s AND (id, version) > (%s, %s)"
                " ORDER BY id, version LIMIT %s FOR UPDATE",
                (name, *after, most),
            ).fetchall()
            for identity, version, doc in rows:
                new = _document(tx.keys, columns, doc)
                if new:
                    total += 1
                    tx.execute(
                        "UPDATE record_versions SET doc = doc || %s WHERE record = %s AND id = %s AND version = %s",
                        (Jsonb(new), name, identity, version),
                    )
        if len(rows) < most:
            return total
        after = (rows[-1][0], rows[-1][1])


def _document(keys: KeyRing, columns: tuple[str, ...], doc: dict[str, Any]) -> dict[str, str]:
    found = {}
    for column in columns:
        text = doc.get(column)
        if isinstance(text, str) and sealed_by(bytes.fromhex(text.removeprefix("\\x"))) != keys.seals[0].id:
            found[column] = "\\x" + rewrap(keys, bytes.fromhex(text.removeprefix("\\x"))).hex()
    return found
