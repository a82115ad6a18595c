"""The JSON Schemas of device messages: whatever is accepted fits them, and what they cannot take is refused."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.devices.messages import KINDS, as_bytes, garbled, good_message
from tests.devices.support import Feed, context, ecg, spo2
from vitalgate.devices.catalogue import Kind
from vitalgate.devices.codec import encode_json, unpack_samples
from vitalgate.devices.reasons import Reason
from vitalgate.devices.validate import validate
from vitalgate.gateway.receipts import receipts_of
from vitalgate.gateway.tell_settings import settings_payload
from vitalgate.schemas.export import generate

PAGE = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")
SCHEMAS = generate()


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = SCHEMAS[f"mqtt.{name}.schema.json"]
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def fits(name: str, document: Any) -> bool:
    return bool(validator(name).is_valid(document))


def as_json(document: Any) -> Any:
    """What JSON says of a document: packed samples as the list they hold."""
    if isinstance(document, bytes):
        return unpack_samples(document)
    if isinstance(document, dict):
        return {key: as_json(value) for key, value in document.items()}
    return [as_json(value) for value in document] if isinstance(document, list) else document


MESSAGES = KINDS.flatmap(lambda kind: st.tuples(st.just(kind), good_message(kind)))


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(MESSAGES, st.data())
def test_what_is_accepted_fits(example: tuple[Kind, tuple[str, dict[str, Any]]], data: st.DataObject) -> None:
    kind, (leaf, good) = example
    good = as_json(good)
    assert fits(leaf, good), list(validator(leaf).iter_errors(good))
    bad = as_json(data.draw(garbled(good)))
    outcome = validate(bad, leaf, kind, context())
    assume(not outcome.dead)
    envelope = Feed(kind.name).send(as_bytes(bad, cbor=False), leaf)
    assume(not envelope.dead)
    assert fits(leaf, bad), list(validator(leaf).iter_errors(bad))


@pytest.mark.parametrize(
    ("leaf", "document"),
    [
        ("readings", {"readings": []}),
        ("readings", {"epoch": "e 1", "seq": 1, "readings": [spo2()]}),
        ("readings", {"readings": [spo2(comparater="<")]}),
        ("readings", {"readings": [spo2(comparator="=")]}),
        ("readings", {"readings": [spo2(corrects={"seq": 1, "time": "2026-11-21T10:00:00Z"})]}),
        ("readings", {"readings": [{"value": 97, "unit": "%"}]}),
        ("waveforms", {"waveforms": [ecg([1, 2], gain=0)]}),
        ("waveforms", {"waveforms": [ecg([1.5])]}),
        ("waveforms", {"waveforms": [ecg([2**31])]}),
        ("status", {"battery": 80}),
        ("status", {"state": "online", "battery": 101}),
    ],
)
def test_what_does_not_fit_is_refused(leaf: str, document: dict[str, Any]) -> None:
    assert not fits(leaf, document)
    kind = "ecg-patch" if leaf == "waveforms" else "pulse-oximeter"
    assert Feed(kind).send(encode_json(document), leaf).dead


def test_a_reading_and_a_block_may_stand_alone_and_lost_numbers_too() -> None:
    assert fits("readings", {"epoch": "e1", "seq": 3, **spo2()})
    assert fits("waveforms", ecg([1, None, 3]))
    assert fits("readings", {"epoch": "e1", "lost": [4, 5]})
    assert not fits("readings", {**spo2(), "valeu": 3})


def test_payloads_of_the_page_fit() -> None:
    examples = re.findall(r"^```json (readings|waveforms|status) [\w-]+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert {leaf for leaf, _ in examples} == {"readings", "waveforms", "status"}
    for leaf, text in examples:
        assert fits(leaf, json.loads(text)), text
    downs = re.findall(r'^\{"type":.*\}$', PAGE, re.MULTILINE)
    assert {json.loads(text)["type"] for text in downs} == {"time", "settings"}
    for text in downs:
        assert fits("down", json.loads(text)), text


def test_what_is_sent_to_devices_fits() -> None:
    feed = Feed()
    feed.send(encode_json({"epoch": "e1", "seq": 1, "readings": [spo2()]}))
    feed.send(encode_json({"epoch": "e1", "seq": 4, "readings": [spo2(300)]}))
    assert feed.state is not None
    receipts = [json.loads(receipt.payload) for receipt in receipts_of(feed.state)]
    assert receipts and receipts[-1]["rejected"][0]["reason"] == Reason.OUT_OF_RANGE
    for receipt in receipts:
        assert fits("receipts", receipt), receipt
    for values in ({}, {"interval_s": 30, "quiet": True, "tone": "soft", "k": 1.5}):
        assert fits("down", json.loads(settings_payload(2, values)))
    assert not fits("down", json.loads(settings_payload(0, {})))
    assert not fits("down", {"type": "time", "time": "2026-11-21T10:00:00Z"})


def test_every_channel_between_device_and_system_has_a_schema() -> None:
    document = SCHEMAS["asyncapi.json"]
    for key, channel in document["channels"].items():
        for message in channel["messages"].values():
            name = message["payload"]["$ref"].removeprefix("./")
            assert name in SCHEMAS, (key, name)
    addresses = [channel["address"] for channel in document["channels"].values()]
    assert len(addresses) == len(set(addresses))
    assert {"device.readings", "v1/devices/{device}/readings", "v1/devices/{device}/down"} <= set(addresses)
