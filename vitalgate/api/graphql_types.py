"""GraphQL types of the records, made from their declarations: objects, inputs and filters."""

from __future__ import annotations

import types
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Literal, Union, get_args, get_origin

import strawberry
from pydantic import BaseModel
from strawberry.scalars import JSON
from strawberry.tools import create_type

from vitalgate.api.questions import filterable, is_ordered
from vitalgate.records.fields import facts
from vitalgate.records.record_type import RecordType
from vitalgate.storage.records_read import Record

_SCALARS = (bool, int, float, str, datetime, date)

PARENT: Any = strawberry.Parent[Any]  # type: ignore[misc]  # generic at run time
"""What a resolver is given of the object that it is a field of."""


@strawberry.input(description="A range of times.")
class TimeRange:
    """Bounds, each of which may be left out."""

    ge: datetime | None = strawberry.field(default=None, description="From this on.")
    gt: datetime | None = strawberry.field(default=None, description="After this.")
    le: datetime | None = strawberry.field(default=None, description="Until this.")
    lt: datetime | None = strawberry.field(default=None, description="Before this.")

    def bounds(self) -> dict[str, datetime]:
        """Those that were given."""
        return {name: value for name in ("ge", "gt", "le", "lt") if (value := getattr(self, name)) is not None}


def scalar(annotation: Any) -> Any:
    """The GraphQL type of a field: a scalar, a list of scalars, or JSON for whatever has parts."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        kinds = [one for one in get_args(annotation) if one is not type(None)]
        return scalar(kinds[0]) if len(kinds) == 1 else JSON
    if origin is Literal:
        return str
    if origin is list:
        inner = scalar(get_args(annotation)[0])
        return list_of(inner) if inner in _SCALARS else JSON
    if origin is not None:
        return scalar(get_args(annotation)[0]) if hasattr(annotation, "__metadata__") else JSON
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel | dict):
            return JSON
        for one in _SCALARS:
            if issubclass(annotation, one):
                return one
        if annotation.__name__ == "AwareDatetime":
            return datetime
    return JSON


def resolve(source: Any, name: str) -> Any:
    """A field of a record, a mapping or an object."""
    if isinstance(source, Record):
        return source.values.get(name)
    return source.get(name) if isinstance(source, dict) else getattr(source, name)


def list_of(made: Any) -> Any:
    """The type of a list of a type that is made at run time."""
    return types.GenericAlias(list, (made,))


def _second(name: str) -> Callable[..., Any]:
    def value(root: Any) -> Any:
        return resolve(root, name)

    return value


def object_fields(kind: RecordType) -> list[Any]:
    """The fields of a record, in both spellings."""
    found = []
    for name, info in kind.model.model_fields.items():
        annotation = strawberry.ID if name == "id" else scalar(info.annotation)
        given = annotation if name == "id" else annotation | None
        field = strawberry.field(name=info.alias or name, description=info.description, graphql_type=given)
        field.python_name = name
        found.append(field)
        if second := facts(info).get("also"):
            resolver = _second(name)
            resolver.__annotations__ = {"root": PARENT, "return": given}
            other = strawberry.field(resolver=resolver, name=second, description=f"The same as {info.alias or name}.")
            other.python_name = f"{name}_also"
            found.append(other)
    return found


def filter_input(kind: RecordType) -> type | None:
    """What lists of a kind can be asked for; None when nothing."""
    fields = []
    for name in filterable(kind):
        info = kind.model.model_fields[name]
        inner: Any = TimeRange if is_ordered(kind, name) and name not in kind.indexed else _listed(info.annotation)
        field = strawberry.field(
            name=info.alias or name, default=strawberry.UNSET, graphql_type=inner | None, description=info.description
        )  # fmt: skip
        field.python_name = name
        fields.append(field)
    return create_type(f"{kind.title}Filter", fields, is_input=True) if fields else None


def _listed(annotation: Any) -> Any:
    inner = scalar(annotation)
    return list_of(inner) if inner is not bool else bool


def verb_input(kind: RecordType, verb: str) -> type | None:
    """What is given with a verb; None when nothing can be."""
    model = kind.input_model(verb)
    fields = []
    for name, info in model.model_fields.items():
        inner = scalar(info.annotation)
        spellings = [(name, info.alias or name)]
        if second := facts(info).get("also"):
            spellings.append((f"{name}_also", second))
        required = info.is_required() and len(spellings) == 1
        for python_name, spelling in spellings:
            field = strawberry.field(
                name=spelling, description=info.description, graphql_type=inner if required else inner | None,
                **({} if required else {"default": strawberry.UNSET}),
            )  # fmt: skip
            field.python_name = python_name
            fields.append(field)
    # Those without a default first: the input is a dataclass.
    fields.sort(key=lambda field: field.default is strawberry.UNSET)
    return create_type(model.__name__, fields, is_input=True) if fields else None


def given(value: Any) -> dict[str, Any]:
    """The fields of an input that were given, by the record's spellings."""
    if value is None:
        return {}
    found = {}
    for field in value.__strawberry_definition__.fields:
        one = getattr(value, field.python_name)
        if one is not strawberry.UNSET:
            found[field.graphql_name or field.python_name] = one
    return found


def filters(value: Any) -> dict[str, Any]:
    """A filter input as the store takes it."""
    found: dict[str, Any] = {}
    for name, one in given(value).items():
        if one is not None:
            found[name] = one.bounds() if isinstance(one, TimeRange) else one
    return found
