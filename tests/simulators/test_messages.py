"""Every kind's messages are accepted by the system's own validation; every garbage is refused for the reason given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.config.settings import IntakeSettings
from vitalgate.devices import catalogue
from vitalgate.devices.codec import encode_cbor, encode_json, pack_samples
from vitalgate.devices.context import Context
from vitalgate.devices.decode import decode
from vitalgate.devices.reasons import Refused
from vitalgate.devices.validate import Validated, validate
from vitalgate.simulators.firmware import Emission, Firmware
from vitalgate.simulators.garbage import MAKERS, make
from vitalgate.simulators.packing import pack_array, ready
from vitalgate.simulators.physiology import Person, Rhythm
from vitalgate.simulators.scenario import DeviceOf

START = 1_790_000_000.0
KINDS = catalogue.load()


def firmware(kind: str, **given: Any) -> Firmware:
    person = Person(5, START, rhythms=(Rhythm("pause", 20, 4), Rhythm("af", 30, 20)))
    device = DeviceOf.model_validate({"kind": kind, "every": 30.0, **given})
    return Firmware(KINDS.kind(kind), device, person, 7, START)


def judged(emission: Emission, kind: str, *, cbor: bool = False) -> Validated:
    encode = encode_cbor if cbor else encode_json
    document = ready(emission.document, "cbor" if cbor else "json")
    payload = emission.raw if emission.raw is not None else encode(document)
    context = Context.of(IntakeSettings.model_validate({}), round((emission.at + 1) * 1_000_000), epoch="e", seq=10)
    return validate(decode(payload), emission.leaf, KINDS.kind(kind), context)


@pytest.mark.parametrize("kind", sorted(KINDS.kinds))
@pytest.mark.parametrize("cbor", [False, True])
def test_all_that_a_kind_sends_is_accepted(kind: str, cbor: bool) -> None:
    device = firmware(kind)
    device.off.append((START + 50, START + 60))
    seen: set[str] = set()
    for emission in device.emissions(START + 70):
        outcome = judged(emission, kind, cbor=cbor)
        assert not outcome.dead, (emission.document, outcome.dead)
        for item, reading in zip(emission.items, outcome.readings, strict=emission.leaf == "readings"):
            seen.add(reading.metric)
            expected = (item.metric, item.site, item.time_us, item.value, item.unit)
            assert (reading.metric, reading.site, reading.time_us, reading.value_sent, reading.unit_sent) == expected
        for item, block in zip(emission.items, outcome.waveforms, strict=emission.leaf == "waveforms"):
            seen.add(block.channel)
            found = (block.channel, block.recording, block.first_sample, block.count, block.start_us)
            assert found == (item.metric, item.recording, item.first_sample, item.count, item.time_us)
    assert set(KINDS.kind(kind).metrics) - {"battery"} <= seen
    assert not KINDS.kind(kind).channels or seen & set(KINDS.kind(kind).channels)


def test_other_units_arrive_as_the_same_value() -> None:
    device = firmware("thermometer", units={"temperature": "[degF]"})
    emission = next(each for each in device.emissions(START + 60) if each.leaf == "readings")
    (reading,) = judged(emission, "thermometer").readings
    assert emission.items[0].unit == "[degF]"
    assert reading.value_num == pytest.approx(device.person.one("temperature", emission.at), abs=0.06)


@pytest.mark.parametrize("what", sorted(MAKERS))
def test_every_garbage_is_refused_for_the_reason_given(what: str) -> None:
    kinds = ["ecg-patch", "manual", "bp-cuff"]
    for number, kind in enumerate(kinds):
        try:
            emission = make(what, KINDS.kind(kind), number, START)
        except ValueError as error:
            assert "not a garbage it can send" in str(error)  # noqa: PT017
            continue
        (expected,) = {item.expect for item in emission.items}
        if what == "oversize":
            assert emission.raw is not None
            assert len(emission.raw) > 1_048_576
            return
        if expected == "dead:undecodable":
            with pytest.raises(Refused) as caught:
                judged(emission, kind)
            assert caught.value.reason == "undecodable"
            return
        outcome = judged(emission, kind)
        assert [f"dead:{dead.reason}" for dead in outcome.dead] == [expected]
        assert [dead.item for dead in outcome.dead] == [
            place if item.item is None else item.item for place, item in enumerate(emission.items)
        ]
        assert not outcome.readings
        assert not outcome.waveforms


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=60))
def test_packing_an_array_gives_the_bytes_that_the_codec_gives(samples: list[int]) -> None:
    assert pack_array(np.array(samples, np.int32)) == pack_samples(samples)


def test_unknown_garbage_is_told() -> None:
    with pytest.raises(ValueError, match="there is undecodable, truncated"):
        make("poetry", KINDS.kind("scale"), 1, START)


def test_a_kind_written_today_is_simulated_without_code(tmp_path: Any) -> None:
    (tmp_path / "bedroom-sensor.toml").write_text(
        'kind = "bedroom-sensor"\ntitle = "Bedroom"\ndescription = "Lux and noise."\n'
        'metrics = [{ name = "room_warmth", cadence_s = 10 }, { name = "light" }]\n'
        '[define.room_warmth]\ntitle = "Room"\nquantity = "temperature"\nresolution = 0.1\nplausible = [-20, 60]\n'
        '[define.light]\ntitle = "Light"\n[define.light.codes]\noff = { title = "Off" }\non = { title = "On" }\n'
    )
    kinds = catalogue.load(tmp_path)
    device = Firmware(
        kinds.kind("bedroom-sensor"), DeviceOf.model_validate({"kind": "bedroom-sensor"}), Person(1, START), 1, START
    )
    sent = [item for each in device.emissions(START + 60) if each.leaf == "readings" for item in each.items]
    assert {item.metric for item in sent} == {"room_warmth", "light"}
    assert all(-20 < (item.value or 0) < 60 for item in sent)
    assert {item.code for item in sent if item.metric == "light"} == {"off"}
