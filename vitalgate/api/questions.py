"""Query strings of lists: filters, sort, cursor, page size and sparse fields, checked against the kind of record.

`status=final&status=amended` is any of them; `reportedAt[ge]=2026-01-01T00:00:00Z` is a range, with `ge`, `gt`, `le`
and `lt`. A field may be spelt either way.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import lru_cache
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import QueryParams

from vitalgate.api.problems import Problem
from vitalgate.api.replies import whole_number
from vitalgate.records.record_type import RecordType
from vitalgate.storage.records_read import Query

MOST = 500
_RANGE = re.compile(r"(\w+)\[(ge|gt|le|lt)\]")
_OWN = ("limit", "after", "sort", "fields", "withdrawn")
_MOST_VALUES = 100


def is_ordered(kind: RecordType, name: str) -> bool:
    """Whether a field can be asked for by a range: dates and times."""
    annotation = kind.model.model_fields[name].annotation
    kinds = {annotation, *get_args(annotation)}
    return any(isinstance(one, type) and issubclass(one, date | datetime) for one in kinds) or "AwareDatetime" in str(
        annotation
    )


def filterable(kind: RecordType) -> tuple[str, ...]:
    """Fields that lists of a kind can be asked for by."""
    return (*kind.filters, *kind.indexed)


def question(kind: RecordType, given: QueryParams) -> tuple[Query, list[str] | None]:
    """What a query string asks for: the query, and the fields to serve (None is all).

    Raises
    ------
    Problem
        400 that names the parameter, and what there is.
    """
    filters: dict[str, Any] = {}
    sort, after, limit, withdrawn = "", "", 50, False
    only: list[str] | None = None
    for name in dict.fromkeys(given.keys()):
        values = given.getlist(name)
        if any("\x00" in value for value in values):
            raise _bad(f"{name} holds a zero byte")
        match name:
            case "limit":
                limit = whole_number(values[-1], "limit", 1, MOST)
            case "after":
                after = values[-1]
            case "sort":
                sort = _sort(kind, values[-1])
            case "withdrawn":
                withdrawn = _convert(kind, bool, name, values[-1])
            case "fields":
                only = _fields(kind, ",".join(values))
            case _:
                _filter(kind, filters, name, values)
    return Query(filters=filters, sort=sort, limit=limit, after=after, withdrawn=withdrawn), only


def _filter(kind: RecordType, filters: dict[str, Any], name: str, values: list[str]) -> None:
    match = _RANGE.fullmatch(name)
    field = kind.spellings.get(match[1] if match else name)
    allowed = filterable(kind)
    if field is None or field not in allowed:
        outside = sorted(kind.model.model_fields[one].alias or one for one in allowed)
        raise _bad(f"there is no parameter {name[:60]!r}; there are {', '.join((*_OWN, *outside))}")
    annotation = kind.model.model_fields[field].annotation
    if match:
        if not is_ordered(kind, field):
            raise _bad(f"{match[1]} has no order, so {name} cannot be asked; ask for values")
        if isinstance(filters.get(field, {}), dict):
            filters.setdefault(field, {})[match[2]] = _convert(kind, annotation, name, values[-1])
            return
        raise _bad(f"{match[1]} is asked for both by value and by range")
    if field in filters:
        raise _bad(f"{name} is asked for twice, by both spellings or by value and range")
    if len(values) > _MOST_VALUES:
        raise _bad(f"{name} has {len(values)} values; {_MOST_VALUES} are allowed")
    found = [_convert(kind, annotation, name, value) for value in values]
    filters[field] = found[0] if len(found) == 1 else found


def _sort(kind: RecordType, text: str) -> str:
    name = text.removeprefix("-")
    field = kind.spellings.get(name)
    if field is None or field not in kind.sorts:
        outside = ", ".join(kind.model.model_fields[one].alias or one for one in kind.sorts)
        raise _bad(f"it cannot be sorted by {name[:60]!r}; it can by {outside}, with - before it for descending")
    return f"-{field}" if text.startswith("-") else field


def _fields(kind: RecordType, text: str) -> list[str]:
    found = []
    for name in text.split(","):
        field = kind.spellings.get(name.strip())
        if field is None:
            raise _bad(f"{kind.title} has no field {name.strip()[:60]!r}")
        found.append(field)
    return found


@lru_cache(maxsize=1024)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _convert(kind: RecordType, annotation: Any, name: str, text: str) -> Any:
    try:
        return _adapter(annotation).validate_python(text)
    except (ValidationError, OverflowError) as error:
        raise _bad(f"{text[:60]!r} is no value of {name}") from error


def _bad(what: str) -> Problem:
    return Problem(400, "bad-parameter", f"{what[0].upper()}{what[1:]}.")
