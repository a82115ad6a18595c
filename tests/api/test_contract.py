"""schemas/openapi.json is the API's, and a change that would break a client is named."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from vitalgate.api import contract

SCHEMAS = Path(__file__).parents[2] / "schemas"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return contract.document()


def test_the_file_in_the_repository_is_the_apis(document: dict[str, Any]) -> None:
    assert (SCHEMAS / contract.NAME).read_text() == contract.text(document), "run `vitalgate schema export schemas`"


def test_every_reference_leads_somewhere_and_operations_have_names(document: dict[str, Any]) -> None:
    known = set(document["components"]["schemas"])
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                found.add(value["$ref"].removeprefix("#/components/schemas/"))
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(document)
    assert found <= known
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(names) == len(set(names)) > 100
    for path in document["paths"].values():
        for one in path.values():
            assert one.get("summary") and "429" in one["responses"]


def _change(document: dict[str, Any], *path: str) -> Any:
    value: Any = document
    for part in path:
        value = value[part]
    return value


def test_what_would_break_a_client_is_named(document: dict[str, Any]) -> None:
    assert contract.breaking_changes(document, document) == []
    new = copy.deepcopy(document)
    del new["paths"]["/v1/messages"]["post"]
    get = _change(new, "paths", "/v1/lab-results", "get")
    get["parameters"] = [one for one in get["parameters"] if one["name"] != "sort"]
    get["parameters"].append({"in": "query", "name": "reason", "required": True, "schema": {"type": "string"}})
    del _change(new, "components", "schemas", "Appointment", "properties")["location"]
    _change(new, "components", "schemas", "TreatmentPlan", "properties", "kind")["type"] = "integer"
    _change(new, "components", "schemas", "ECGReportCreate")["required"].append("conclusion")
    found = "\n".join(contract.breaking_changes(document, new))
    for said in (
        "POST /v1/messages: is gone", "does not take sort any more", "asks for reason, which it did not",
        ".location: is gone", ".kind: may be integer now", "asks for the field conclusion",
    ):  # fmt: skip
        assert said in found


def test_what_is_added_breaks_nobody(document: dict[str, Any]) -> None:
    new = copy.deepcopy(document)
    new["paths"]["/v1/further"] = new["paths"]["/v1/messages"]
    _change(new, "components", "schemas", "Message", "properties")["further"] = {"type": "string"}
    assert contract.breaking_changes(document, new) == []
