"""Making and changing records: the one way for every interface.

The pure rules say whether a verb's pre-conditions hold; the database holds its wall besides, keeps the version, and
writes the audit event and the change for live queries in the same transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import orjson
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from vitalgate.records.catalogue import record_type
from vitalgate.records.documents import stepped, taken
from vitalgate.records.errors import Changed, Conflict, Invalid, NotAllowed, NotFound
from vitalgate.records.record_type import RecordType
from vitalgate.records.types.lab_result import ReferenceRange, abnormal_flag
from vitalgate.storage import records_manual
from vitalgate.storage.records_database import Transaction, refusal
from vitalgate.storage.records_keys import context, index, sealed
from vitalgate.storage.records_read import Record, _kind, _rows

#: Columns that hold JSON although their values may be plain.
_JSON = frozenset({"result_value", "details", "data", "preferences", "alert_overrides"})


def create(tx: Transaction, kind: str | RecordType, given: Mapping[str, Any], *, verb: str = "create") -> Record:
    """Make a record.

    Parameters
    ----------
    given
        Fields in any accepted spelling.
    verb
        For records that can be made in several ways: an appointment is made by `create` or `request`.

    Raises
    ------
    Invalid
        When something is missing, unknown or cannot be.
    NotAllowed
        When the role or relation to the patient does not permit it.
    Conflict
        When another record stands against it.
    """
    kind = _kind(kind)
    step = kind.verb(verb)
    if not step.creates:
        raise Invalid(f"{kind.title} is not made by {verb}")
    values = taken(kind, verb, given)
    if kind.name == "device_data":
        return records_manual.enter(tx, values)
    changed = stepped(kind, verb, {}, values, datetime.now(UTC), tx.who)
    _further(tx, kind, verb, changed, values)
    identity = values["patient"] if kind.name == "patient_profile" else str(uuid.uuid4())
    row = _columns(tx, kind, identity, {name: value for name, value in changed.items() if name in step.fields})
    row["id"] = identity
    if kind.name == "lab_result":
        row.update(_flag(changed, row, step.fields))
    names = sql.SQL(", ").join(sql.Identifier(name) for name in row)
    text = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(kind.table), names, sql.SQL(", ").join(sql.Placeholder(name) for name in row)
    )
    _run(tx, kind, verb, identity, values.get("patient"), text, row)
    return _current(tx, kind, identity)


def change(
    tx: Transaction, kind: str | RecordType, identity: str, given: Mapping[str, Any], *, version: int | None = None
) -> Record:
    """Change fields of a record that its state lets be changed; see `transition`."""
    return transition(tx, kind, identity, "change", given, version=version)


def transition(
    tx: Transaction, kind: str | RecordType, identity: str, verb: str, given: Mapping[str, Any] | None = None, *,
    version: int | None = None,
) -> Record:  # fmt: skip
    """Do something with a record: publish, amend, cancel, mark_read, ….

    Parameters
    ----------
    version
        The version that was read (If-Match); None does not look.

    Raises
    ------
    NotFound
        When there is none that the user may see.
    Changed
        When it has another version.
    Conflict
        When its state does not allow it, or another record stands against it.
    Invalid, NotAllowed
        As `create`.
    """
    kind = _kind(kind)
    step = kind.verb(verb)
    if step.creates:
        raise Invalid(f"{kind.title} is made by {verb}; it is not done with one that is there")
    values = taken(kind, verb, given or {})
    # What may be seen is locked by somebody who may change it; a user without that right still gets the refusal.
    before = _current(tx, kind, identity, lock=True)
    if version is not None and version != before.version:
        raise Changed(
            f"{kind.title} {identity} has version {before.version}, not {version}: read it again", before.version
        )
    patient = before.values.get("patient")
    _check_allowed(tx, kind, verb, identity, patient)
    changed = stepped(kind, verb, before.values, values, datetime.now(UTC), tx.who)
    _further(tx, kind, verb, {**before.values, **changed}, values)
    row = _columns(tx, kind, identity, {name: value for name, value in changed.items() if name in step.fields})
    if kind.name == "lab_result":
        row.update(_flag(before.values, row, step.fields))
    # The trigger stamps, counts and sets the state; an update of one column is enough to wake it.
    sets = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in row]
    text = sql.SQL("UPDATE {} SET {} WHERE id = %(id)s").format(
        sql.Identifier(kind.table), sql.SQL(", ").join([*sets, sql.SQL("version = version")])
    )
    _run(tx, kind, verb, identity, patient, text, {**row, "id": identity})
    try:
        return _current(tx, kind, identity)
    except NotFound:  # it took the user's own view of it away, as the end of a break-glass does
        return Record(kind, {**before.values, **changed, "version": before.version + 1})


def withdraw(
    tx: Transaction, kind: str | RecordType, identity: str, reason: str, *, version: int | None = None
) -> Record:
    """Withdraw a record, with a reason; nothing is deleted. See `transition`."""
    return transition(tx, kind, identity, "withdraw", {"withdrawn_reason": reason}, version=version)


# --- inside ---------------------------------------------------------------------------------------------------------


def _further(tx: Transaction, kind: RecordType, verb: str, after: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    if (check := tx.further.get(kind.name)) is not None:
        check(verb, after, given)


def _current(tx: Transaction, kind: RecordType, identity: str, *, lock: bool = False) -> Record:
    rest = sql.SQL(" WHERE id = %(id)s") + sql.SQL(" FOR UPDATE" if lock else "")
    rows = _rows(tx, kind, rest, {"id": identity})
    if not rows:
        raise NotFound(f"no {kind.title} {identity!r}")
    return rows[0]


def _check_allowed(tx: Transaction, kind: RecordType, verb: str, identity: str, patient: str | None) -> None:
    """Before anything is said of states: a user who may not do it at all is told that, and nothing else."""
    if tx.actor is None:
        return
    row = tx.connection.execute(
        sql.SQL("SELECT may(%(record)s, %(verb)s, patient_id, to_jsonb(t)) FROM {} AS t WHERE id = %(id)s").format(
            sql.Identifier(kind.table)
        ),
        {"record": kind.name, "verb": verb, "id": identity},
    ).fetchone()
    if row is None or not row[0]:
        raise _not_allowed(tx, kind, verb, identity, patient)


def _not_allowed(tx: Transaction, kind: RecordType, verb: str, identity: str, patient: str | None) -> NotAllowed:
    role = tx.actor.role if tx.actor is not None else tx.who
    return NotAllowed(
        f"as {role} you may not {verb.replace('_', ' ')} this {kind.title}",
        action=f"{kind.name}.{verb}", record=kind.name, entity=identity, patient=patient,
    )  # fmt: skip


def _run(
    tx: Transaction, kind: RecordType, verb: str, identity: str, patient: str | None, text: sql.Composed,
    row: Mapping[str, Any],
) -> None:  # fmt: skip
    tx.execute("SELECT set_config('vitalgate.verb', %s, true)", (verb,))
    try:
        done = tx.connection.execute(text, row)
    except psycopg.errors.InsufficientPrivilege as error:
        raise _not_allowed(tx, kind, verb, identity, patient) from error
    except psycopg.Error as error:
        raise refusal(error) from error
    if not done.rowcount:
        raise Conflict(f"{kind.title} {identity} cannot be changed now; read it again")


def _columns(tx: Transaction, kind: RecordType, identity: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by column: sealed, indexed, as JSON."""
    row: dict[str, Any] = {}
    for name, value in values.items():
        column = kind.columns.get(name)
        if column is None:
            continue
        if name in kind.sealed:
            plain = value.isoformat() if isinstance(value, date) else value
            row[column] = None if value is None else sealed(tx.keys, context(kind, {"id": identity}, name), plain)
            if name in kind.indexed:
                row[f"{column}_index"] = index(tx.keys, kind, name, value)
        elif name in _JSON or isinstance(value, (dict, list)):
            row[column] = Jsonb(value, dumps=_dumps)
        else:
            row[column] = value
    return row


def _flag(before: Mapping[str, Any], row: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """A number's flag follows from its reference range, whatever was said of it."""
    if "abnormal_flag" not in fields:
        return {}

    def now(name: str) -> Any:
        value = row.get(name, before.get(name))
        return value.obj if isinstance(value, Jsonb) else value

    usual = now("reference_range")
    flag = abnormal_flag(now("result_value"), ReferenceRange.model_validate(usual) if usual else None)
    return {"abnormal_flag": flag} if flag is not None else {}


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


__all__ = ["change", "create", "record_type", "transition", "withdraw"]
