"""The public models describe every field, and admit what the writers write."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from vitalgate.config import topics
from vitalgate.devices.public import DeviceReadings, Patient
from vitalgate.schemas.models import MODELS


def test_every_public_topic_has_its_model() -> None:
    assert set(MODELS) == {topic.name for topic in topics.ALL if topic.visibility == "public"}


@pytest.mark.parametrize("model", MODELS.values())
def test_every_field_is_described(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    for name, part in [("", schema), *schema.get("$defs", {}).items()]:
        assert part.get("description"), name
        for field, about in part["properties"].items():
            assert about.get("description") or "$ref" in about, f"{name}.{field}"


def test_unknown_keys_are_ignored_so_that_topics_can_grow() -> None:
    document: dict[str, Any] = {
        "device_id": "d", "message_id": "ab", "trace": "0", "received_at": "2026-11-21T10:00:00Z", "later": 1,
        "readings": [{
            "metric": "spo2", "site": "", "index": 0, "time": "2026-11-21T10:00:00Z", "version": 1, "current": True,
            "value": 97.0, "code": None, "comparator": "", "absent": "", "unit": "%", "value_sent": 97.0,
            "unit_sent": "%", "time_sent": "2026-11-21T10:00:00Z", "group": "", "context": {}, "flags": [],
            "unusual": False, "retracted": False, "epoch": "e", "seq": None, "item": 0, "later": {},
        }],
    }  # fmt: skip
    assert DeviceReadings.model_validate(document).readings[0].value == 97.0


def test_aliases_are_those_of_the_wire() -> None:
    patient = Patient.model_validate(
        {"patient": "p", "change": 1, "zones": [{"from": None, "zone": "Europe/Berlin"}], "team": "care"}
    )
    assert patient.model_dump(mode="json", by_alias=True)["zones"] == [{"from": None, "zone": "Europe/Berlin"}]
