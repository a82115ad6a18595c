"""Compatibility of schemas: additions pass, everything that breaks a reader is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import BaseModel

from vitalgate.schemas.compatibility import breaking_changes


class _Inner(BaseModel):
    x: int
    y: str | None = None


class _Outer(BaseModel):
    name: str
    inner: _Inner
    many: list[_Inner] = []
    kind: str = "a"


@pytest.fixture
def old() -> dict[str, Any]:
    return _Outer.model_json_schema()


def test_same_schema_is_compatible(old: dict[str, Any]) -> None:
    assert breaking_changes(old, copy.deepcopy(old)) == []


def test_an_optional_addition_is_compatible(old: dict[str, Any]) -> None:
    new = copy.deepcopy(old)
    new["properties"]["more"] = {"type": "string", "default": ""}
    new["$defs"]["_Inner"]["properties"]["z"] = {"type": "number", "default": 0}
    assert breaking_changes(old, new) == []


def test_each_break_is_named(old: dict[str, Any]) -> None:
    def changed(change: Any) -> list[str]:
        new = copy.deepcopy(old)
        change(new)
        return breaking_changes(old, new)

    assert any("$.kind: removed" in text for text in changed(lambda s: s["properties"].pop("kind")))
    retyped = changed(lambda s: s["$defs"]["_Inner"]["properties"]["x"].update(type="string"))
    assert any("$.inner.x" in text for text in retyped)
    assert any("$.name: was always present" in text for text in changed(lambda s: s["required"].remove("name")))

    def require(schema: dict[str, Any]) -> None:
        schema["properties"]["fresh"] = {"type": "string"}
        schema["required"].append("fresh")

    assert any("$.fresh: is required now" in text for text in changed(require))
    widened = changed(lambda s: s["properties"].update(name={"anyOf": [{"type": "string"}, {"type": "null"}]}))
    assert any("$.name: type null is new" in text for text in widened)
    narrowed = changed(lambda s: s["$defs"]["_Inner"]["properties"].update(y={"type": "string"}))
    assert any("$.inner.y: type null is no longer allowed" in text for text in narrowed)


def test_a_break_inside_a_list_is_found(old: dict[str, Any]) -> None:
    new = copy.deepcopy(old)
    new["properties"]["many"]["items"] = {"type": "integer"}
    assert breaking_changes(old, new)
