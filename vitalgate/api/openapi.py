"""The OpenAPI 3.1 document: made from the kinds of records and the models of the other routes."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from vitalgate import __version__
from vitalgate.api.problems import MEDIA_TYPE, ProblemDocument
from vitalgate.api.questions import MOST, filterable, is_ordered
from vitalgate.records.catalogue import RECORDS
from vitalgate.records.fields import facts
from vitalgate.records.record_type import RecordType, Transition

Schema = dict[str, Any]
_REF = "#/components/schemas/"
_PROBLEMS = {
    400: "The request cannot be understood.",
    401: "Not logged in.",
    403: "The role does not allow it.",
    404: "Nothing there, or nothing that the caller may see.",
    406: "In none of the accepted forms.",
    409: "The record's state, or another record, stands against it.",
    410: "No longer kept.",
    412: "Another version than If-Match says.",
    413: "Too long.",
    415: "Of a type that is not taken.",
    416: "No byte of that range.",
    422: "A value is not as it must be.",
    429: "Too many requests; Retry-After says when.",
    503: "The database is away for the moment.",
}
DESCRIPTION = """
Patients' records around the devices, for patients' and clinicians' applications.

Every error is a problem document (RFC 9457). Lists are paged by a cursor (`next` goes into `after`), filtered by field,
sorted by `sort`, and cut to `fields`. A change takes `If-Match` with the record's ETag against lost updates; a POST
takes an `Idempotency-Key` and is then done once, however often it is sent. What a user may see and do, the database
decides. Who has several roles names one with `X-Role`.
"""


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route."""
    return {
        status: {
            "description": _PROBLEMS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_REF}ProblemDocument"}}},
        }
        for status in sorted({*statuses, 400, 401, 429, 503})
    }


def responses(schema: Schema | None, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The answers of a route of records."""
    found = problem_responses(403, 404, 409, 412, 413, 422)
    good: dict[str, Any] = {"description": "Done."}
    if schema is not None:
        good["content"] = {"application/json": {"schema": schema}}
        good["headers"] = {"ETag": {"description": "The version, for If-Match.", "schema": {"type": "string"}}}
    found[status] = good
    return found


def _parameter(name: str, schema: Schema, meaning: str, where: str = "query") -> Schema:
    found = {"name": name, "in": where, "required": where == "path", "schema": schema, "description": meaning}
    if schema.get("type") == "array":
        found |= {"style": "form", "explode": True}
    return found


def ref(kind: RecordType) -> Schema:
    """The schema of a record."""
    return {"$ref": _REF + kind.title}


def _page(schema: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["data", "next"],
        "properties": {
            "data": {"type": "array", "items": schema},
            "next": {"type": ["string", "null"], "description": "Cursor of the next page."},
        },
    }


def _fields_parameter(kind: RecordType) -> Schema:
    names = sorted(info.alias or name for name, info in kind.model.model_fields.items())
    schema = {"type": "string", "pattern": rf"^({'|'.join(names)})(,({'|'.join(names)}))*$"}
    return _parameter("fields", schema, "Only these fields, comma separated.")


@cache
def _field_schema(name: str, field: str) -> Schema:
    kind = RECORDS[name]
    whole = kind.model.model_json_schema(mode="serialization", by_alias=True)
    alias = kind.model.model_fields[field].alias or field
    schema: Schema = dict(whole["properties"][alias])
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    found = {key: value for key, value in options[0].items() if key in ("type", "format", "enum", "maxLength")}
    if field == "status" and kind.states:
        found["enum"] = list(kind.states)
    if found.get("type") == "string" and not {"format", "enum"} & set(found):
        found.setdefault("maxLength", 320)
        found["pattern"] = r"^[^\x00]*$"
    return found


def list_operation(kind: RecordType) -> Schema:
    """GET of many."""
    parameters = []
    for field in filterable(kind):
        alias = kind.model.model_fields[field].alias or field
        schema = _field_schema(kind.name, field)
        exact = "; exact, it is kept encrypted" if field in kind.sealed else ""
        if schema.get("type") == "boolean":
            parameters.append(_parameter(alias, schema, f"Only with this {alias}."))
        elif is_ordered(kind, field):
            for operator, words in (("ge", "from"), ("gt", "after"), ("le", "until"), ("lt", "before")):
                parameters.append(_parameter(f"{alias}[{operator}]", schema, f"Only with {alias} {words} this."))
        else:
            many = {"type": "array", "items": schema, "maxItems": 100}
            parameters.append(_parameter(alias, many, f"Only with one of these{exact}."))
    sorts = [kind.model.model_fields[name].alias or name for name in kind.sorts]
    both = [*sorts, *(f"-{name}" for name in sorts)]
    parameters += [
        _parameter("sort", {"type": "string", "enum": both}, f"Sort order; `-` is descending; default -{sorts[0]}."),
        _parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": 50}, "Page size."),
        _parameter("after", {"type": "string", "maxLength": 2000}, "Cursor: `next` of the page before."),
        _parameter("withdrawn", {"type": "boolean", "default": False}, "With what has been withdrawn."),
        _fields_parameter(kind),
    ]
    return {
        "operationId": f"list_{kind.name}", "summary": f"List: {kind.title}", "tags": [kind.title],
        "description": kind.meaning, "parameters": parameters, "x-schema": _page(ref(kind)),
    }  # fmt: skip


_ID = _parameter("id", {"type": "string", "maxLength": 300}, "Id of the record.", "path")
_KEY = _parameter(
    "Idempotency-Key", {"type": "string", "maxLength": 100, "pattern": "^[ -~]+$"},
    "Done once for each key; a UUID is best.", "header",
)  # fmt: skip
_IF_MATCH = _parameter(
    "If-Match", {"type": "string", "pattern": r'^"\d{1,9}"$'}, "Only when the record still has this ETag.", "header"
)


def read_operation(kind: RecordType) -> Schema:
    """GET of one."""
    return {
        "operationId": f"read_{kind.name}", "summary": f"Read one: {kind.title}", "tags": [kind.title],
        "parameters": [_ID, _fields_parameter(kind)], "x-schema": ref(kind),
    }  # fmt: skip


def versions_operation(kind: RecordType) -> Schema:
    """GET of every version."""
    schema = {"type": "object", "required": ["data"], "properties": {"data": {"type": "array", "items": ref(kind)}}}
    return {
        "operationId": f"versions_{kind.name}", "summary": f"All versions, oldest first: {kind.title}",
        "tags": [kind.title], "parameters": [_ID], "x-schema": schema,
    }  # fmt: skip


def verb_operation(kind: RecordType, verb: Transition) -> Schema:
    """POST or PATCH of a verb."""
    parameters = [_KEY] if verb.creates else [_ID, _IF_MATCH, _KEY]
    before = f" From {', '.join(verb.frm)}." if verb.frm else ""
    after = f" Then it is {verb.to}." if verb.to else ""
    words = verb.verb.replace("_", " ").capitalize()
    found: Schema = {
        "operationId": f"{verb.verb}_{kind.name}", "summary": f"{words}: {kind.title}",
        "tags": [kind.title], "description": verb.meaning + before + after, "parameters": parameters,
        "x-schema": ref(kind),
    }  # fmt: skip
    if verb.fields:
        model = kind.input_model(verb.verb)
        found["requestBody"] = {
            "required": verb.creates,
            "content": {"application/json": {"schema": {"$ref": _REF + model.__name__}}},
        }
    return found


def _with_second_spellings(schema: Schema, doubled: dict[str, str], *, exclusive: bool) -> Schema:
    """The schema with both spellings of a field; of a required one either does."""
    properties = schema.get("properties", {})
    for first, second in doubled.items():
        if first not in properties:
            continue
        properties[second] = {**properties[first], "description": f"The same as {first}."}
        if exclusive and first in schema.get("required", []):
            schema["required"] = [name for name in schema["required"] if name != first]
            schema.setdefault("allOf", []).append({"anyOf": [{"required": [first]}, {"required": [second]}]})
    return schema


def _components() -> Schema:
    models: list[tuple[Any, Any]] = [(ProblemDocument, "serialization")]
    inputs: dict[str, RecordType] = {}
    for kind in RECORDS.values():
        models.append((kind.model, "serialization"))
        for verb in kind.transitions.values():
            if verb.fields:
                model = kind.input_model(verb.verb)
                models.append((model, "validation"))
                inputs[model.__name__] = kind
    _, definitions = models_json_schema(models, by_alias=True, ref_template=_REF + "{model}")
    found: Schema = definitions["$defs"]
    for kind in RECORDS.values():
        name = kind.model.__name__
        schema = _with_second_spellings(_served(kind, found.pop(name)), kind.doubled, exclusive=False)
        found[kind.title] = {**schema, "title": kind.title}
    for name, kind in inputs.items():
        found[name] = _with_second_spellings(found[name], kind.doubled, exclusive=True)
    cleaned: Schema = _clean(found)
    return cleaned


def _served(kind: RecordType, schema: Schema) -> Schema:
    """A served record: sparse, so nothing is required, and what the role may not see is absent."""
    schema.pop("required", None)
    schema.pop("additionalProperties", None)
    if kind.states and "status" in schema.get("properties", {}):
        schema["properties"]["status"] = {**schema["properties"]["status"], "enum": list(kind.states)}
    for name, info in kind.model.model_fields.items():
        alias = info.alias or name
        if facts(info).get("sealed") and alias in schema["properties"]:
            schema["properties"][alias]["description"] += " Kept encrypted."
    return schema


def _clean(value: Any) -> Any:
    """Without our own notes on fields."""
    if isinstance(value, dict):
        return {key: _clean(one) for key, one in value.items() if key != "x-vitalgate"}
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return value


def document(app: FastAPI) -> Schema:
    """The whole document of an application."""
    made = get_openapi(
        title="Vitalgate", version=__version__, openapi_version="3.1.0", description=DESCRIPTION.strip(),
        routes=app.routes,
    )  # fmt: skip
    components = made.setdefault("components", {}).setdefault("schemas", {})
    components |= _components()
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    for path in made["paths"].values():
        for operation in path.values():
            answers = operation.get("responses", {})
            default = answers.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if default.get("$ref", "").endswith("HTTPValidationError"):
                answers["422"] = problem_responses(422)[422]
            operation["parameters"] = _once(operation.get("parameters", []))
    made["components"]["schemas"] = dict(sorted(components.items()))
    return made


def _once(parameters: list[Schema]) -> list[Schema]:
    """Each parameter once: what a route declares by hand wins over what its handler's signature says."""
    found: dict[tuple[str, str], Schema] = {}
    for one in parameters:
        found[one["in"], one["name"]] = one
    return list(found.values())
