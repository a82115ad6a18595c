"""Whether a JSON Schema may replace an earlier one: topics evolve by addition only.

Two readers must both be served: a consumer written against the old schema that reads new records (so nothing it may
rely on goes away or changes type), and a consumer written against the new schema that reads old records still held by
Kafka (so nothing new is required).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """What in `new` would break a reader of `old` records or an `old` reader of `new` records.

    Parameters
    ----------
    old, new
        JSON Schemas (draft 2020-12) as pydantic generates them, with local ``$defs``.

    Returns
    -------
    list of str
        One sentence for each break, with the place as a JSON-path-like string; empty when compatible.
    """
    return list(_compare(old, new, old, new, "$", frozenset()))


def _resolve(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        schema = root["$defs"][name]
    return schema


def _types(schema: Schema, root: Schema) -> frozenset[str]:
    """The JSON types a schema admits; empty means any."""
    schema = _resolve(schema, root)
    if "anyOf" in schema:
        found = [_types(part, root) for part in schema["anyOf"]]
        return frozenset().union(*found) if all(found) else frozenset()
    if "const" in schema:
        return frozenset({_json_type(schema["const"])})
    if "enum" in schema:
        return frozenset(_json_type(value) for value in schema["enum"])
    kind = schema.get("type")
    if kind is None:
        return frozenset()
    return frozenset(kind) if isinstance(kind, list) else frozenset({kind})


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def _parts(schema: Schema, root: Schema) -> list[Schema]:
    schema = _resolve(schema, root)
    return [_resolve(part, root) for part in schema["anyOf"]] if "anyOf" in schema else [schema]


def _compare(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str, seen: frozenset[tuple[int, int]]
) -> Iterator[str]:
    key = (id(_resolve(old, old_root)), id(_resolve(new, new_root)))
    if key in seen:
        return
    seen = seen | {key}
    before, after = _types(old, old_root), _types(new, new_root)
    if before and after != before:
        gone, added = sorted(before - after), sorted(after - before)
        if gone and after:
            yield f"{at}: type {', '.join(gone)} is no longer allowed, so earlier records do not validate"
        if added or not after:
            yield f"{at}: type {', '.join(added) or 'any'} is new, and consumers written before do not expect it"
    for shape in ("object", "array"):
        pair = [
            next((part for part in _parts(schema, root) if part.get("type") == shape), None)
            for schema, root in ((old, old_root), (new, new_root))
        ]
        if pair[0] is None or pair[1] is None:
            continue
        if shape == "array":
            if "items" in pair[0] and "items" in pair[1]:
                yield from _compare(pair[0]["items"], pair[1]["items"], old_root, new_root, f"{at}[]", seen)
        else:
            yield from _objects(pair[0], pair[1], old_root, new_root, at, seen)


def _objects(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str, seen: frozenset[tuple[int, int]]
) -> Iterator[str]:
    had, has = old.get("properties", {}), new.get("properties", {})
    must, now_must = set(old.get("required", [])), set(new.get("required", []))
    for name in had:
        if name not in has:
            yield f"{at}.{name}: removed; keep it, and add the new one beside it"
        else:
            yield from _compare(had[name], has[name], old_root, new_root, f"{at}.{name}", seen)
    for name in sorted(must - now_must):
        if name in has:
            yield f"{at}.{name}: was always present and is optional now"
    for name in sorted(now_must - must):
        yield f"{at}.{name}: is required now, and records written before do not have it; give it a default"
