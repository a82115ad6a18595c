"""The filter grammar, as in `status eq "final" and reportedAt ge 2026-01-01T00:00:00Z`, and sort orders. Pure.

::

    filter     = term *( "or" term )
    term       = factor *( "and" factor )
    factor     = "not" factor / "(" filter ")" / comparison
    comparison = field ("eq" / "ne" / "lt" / "le" / "gt" / "ge") value / field "in" "(" value *( "," value ) ")"
    value      = a JSON string, number, true, false, null, or a bare word such as a date, an id or a status
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from psycopg import sql

from vitalgate.api.problems import Problem, bad

MOST_COMPARISONS = 20
MOST_DEPTH = 8
LONGEST = 2000
_TOKEN = re.compile(r"""\s*(?:(?P<punct>[(),])|(?P<string>"(?:[^"\\]|\\.)*")|(?P<bare>[^\s(),"]+))""")
_OPERATORS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_RESERVED = {"and", "or", "not", "in", *_OPERATORS}


@dataclass(frozen=True)
class Column:
    """A field that may be filtered and sorted by."""

    name: str
    """The column's name in SQL."""
    convert: Callable[[Any], Any]
    """From what was written to what the database is given; raises ValueError."""
    ordered: bool = True
    """Whether less and greater mean something."""
    exact_only: bool = False
    """Encrypted and searchable by equality only: `convert` gives its blind index."""


Columns = Mapping[str, Column]


@dataclass(frozen=True)
class Filter:
    """A condition and its parameters, ready for `psycopg`."""

    condition: sql.Composable
    parameters: list[Any]


class _Parser:
    def __init__(self, text: str, columns: Columns) -> None:
        if len(text) > LONGEST:
            raise _wrong(f"it is {len(text)} characters long; {LONGEST} are allowed")
        self._columns = columns
        self._tokens = _tokens(text)
        self._at = 0
        self._comparisons = 0
        self.parameters: list[Any] = []

    def parse(self) -> sql.Composable:
        found = self._any(0)
        if self._at < len(self._tokens):
            raise _wrong(f"{self._peek()!r} is not expected; join comparisons by `and` or `or`")
        return found

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, what: str) -> str:
        word = self._peek()
        if not word:
            raise _wrong(f"{what} is missing at its end")
        self._at += 1
        return word

    def _any(self, depth: int) -> sql.Composable:
        if depth > MOST_DEPTH:
            raise _wrong(f"it is nested deeper than {MOST_DEPTH}")
        parts = [self._all(depth)]
        while self._peek() == "or":
            self._at += 1
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else sql.SQL("({})").format(sql.SQL(" OR ").join(parts))

    def _all(self, depth: int) -> sql.Composable:
        parts = [self._one(depth)]
        while self._peek() == "and":
            self._at += 1
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else sql.SQL("({})").format(sql.SQL(" AND ").join(parts))

    def _one(self, depth: int) -> sql.Composable:
        word = self._take("a field")
        if word == "not":
            if depth >= MOST_DEPTH:
                raise _wrong(f"it is nested deeper than {MOST_DEPTH}")
            return sql.SQL("(NOT coalesce({}, false))").format(self._one(depth + 1))
        if word == "(":
            inside = self._any(depth + 1)
            if self._take("a closing bracket") != ")":
                raise _wrong("a closing bracket is missing")
            return inside
        return self._comparison(word)

    def _comparison(self, field: str) -> sql.Composable:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise _wrong(f"it has more than {MOST_COMPARISONS} comparisons")
        column = self._columns.get(field)
        if column is None:
            raise _wrong(f"there is no field {field[:60]!r} to filter by; there are {', '.join(sorted(self._columns))}")
        operator = self._take("an operator")
        if operator == "in":
            return self._member(field, column)
        if operator not in _OPERATORS:
            raise _wrong(f"{operator[:20]!r} is no operator; there are {', '.join(_OPERATORS)}, in")
        if operator not in ("eq", "ne") and (not column.ordered or column.exact_only):
            raise _wrong(f"{field} can be compared by eq, ne and in only")
        value = _value(self._take("a value"))
        name = sql.Identifier(column.name)
        if value is None:
            if operator not in ("eq", "ne"):
                raise _wrong("null can be compared by eq and ne only")
            return sql.SQL("({} IS NULL)" if operator == "eq" else "({} IS NOT NULL)").format(name)
        self.parameters.append(_converted(field, column, value))
        if operator == "ne":
            return sql.SQL("({} IS DISTINCT FROM %s)").format(name)
        return sql.SQL("({} {} %s)").format(name, sql.SQL(_OPERATORS[operator]))

    def _member(self, field: str, column: Column) -> sql.Composable:
        if self._take("an opening bracket") != "(":
            raise _wrong("`in` is followed by values in brackets")
        values = [_converted(field, column, _value(self._take("a value")))]
        while (word := self._take("a closing bracket")) == ",":
            values.append(_converted(field, column, _value(self._take("a value"))))
            if len(values) > 100:
                raise _wrong("`in` takes 100 values at most")
        if word != ")":
            raise _wrong("a closing bracket is missing")
        self.parameters.append(values)
        return sql.SQL("({} = ANY(%s))").format(sql.Identifier(column.name))


def parse(text: str, columns: Columns) -> Filter:
    """A filter as SQL; an empty one lets everything through.

    Raises
    ------
    Problem
        400 that names what is wrong with it.
    """
    if not text.strip():
        return Filter(sql.SQL("true"), [])
    parser = _Parser(text, columns)
    condition = parser.parse()
    return Filter(condition, parser.parameters)


@dataclass(frozen=True)
class Order:
    """One part of a sort order."""

    column: str
    descending: bool


def parse_sort(text: str, columns: Columns, default: str, tie: str) -> list[Order]:
    """A sort order, as in `-startAt,id`; the identity is added as the last, so that no two rows are equal.

    Raises
    ------
    Problem
        400 for a field that cannot be sorted by.
    """
    found: list[Order] = []
    for part in (text or default).split(","):
        name = part.strip().removeprefix("-")
        column = columns.get(name)
        if column is None or not column.ordered or column.exact_only:
            usable = ", ".join(sorted(n for n, c in columns.items() if c.ordered and not c.exact_only))
            raise bad(f"It cannot be sorted by {name[:60]!r}; it can by {usable}.", "bad-sort")
        if column.name in {order.column for order in found}:
            raise bad(f"The sort order names {name!r} twice.", "bad-sort")
        found.append(Order(column.name, part.strip().startswith("-")))
    if tie not in {order.column for order in found}:
        found.append(Order(tie, found[-1].descending))
    return found


def order_by(orders: Sequence[Order]) -> sql.Composable:
    """`ORDER BY` without the words; nothing sorts as the greatest, both ways the same."""
    return sql.SQL(", ").join(
        sql.SQL("{} DESC NULLS FIRST" if order.descending else "{} ASC NULLS LAST").format(sql.Identifier(order.column))
        for order in orders
    )


def after(orders: Sequence[Order], values: Sequence[Any]) -> Filter:
    """Rows after the one with these values in this order (null counts as greater than everything)."""
    alternatives: list[sql.Composable] = []
    parameters: list[Any] = []
    for index, order in enumerate(orders):
        same: list[sql.Composable] = []
        given: list[Any] = []
        for earlier, value in zip(orders[:index], values[:index], strict=True):
            same.append(sql.SQL("{} IS NOT DISTINCT FROM %s").format(sql.Identifier(earlier.column)))
            given.append(value)
        name, value = sql.Identifier(order.column), values[index]
        if order.descending:
            if value is None:
                same.append(sql.SQL("{} IS NOT NULL").format(name))
            else:
                same.append(sql.SQL("{} < %s").format(name))
                given.append(value)
        elif value is None:
            continue  # nothing is greater
        else:
            same.append(sql.SQL("({0} > %s OR {0} IS NULL)").format(name))
            given.append(value)
        alternatives.append(sql.SQL("({})").format(sql.SQL(" AND ").join(same)))
        parameters += given
    if not alternatives:
        return Filter(sql.SQL("false"), [])
    return Filter(sql.SQL("({})").format(sql.SQL(" OR ").join(alternatives)), parameters)


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(f"it cannot be read from character {at + 1} on; close the quotes")
        found.append(match[0].strip())
        at = match.end()
    return found


def _value(word: str) -> Any:
    if word.startswith('"') or word in ("true", "false", "null"):
        try:
            value = orjson.loads(word)
        except orjson.JSONDecodeError as error:
            raise _wrong(f"{word[:40]} is no JSON string") from error
        return value
    if word in _RESERVED or word in "(),":
        raise _wrong(f"{word!r} stands where a value must be; put it in quotes if it is one")
    return word


def _converted(field: str, column: Column, value: Any) -> Any:
    if value is None:
        raise _wrong("null can be compared by eq and ne only")
    if isinstance(value, str) and "\x00" in value:
        raise _wrong(f"{field} cannot hold a zero byte")
    try:
        return column.convert(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise _wrong(f"{str(value)[:60]!r} is no value of {field}") from error


def _wrong(what: str) -> Problem:
    return bad(f"The filter cannot be used: {what}.", "bad-filter")
