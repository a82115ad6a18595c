"""Reading records: one, several, lists with filter, order and cursor, and every version. Each reading is audited.

What a user may not see is not there: `NotFound` for one record, left out of a list.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import orjson
from psycopg import sql

from vitalgate.records.catalogue import record_type
from vitalgate.records.documents import served
from vitalgate.records.errors import Invalid, NotFound
from vitalgate.records.record_type import RecordType
from vitalgate.storage import records_audit
from vitalgate.storage.records_database import Transaction
from vitalgate.storage.records_keys import context, indexes, unsealed

MOST = 500
_OPERATORS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "ne": "<>"}


@dataclass(frozen=True)
class Record:
    """One version of a record, as it is in the database."""

    kind: RecordType
    values: Mapping[str, Any]
    """By field name (with underscores)."""

    @property
    def id(self) -> str:
        """Its identity."""
        return str(self.values["id"])

    @property
    def version(self) -> int:
        """1 at creation."""
        return int(self.values.get("version") or 1)

    @property
    def etag(self) -> str:
        """The version as an HTTP entity tag."""
        return f'"{self.version}"'

    def document(self, only: Collection[str] | None = None, *, both: bool = True) -> dict[str, Any]:
        """As it goes out, see `vitalgate.records.documents.served`."""
        return served(self.kind, self.values, only, both=both)


@dataclass(frozen=True)
class Query:
    """What to list.

    Attributes
    ----------
    filters
        By field, in any spelling: a value, a list (any of them), or {"ge", "gt", "le", "lt", "ne": value}.
    sort
        A field; "-" before it is descending. Empty: the record's first sort, newest first.
    limit
        1 to 500.
    after
        The `next` of the page before.
    withdrawn
        Withdrawn records too.
    """

    filters: Mapping[str, Any] = field(default_factory=dict)
    sort: str = ""
    limit: int = 50
    after: str = ""
    withdrawn: bool = False


@dataclass(frozen=True)
class Page:
    """One page of a list; `next` is None when it is the last."""

    records: list[Record]
    next: str | None


def get(tx: Transaction, kind: str | RecordType, identity: str) -> Record:
    """One record, in its current version. Raises NotFound."""
    found = get_many(tx, kind, [identity])
    if identity not in found:
        raise NotFound(f"no {_kind(kind).title} {identity!r}")
    return found[identity]


def get_many(tx: Transaction, kind: str | RecordType, identities: Sequence[str]) -> dict[str, Record]:
    """Those of these records that may be seen, by id, in one statement."""
    kind = _kind(kind)
    where, values = _by_id(kind, identities)
    rows = _rows(tx, kind, sql.SQL(" WHERE {}").format(where), values)
    found = {row.id: row for row in rows}
    records_audit.read(tx, kind, list(found.values()))
    return found


def find(tx: Transaction, kind: str | RecordType, query: Query | None = None) -> Page:
    """A page of records.

    Raises
    ------
    Invalid
        For a field that cannot be filtered or sorted by, a cursor that is none, a limit out of range.
    """
    kind = _kind(kind)
    query = query or Query()
    if not 1 <= query.limit <= MOST:
        raise Invalid(f"limit {query.limit} is not between 1 and {MOST}", [("limit", f"not between 1 and {MOST}")])
    column, down = _order(kind, query.sort)
    terms, values = _terms(tx, kind, query)
    if query.after:
        terms.append(_after(kind, query, column, down, values))
    clause = sql.SQL(" WHERE ") + sql.SQL(" AND ").join(terms) if terms else sql.SQL("")
    way = sql.SQL("DESC" if down else "ASC")
    ties = _ties(kind)
    order = sql.SQL(" ORDER BY ") + sql.SQL(", ").join(
        sql.SQL("{} {} {}").format(sql.Identifier(one), way, sql.SQL("NULLS LAST" if down else "NULLS FIRST"))
        for one in (column, *ties)
    )
    values["most"] = query.limit + 1
    rows = _rows(tx, kind, clause + order + sql.SQL(" LIMIT %(most)s"), values)
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    records_audit.read(tx, kind, rows)
    by_column = {name: column for column, name in kind.columns.items()}
    last = rows[-1].values if rows else {}
    cursor = [_plain(last[by_column[one]]) for one in (column, *ties)] if more else None
    return Page(rows, _cursor(query, cursor) if cursor is not None else None)


def find_many(
    tx: Transaction, kind: str | RecordType, name: str, wanted: Sequence[str], limit_each: int = 50
) -> dict[str, list[Record]]:
    """The newest records of each of several patients (or threads, …), in one statement: for data loaders.

    Parameters
    ----------
    name
        A field that can be filtered by.
    """
    kind = _kind(kind)
    known = kind.spellings.get(name, name)
    if known not in kind.filters:
        raise Invalid(f"{kind.title} cannot be filtered by {name!r}", [(name, "cannot be filtered by")])
    column, _ = _order(kind, "")
    inner = sql.SQL(
        "SELECT *, row_number() OVER (PARTITION BY {by} ORDER BY {order} DESC) AS place FROM {relation}"
        " WHERE {by} = ANY(%(wanted)s)"
    ).format(
        by=sql.Identifier(kind.columns[known]), order=sql.Identifier(column), relation=sql.Identifier(kind.relation)
    )
    rows = _rows(
        tx, kind, sql.SQL(" WHERE place <= %(each)s ORDER BY place"), {"wanted": list(wanted), "each": limit_each},
        source=sql.SQL("({}) AS t").format(inner),
    )  # fmt: skip
    found: dict[str, list[Record]] = {one: [] for one in wanted}
    for row in rows:
        found[str(row.values[known])].append(row)
    records_audit.read(tx, kind, rows)
    return found


def versions(tx: Transaction, kind: str | RecordType, identity: str) -> list[Record]:
    """Every version of a record that may be seen, oldest first. Raises NotFound when there is none."""
    kind = _kind(kind)
    if kind.name == "device_data":
        return _measured_versions(tx, kind, identity)
    if not kind.table:
        return [get(tx, kind, identity)]
    source = sql.SQL(
        "(SELECT (jsonb_populate_record(NULL::{table}, doc)).*, version AS place FROM record_versions"
        " WHERE record = %(record)s AND id = %(id)s) AS t"
    ).format(table=sql.Identifier(kind.table))
    values = {"record": kind.name, "id": identity}
    rows = _rows(tx, kind, sql.SQL(" ORDER BY place"), values, source=source)
    if not rows:
        raise NotFound(f"no {kind.title} {identity!r}")
    records_audit.read(tx, kind, rows[-1:], versions=len(rows))
    return rows


# --- inside ---------------------------------------------------------------------------------------------------------


def _kind(kind: str | RecordType) -> RecordType:
    return record_type(kind) if isinstance(kind, str) else kind


def _rows(
    tx: Transaction, kind: RecordType, rest: sql.Composable, values: Mapping[str, Any],
    source: sql.Composable | None = None,
) -> list[Record]:  # fmt: skip
    names = [*kind.columns, *kind.told]
    columns: list[sql.Composable] = [sql.Identifier(column) for column in kind.columns.values()]
    # Expressions are the declarations' own, never a client's.
    columns += [sql.SQL(told) for told in kind.told.values()]
    text = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(columns), source if source is not None else sql.Identifier(kind.relation)
    )
    found = []
    for row in tx.connection.execute(text + rest, values):
        read = dict(zip(names, row, strict=True))
        for name in kind.sealed:
            if read.get(name) is not None:
                read[name] = unsealed(tx.keys, kind, name, context(kind, read, name), read[name])
        found.append(Record(kind, read))
    return found


def _by_id(kind: RecordType, identities: Sequence[str]) -> tuple[sql.Composable, dict[str, Any]]:
    if kind.name != "device_data":
        return sql.SQL("{} = ANY(%(ids)s)").format(sql.Identifier(kind.columns["id"])), {"ids": list(identities)}
    parts = [found for one in identities if (found := _measurement(one)) is not None]
    columns = list(zip(*parts, strict=True)) if parts else [()] * 6
    text = (
        "(device_id, metric, site, time, index, version) IN (SELECT * FROM unnest(%(i0)s::text[], %(i1)s::text[],"
        " %(i2)s::text[], %(i3)s::timestamptz[], %(i4)s::integer[], %(i5)s::integer[]))"
    )
    return sql.SQL(text), {f"i{n}": list(column) for n, column in enumerate(columns)}


def _measurement(identity: str) -> tuple[str, str, str, datetime, int, int] | None:
    """The parts of a DeviceData id; None when it is none."""
    parts = identity.rsplit("/", 5)
    try:
        device, metric, site, moment, index, version = parts
        time = datetime.strptime(moment, "%Y%m%dT%H%M%S.%f%z")
        return device, metric, site, time, int(index), int(version)
    except ValueError:
        return None


def _measured_versions(tx: Transaction, kind: RecordType, identity: str) -> list[Record]:
    parts = _measurement(identity)
    rows: list[Record] = []
    if parts is not None:
        rows = _rows(
            tx, kind,
            sql.SQL(
                " WHERE device_id = %(device)s AND metric = %(metric)s AND site = %(site)s AND time = %(time)s"
                " AND index = %(index)s ORDER BY version"
            ),
            dict(zip(("device", "metric", "site", "time", "index"), parts, strict=False)),
        )  # fmt: skip
    if not rows:
        raise NotFound(f"no {kind.title} {identity!r}")
    records_audit.read(tx, kind, rows[-1:], versions=len(rows))
    return rows


def _order(kind: RecordType, sort: str) -> tuple[str, bool]:
    if not sort:
        return kind.columns[kind.sorts[0]], True
    name = kind.spellings.get(sort.removeprefix("-"), "")
    if name not in kind.sorts:
        raise Invalid(
            f"{kind.title} cannot be sorted by {sort!r}; it can by {', '.join(kind.sorts)}",
            [("sort", "is no field to sort by")],
        )
    return kind.columns[name], sort.startswith("-")


def _ties(kind: RecordType) -> tuple[str, ...]:
    """What tells rows apart that the order holds for equal."""
    return ("device_id", "metric", "site", "index", "version") if kind.name == "device_data" else (kind.columns["id"],)


def _terms(tx: Transaction, kind: RecordType, query: Query) -> tuple[list[sql.Composable], dict[str, Any]]:
    terms: list[sql.Composable] = []
    values: dict[str, Any] = {}
    if "withdrawn_at" in kind.columns and not query.withdrawn:
        terms.append(sql.SQL("withdrawn_at IS NULL"))
    for spelt, wanted in query.filters.items():
        name = kind.spellings.get(spelt, "")
        if name in kind.indexed:
            terms.append(sql.SQL("{} = ANY({})").format(
                sql.Identifier(f"{kind.columns[name]}_index"), sql.Placeholder(f"f{len(values)}")))  # fmt: skip
            values[f"f{len(values)}"] = indexes(tx.keys, kind, name, wanted)
            continue
        if name not in kind.filters:
            allowed = ", ".join((*kind.filters, *kind.indexed))
            raise Invalid(
                f"{kind.title} cannot be filtered by {spelt!r}; it can by {allowed}", [(spelt, "cannot be filtered by")]
            )
        column = sql.Identifier(kind.columns[name])
        for operator, value in _comparisons(spelt, wanted):
            place = f"f{len(values)}"
            values[place] = value
            term = "{} = ANY({})" if operator == "in" else f"{{}} {operator} {{}}"
            if value is None:
                term = "{} IS NULL" if operator == "=" else "{} IS NOT NULL"
            terms.append(sql.SQL(term).format(column, sql.Placeholder(place)))
    return terms, values


def _comparisons(spelt: str, wanted: Any) -> list[tuple[str, Any]]:
    if isinstance(wanted, Mapping):
        if unknown := sorted(set(wanted) - _OPERATORS.keys()):
            raise Invalid(
                f"{spelt}: {unknown[0]!r} is no comparison; there are {', '.join(_OPERATORS)}",
                [(spelt, "is no comparison")],
            )
        return [(_OPERATORS[key], value) for key, value in wanted.items()]
    if isinstance(wanted, (list, tuple)):
        return [("in", list(wanted))]
    return [("=", wanted)]


def _after(kind: RecordType, query: Query, column: str, down: bool, values: dict[str, Any]) -> sql.Composable:
    try:
        sort, *keys = orjson.loads(base64.urlsafe_b64decode(query.after + "=="))
        if sort != query.sort or len(keys) != 1 + len(_ties(kind)):
            raise ValueError("of another list")
    except (ValueError, TypeError, binascii.Error) as error:
        raise Invalid("the cursor is none of this list; begin without one", [("after", "is no cursor")]) from error
    first = keys[0]
    names = []
    for n, key in enumerate(keys):
        values[f"c{n}"] = key
        names.append(sql.Placeholder(f"c{n}"))
    columns = [sql.Identifier(one) for one in (column, *_ties(kind))]
    sign = sql.SQL("<" if down else ">")
    if first is None:
        head = sql.SQL("" if down else "{} IS NOT NULL OR ").format(columns[0])
        return sql.SQL("({}({} IS NULL AND ({}) {} ({})))").format(
            head, columns[0], sql.SQL(", ").join(columns[1:]), sign, sql.SQL(", ").join(names[1:])
        )
    tail = sql.SQL(" OR {} IS NULL").format(columns[0]) if down else sql.SQL("")
    return sql.SQL("(({}) {} ({}){})").format(sql.SQL(", ").join(columns), sign, sql.SQL(", ").join(names), tail)


def _cursor(query: Query, keys: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([query.sort, *keys])).decode().rstrip("=")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, (datetime, date)) else value


__all__ = ["Page", "Query", "Record", "find", "find_many", "get", "get_many", "versions"]
