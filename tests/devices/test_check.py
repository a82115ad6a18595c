"""`device check` says in words what is wrong, what could be better and how the rest is understood."""

from __future__ import annotations

from typing import Any

import pytest

from vitalgate.devices.catalogue import UnknownName
from vitalgate.devices.check import check, refused
from vitalgate.devices.codec import encode_cbor, encode_json

from .support import NOW, Feed, at, ecg, spo2


def texts(document: dict[str, Any] | bytes, leaf: str = "readings", kind: str = "pulse-oximeter", **more: Any) -> str:
    payload = document if isinstance(document, bytes) else encode_json(document)
    return "\n".join(str(finding) for finding in check(payload, leaf, kind, **more))


def test_what_is_good_is_said_in_canonical_values() -> None:
    document = {"epoch": "e", "seq": 1, "sent_at": at(), "readings": [
        {"metric": "pulse_rate", "value": 1.2, "unit": "Hz", "time": at(), "site": "finger"}, spo2(88)]}  # fmt: skip
    said = texts(document)
    assert "wrong  " not in said
    assert "item 0: pulse_rate at the finger = 72 /min (sent as 1.2 Hz) at 2026-11-21T10:00:00.000000Z" in said
    assert "advice item 1: spo2 is unusual" in said
    assert said.startswith("fine   JSON, ")


def test_what_is_wrong_is_said_with_code_and_remedy() -> None:
    said = texts({"epoch": "e", "seq": 1, "sent_at": at(), "readings": [spo2("97"), spo2(unit="percent"), spo2(97)]})
    assert "wrong  [not_a_number] item 0: spo2 is '97'; send a number without quotes" in said
    assert "wrong  [unknown_unit] item 1: unit 'percent' is not accepted for spo2; in UCUM that is '%'" in said
    assert "fine   item 2" in said
    assert "wrong  [undecodable] not valid JSON" in texts(b'{"readings":[')
    assert "[oversize] 40 bytes, the limit is 20" in texts(b" " * 40, max_payload_bytes=20)
    assert "[wrong_topic]" in texts({"readings": []}, leaf="reading")
    assert "[wrong_topic] device_id is 'a'" in texts({"device_id": "a", **spo2()}, device="b")
    assert "wrong  " not in texts({"device_id": "a", **spo2()})


def test_advice_on_what_could_be_better() -> None:
    said = texts({"readings": [spo2(97), spo2(95)], "colour": "red"})
    assert "bears no number, so no receipt can name it" in said
    assert "sent_at is missing" in said
    assert "item 1: is the same measurement as item 0" in said
    assert "the key 'colour' around the items means nothing" in said
    assert "seq is 0" in texts({"epoch": "e", "seq": 0, **spo2()})


def test_blocks_are_described() -> None:
    steady = ecg([5, 5, 5], channel="ecg.I", first_sample=0, recording="r")
    said = texts({"waveforms": [ecg([0, 100, 1200] * 100), steady]}, "waveforms", "ecg-patch")
    assert "item 0: ecg.II: 300 samples, 1.2 s at 250 Hz, 0 to 6 mV, recording 'auto-20261121' from sample" in said
    assert "the amplitude is unusual" in said
    assert "recording and first_sample are told from the start time" in said
    assert "item 1: all samples are equal" in said
    assert texts(encode_cbor({"waveforms": [ecg([1, 2])]}), "waveforms", "ecg-patch").startswith("fine   CBOR")


def test_other_forms_of_a_value() -> None:
    said = texts({"readings": [
        {"metric": "consciousness", "code": "alert", "time": at()},
        {"metric": "spo2", "absent": "error", "time": at()},
        {"metric": "glucose", "value": 20, "unit": "mg/dL", "comparator": "<", "time": at(),
         "corrects": {"time": at(-9)}},
        {"metric": "spo2", "corrects": {"time": at(-60), "retract": True}},
    ]}, kind="manual")  # fmt: skip
    assert "consciousness = A at" in said
    assert "spo2 = no value (error) at" in said
    assert "glucose = <20 mg/dL at 2026-11-21T10:00:00.000000Z, a correction" in said
    assert "takes back a spo2" in said
    assert "status 'online'" in texts({"state": "online"}, "status")


def test_an_old_file_is_not_refused_for_its_age_unless_asked() -> None:
    old = {"readings": [{"metric": "spo2", "value": 97, "unit": "%", "time": "2001-01-01T00:00:00Z"}]}
    assert "wrong  " not in texts(old)
    assert "[time_unexplained]" in texts(old, received_us=NOW)
    assert "[schema]" in texts({"readings": [{**spo2(), "time": "soon"}, 5]})


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(UnknownName):
        check(b"{}", "readings", "toaster")


def test_a_live_refusal_is_told_in_the_same_words() -> None:
    (finding,) = refused(Feed().send({"readings": [spo2(101)]}))
    assert (finding.level, finding.item, finding.reason) == ("wrong", 0, "out_of_range")
