"""schemas/openapi.json: written from the application; checked for drift, and for what would break a client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitalgate.config.settings import Settings

Schema = dict[str, Any]
NAME = "openapi.json"
RELEASED = "released"


def document() -> Schema:
    """The OpenAPI document of this version."""
    from vitalgate.api.app import bare_app

    return bare_app(Settings.model_validate({})).openapi()


def text(made: Schema) -> str:
    """As it lies in the file."""
    return json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def write(folder: Path) -> Path:
    """Write the document into a folder. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    path.write_text(text(document()), encoding="utf-8")
    return path


def problems(folder: Path) -> list[str]:
    """What is wrong with the file: that it is not as the application, or breaks clients of the last release."""
    made = document()
    path = folder / NAME
    found = []
    if not path.is_file():
        found.append(f"{path} is missing; run `vitalgate schema export {folder}`")
    elif path.read_text(encoding="utf-8") != text(made):
        found.append(f"{path} differs from the API; run `vitalgate schema export {folder}` and look at the change")
    released = folder / RELEASED / NAME
    if released.is_file():
        old = json.loads(released.read_text(encoding="utf-8"))
        found += [f"{NAME} {change}" for change in breaking_changes(old, made)]
    else:
        found.append(f"{released} is missing, so nothing was compared; run `vitalgate schema release {folder}`")
    return found


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """What would break a client that was written for the old document.

    Paths, methods, parameters, answers and their fields may be added; none may go away, none that was optional may be
    asked for, and no field may change its type.
    """
    return list(_paths(old, new))


def _paths(old: Schema, new: Schema) -> Iterator[str]:
    for path, methods in old["paths"].items():
        for method, had in methods.items():
            has = new["paths"].get(path, {}).get(method)
            at = f"{method.upper()} {path}"
            if has is None:
                yield f"{at}: is gone; keep it, and add the new one beside it"
                continue
            yield from _parameters(had, has, at)
            yield from _body(had, has, old, new, at)
            for status, answer in had.get("responses", {}).items():
                if not status.startswith("2"):
                    continue
                if status not in has.get("responses", {}):
                    yield f"{at}: does not answer {status} any more"
                    continue
                for kind, content in answer.get("content", {}).items():
                    now = has["responses"][status].get("content", {}).get(kind)
                    if now is None:
                        yield f"{at}: does not answer in {kind} any more"
                    else:
                        yield from _served(content.get("schema", {}), now.get("schema", {}), old, new, at, frozenset())


def _parameters(had: Schema, has: Schema, at: str) -> Iterator[str]:
    before = {(one["in"], one["name"]): one for one in had.get("parameters", [])}
    now = {(one["in"], one["name"]): one for one in has.get("parameters", [])}
    for key in before:
        if key not in now:
            yield f"{at}: does not take {key[1]} any more"
    for key, one in now.items():
        if one.get("required") and not before.get(key, {}).get("required"):
            yield f"{at}: asks for {key[1]}, which it did not"


def _body(had: Schema, has: Schema, old: Schema, new: Schema, at: str) -> Iterator[str]:
    if has.get("requestBody", {}).get("required") and not had.get("requestBody", {}).get("required"):
        yield f"{at}: asks for a body, which it did not"
    for kind, content in had.get("requestBody", {}).get("content", {}).items():
        now = has.get("requestBody", {}).get("content", {}).get(kind)
        if now is None:
            yield f"{at}: does not take a body of {kind} any more"
            continue
        before = _resolved(content.get("schema", {}), old)
        after = _resolved(now.get("schema", {}), new)
        for name in before.get("properties", {}):
            if name not in after.get("properties", {}):
                yield f"{at}: does not take the field {name} any more"
        for name in sorted(set(after.get("required", [])) - set(before.get("required", []))):
            yield f"{at}: asks for the field {name}, which it did not"


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _types(schema: Schema, root: Schema) -> set[str]:
    schema = _resolved(schema, root)
    if "anyOf" in schema:
        return set().union(*(_types(one, root) for one in schema["anyOf"]))
    kind = schema.get("type")
    return set(kind) if isinstance(kind, list) else {kind} if kind else set()


def _served(had: Schema, has: Schema, old: Schema, new: Schema, at: str, seen: frozenset[str]) -> Iterator[str]:
    """What is answered: nothing goes away, nothing gets a type that was not there."""
    name = str(had.get("$ref", ""))
    if name and name in seen:
        return
    seen = seen | {name} if name else seen
    had, has = _resolved(had, old), _resolved(has, new)
    before, now = _types(had, old), _types(has, new)
    if before and now - before:
        yield f"{at}: may be {', '.join(sorted(now - before))} now, which it was not"
    for field, inner in had.get("properties", {}).items():
        if field not in has.get("properties", {}):
            yield f"{at}.{field}: is gone; keep it, and add the new one beside it"
        else:
            yield from _served(inner, has["properties"][field], old, new, f"{at}.{field}", seen)
    if "items" in had and "items" in has:
        yield from _served(had["items"], has["items"], old, new, f"{at}[]", seen)
