"""The page about records and their JSON Schemas are what the models say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitalgate.records.catalogue import RECORDS, record_type
from vitalgate.records.errors import Invalid
from vitalgate.records.page import SCHEMA_FILE, page, schemas

ROOT = Path(__file__).parents[2]
REMEDY = "run `vitalgate schema records`"


def test_page_is_made_from_the_models() -> None:
    assert (ROOT / "docs" / "records.md").read_text(encoding="utf-8") == page(), REMEDY


def test_schemas_are_made_from_the_models() -> None:
    assert (ROOT / "schemas" / SCHEMA_FILE).read_text(encoding="utf-8") == schemas(), REMEDY
    document = json.loads(schemas())["$defs"]
    assert {kind.title for kind in RECORDS.values()} <= document.keys()
    assert "x-vitalgate" not in schemas()


def test_each_kind_goes_by_its_names_and_both_spellings() -> None:
    for kind in RECORDS.values():
        for name in (kind.name, kind.title, kind.path, *kind.also):
            assert record_type(name) is kind
        for first, second in kind.doubled.items():
            assert kind.spellings[first] == kind.spellings[second]
            assert f"`{second}`" in page()
        for name in (*kind.sorts, *kind.filters, *kind.indexed):
            assert name in kind.columns
    assert record_type("PatientMessage") is record_type("UserMessage") is record_type("messages")
    with pytest.raises(Invalid, match="no kind of record"):
        record_type("diary")


def test_every_state_is_reached_and_every_verb_leads_somewhere() -> None:
    for kind in RECORDS.values():
        if not kind.states or not kind.transitions:
            continue
        reached = {step.to for step in kind.transitions.values() if step.to}
        assert reached == set(kind.states), kind.name
        for step in kind.transitions.values():
            assert set(step.frm) <= set(kind.states), (kind.name, step.verb)
            assert set(step.required) <= {*step.fields, *step.stamps}, (kind.name, step.verb)
            assert {*step.fields, *step.stamps} <= kind.model.model_fields.keys(), (kind.name, step.verb)
