"""What each item of a message becomes, or why it is refused; one bad item does not take the good ones with it."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import pytest

from vitalgate.devices import catalogue
from vitalgate.devices.codec import pack_samples
from vitalgate.devices.decode import TypedArray
from vitalgate.devices.records import NO_SEQ
from vitalgate.devices.validate import Validated, validate

from .support import NOW, SECOND, at, context, ecg, spo2


def outcome(kind: str, *items: Any, leaf: str = "readings", **more: Any) -> Validated:
    return validate({leaf: list(items)}, leaf, catalogue.load().kind(kind), context(**more))


def refusal(kind: str, item: Any, leaf: str = "readings", **more: Any) -> tuple[str, str]:
    result = outcome(kind, item, leaf=leaf, **more)
    assert not result.readings
    assert not result.waveforms
    (dead,) = result.dead
    assert dead.item == 0
    return dead.reason, dead.detail


def test_a_reading_is_canonical_and_as_sent() -> None:
    (reading,) = outcome(
        "thermometer",
        {"metric": "temperature", "value": 101.3, "unit": "[degF]", "time": "2026-11-21T11:00:00.5+01:00",
         "site": "ear", "group": "g1", "index": 2, "flags": ["low_battery"], "context": {"activity": "rest"}},
    ).readings  # fmt: skip
    assert reading.value_num == 38.5
    assert (reading.unit, reading.value_sent, reading.unit_sent) == ("Cel", 101.3, "[degF]")
    assert (reading.time_us, reading.time_sent_us, reading.offset_min) == (NOW + 500_000, NOW + 500_000, 60)
    assert (reading.site, reading.group, reading.index) == ("ear", "g1", 2)
    assert (reading.flags, reading.context) == (["low_battery"], {"activity": "rest"})


def test_a_bad_reading_does_not_take_the_good_ones_with_it() -> None:
    result = outcome("pulse-oximeter", spo2(97), spo2(130), spo2("97"), spo2(96, index=1), 5, spo2(float("nan")))
    assert [(reading.item, reading.value_num) for reading in result.readings] == [(0, 97.0), (3, 96.0)]
    assert [(dead.item, dead.reason) for dead in result.dead] == [
        (1, "out_of_range"), (2, "not_a_number"), (4, "schema"), (5, "not_a_number"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"metric": "spo"}, "unknown_metric", "did you mean 'spo2'"),
        ({"metric": "glucose"}, "unknown_metric", "it has spo2"),
        ({"metric": None}, "schema", "metric is missing"),
        ({"metric": 5}, "schema", "metric is 5"),
        ({"metric": ["spo2"]}, "schema", "a list"),
        ({"unit": "percent"}, "unknown_unit", "in UCUM that is '%'"),
        ({"unit": None}, "unknown_unit", "without a unit; send one of '%', '1'"),
        ({"unit": ["%"]}, "unknown_unit", "a list"),
        ({"value": 101}, "out_of_range", "outside 0 to 100 %"),
        ({"value": 1.2, "unit": "1"}, "out_of_range", "1.2 1 (120 %)"),
        ({"value": -1}, "out_of_range", "-1"),
        ({"value": 2**63}, "out_of_range", "outside"),
        ({"value": float("inf")}, "not_a_number", "inf"),
        ({"value": float("nan"), "unit": "1"}, "not_a_number", "nan"),
        ({"value": float("inf"), "unit": "1"}, "not_a_number", "inf"),
        ({"value": "97"}, "not_a_number", "without quotes"),
        ({"value": True}, "not_a_number", "true"),
        ({"value": [97]}, "not_a_number", "a list"),
        ({"value": None}, "not_a_number", "null"),
        ({"value": 97, "absent": "error"}, "schema", "more than one"),
        ({"value": 97, "code": "A"}, "schema", "more than one"),
        ({"time": None}, "schema", "time is missing"),
        ({"time": 1795255200}, "schema", "RFC 3339"),
        ({"time": "2026-11-21T10:00:00"}, "schema", "no UTC offset"),
        ({"time": "1970-01-01T00:00:00Z"}, "time_unexplained", "before the earliest time"),
        ({"time": "2027-01-01T00:00:00Z"}, "time_unexplained", "ahead of the latest time"),
        ({"site": "knee"}, "unknown_code", "spo2's: ear, finger"),
        ({"site": 3}, "unknown_code", "site 3"),
        ({"index": -1}, "schema", "index is -1"),
        ({"index": True}, "schema", "index is true"),
        ({"index": 1.0}, "schema", "index is 1.0"),
        ({"comparator": "~"}, "schema", "comparator"),
        ({"comparator": ["<"]}, "schema", "comparator"),
        ({"comparater": "<"}, "schema", "did you mean 'comparator'"),
        ({"patient": "p1"}, "schema", "unknown key 'patient'"),
        ({"group": "a\u0000b"}, "schema", "printable"),
        ({"group": "g" * 65}, "schema", "1 to 64"),
        ({"group": ""}, "schema", "printable"),
        ({"context": {"mood": "good"}}, "unknown_code", "known are activity"),
        ({"context": {"position": "hanging"}}, "unknown_code", "lying"),
        ({"context": ["lying"]}, "schema", "context is a list"),
        ({"flags": "motion"}, "schema", "flags"),
        ({"flags": ["Motion!"]}, "schema", "is not a word"),
        ({"flags": ["a"] * 17}, "schema", "at most 16"),
    ],
)
def test_a_refused_reading_has_its_reason(change: dict[str, Any], reason: str, says: str) -> None:
    item = {key: value for key, value in {**spo2(), **change}.items() if value is not None or key == "value"}
    found, detail = refusal("pulse-oximeter", item)
    assert found == reason, detail
    assert says in detail


def test_keys_of_the_devices_own_are_ignored() -> None:
    assert outcome("pulse-oximeter", {**spo2(x_raw=5), "x-note": [1]}).readings


def test_limits_are_inclusive_and_unusual_is_kept() -> None:
    def rate(value: float) -> Validated:
        return outcome("pulse-oximeter", {"metric": "pulse_rate", "value": value, "unit": "/min", "time": at()})

    assert [rate(value).readings[0].unusual for value in (40, 41, 130, 131)] == [True, False, False, True]
    assert rate(20).readings
    assert rate(19.99).dead
    assert rate(300).readings
    assert rate(300.01).dead
    glucose = [
        outcome("glucose-meter", {"metric": "glucose", "value": v, "unit": "mg/dL", "time": at()}).readings[0].unusual
        for v in (69.9, 70, 250, 250.1)
    ]
    assert glucose == [True, False, False, True]


def test_a_meters_lo_and_hi_are_comparators() -> None:
    (reading,) = outcome(
        "glucose-meter",
        {
            "metric": "glucose",
            "value": 1.1,
            "unit": "mmol/L",
            "comparator": "<",
            "time": at(),
            "context": {"meal": "fasting"},
        },
    ).readings
    assert (reading.comparator, reading.value_sent, reading.unit_sent) == ("<", 1.1, "mmol/L")
    assert reading.value_num == pytest.approx(19.817149, abs=1e-12)


def test_an_absent_value_needs_a_reason_and_no_unit() -> None:
    item = {"metric": "spo2", "absent": "not-performed", "time": at(), "flags": ["sensor_off"]}
    (reading,) = outcome("pulse-oximeter", item).readings
    assert (reading.absent, reading.value_num, reading.value_sent, reading.unit) == ("not-performed", None, None, "%")
    assert refusal("pulse-oximeter", {**item, "absent": "sulking"})[0] == "schema"
    assert refusal("pulse-oximeter", {**item, "absent": ["error"]})[0] == "schema"
    assert refusal("pulse-oximeter", {**item, "comparator": "<"})[0] == "schema"
    assert refusal("pulse-oximeter", {"metric": "spo2", "time": at(), "unit": "%"})[0] == "schema"


@pytest.mark.parametrize(("sent", "code"), [("A", "A"), ("alert", "A"), ("confusion", "C"), ("U", "U")])
def test_coded_values_have_aliases(sent: str, code: str) -> None:
    for key in ("code", "value"):
        (reading,) = outcome("manual", {"metric": "consciousness", key: sent, "time": at()}).readings
        assert (reading.value_code, reading.value_num, reading.unusual) == (code, None, code != "A")


def test_unknown_codes_are_refused() -> None:
    base = {"metric": "consciousness", "time": at()}
    assert refusal("manual", {**base, "code": "X"}) == (
        "unknown_code", "consciousness has no code 'X'; send one of A, C, V, P, U",
    )  # fmt: skip
    assert refusal("manual", {**base, "code": 5})[0] == "unknown_code"
    assert refusal("manual", {**base, "value": 5})[0] == "unknown_code"
    assert refusal("manual", {**base, "code": "A", "unit": "%"})[0] == "unknown_unit"
    assert refusal("manual", {"metric": "spo2", "code": "A", "time": at()})[0] == "unknown_code"
    two = [{"metric": f"symptom.{name}", "code": "severe", "time": at()} for name in ("chest_pain", "dizziness")]
    assert len(outcome("manual", *two).readings) == 2


def test_pressures_of_one_measurement_must_rise() -> None:
    def cuff(systolic: float, diastolic: float, **more: Any) -> list[dict[str, Any]]:
        values = {"bp_systolic": systolic, "bp_diastolic": diastolic, **more.pop("values", {})}
        return [
            {"metric": name, "value": value, "unit": "mm[Hg]", "time": at(), "group": "b1", **more}
            for name, value in values.items()
        ]

    assert len(outcome("bp-cuff", *cuff(120, 80)).readings) == 2
    wrong = outcome("bp-cuff", *cuff(80, 120), {"metric": "pulse_rate", "value": 70, "unit": "/min", "time": at()})
    assert [reading.metric for reading in wrong.readings] == ["pulse_rate"]
    assert [(dead.item, dead.reason) for dead in wrong.dead] == [(0, "inconsistent"), (1, "inconsistent")]
    assert outcome("bp-cuff", *cuff(120, 80, values={"bp_mean": 70})).dead
    assert outcome("bp-cuff", *cuff(120, 120)).dead
    assert not outcome("bp-cuff", cuff(80, 60, group="x")[0], cuff(120, 90, group="y")[1]).dead
    spiro = [{"metric": name, "value": 3.0, "unit": "L", "time": at()} for name in ("fev1", "fvc")]
    assert not outcome("spirometer", *spiro).dead


def test_corrections_name_an_item_or_a_measurement() -> None:
    def corrected(corrects: Any, **more: Any) -> Validated:
        return outcome("pulse-oximeter", spo2(95, corrects=corrects, **more), epoch="e1", seq=9)

    (by_number,) = corrected({"epoch": "e0", "seq": 12, "index": 3}).readings
    assert by_number.corrects is not None
    assert (by_number.corrects.epoch, by_number.corrects.seq, by_number.corrects.index) == ("e0", 12, 3)
    (own_epoch,) = corrected({"seq": 8}).readings
    assert own_epoch.corrects is not None
    assert own_epoch.corrects.epoch == "e1"
    (by_time,) = corrected({"time": at(-60)}).readings
    assert by_time.corrects is not None
    assert (by_time.corrects.seq, by_time.corrects.time_us) == (NO_SEQ, NOW - 60 * SECOND)
    for wrong in (
        {}, 5, {"seq": 8, "time": at()},
        {"seq": 9}, {"seq": 10}, {"seq": -1}, {"seq": "8"}, {"time": 5}, {"epoch": 5, "seq": 1},
        {"seq": 8, "index": -1}, {"seq": 8, "retract": 1}, {"sequence": 8}, {"epoch": "", "seq": 1},
    ):  # fmt: skip
        assert corrected(wrong).dead[0].reason == "bad_correction", wrong
    assert corrected({"time": "1970-01-01T00:00:00Z"}).dead[0].reason == "time_unexplained"


def test_a_retraction_has_no_value() -> None:
    take_back = {"metric": "spo2", "corrects": {"time": at(-60), "retract": True}}
    (reading,) = outcome("pulse-oximeter", take_back).readings
    assert (reading.time_us, reading.value_num) == (NOW - 60 * SECOND, None)
    assert reading.corrects is not None
    assert reading.corrects.retract
    (by_number,) = outcome(
        "pulse-oximeter", {**take_back, "corrects": {"epoch": "e", "seq": 1, "retract": True}}
    ).readings
    assert by_number.time_us == NOW + SECOND
    assert refusal("pulse-oximeter", {**take_back, "value": 97, "unit": "%"})[0] == "bad_correction"


# --- the message around the items -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "leaf", "reason"),
    [
        ({}, "readings", "schema"),
        ({"readings": []}, "readings", "schema"),
        ({"readings": {}}, "readings", "schema"),
        ({"readings": None}, "readings", "schema"),
        ({"readings": [spo2()], "metric": "spo2"}, "readings", "schema"),
        ({"readings": [spo2()] * 1001}, "readings", "too_many"),
        ({"waveforms": []}, "readings", "wrong_topic"),
        ({"readings": []}, "waveforms", "wrong_topic"),
        ({"readings": []}, "status", "wrong_topic"),
        ({"state": "online"}, "readings", "wrong_topic"),
        ({"battery": 5}, "status", "schema"),
        ({"state": ""}, "status", "schema"),
        ({"state": "on\nline"}, "status", "schema"),
        ({"state": "online", "battery": 101}, "status", "out_of_range"),
        ({"state": "online", "battery": "full"}, "status", "not_a_number"),
        ({"state": "online", "battery": float("nan")}, "status", "out_of_range"),
        ({"state": "online", "firmware": 5}, "status", "schema"),
        ({"state": "online", "detail": 5}, "status", "schema"),
        ({"state": "online", "detail": {"a": []}}, "status", "schema"),
        ({"state": "online", "detail": {str(i): "x" for i in range(33)}}, "status", "too_many"),
        ({"state": "online", "time": "1970-01-01T00:00:00Z"}, "status", "time_unexplained"),
    ],
)
def test_a_message_that_is_refused_whole(document: dict[str, Any], leaf: str, reason: str) -> None:
    result = validate(document, leaf, catalogue.load().kind("pulse-oximeter"), context())
    assert [(dead.item, dead.reason) for dead in result.dead] == [(-1, reason)]
    assert not result.readings
    assert result.status is None


def test_a_single_bare_reading_is_a_message() -> None:
    document = {"epoch": "e", "seq": 1, "sent_at": at(), **spo2()}
    (reading,) = validate(document, "readings", catalogue.load().kind("pulse-oximeter"), context()).readings
    assert reading.item == 0
    block = {"epoch": "e", "seq": 1, **ecg([1, 2, 3])}
    assert validate(block, "waveforms", catalogue.load().kind("ecg-patch"), context()).waveforms[0].count == 3


def test_a_status_keeps_what_the_device_says() -> None:
    document = {
        "state": "online", "battery": 80, "firmware": "1.2", "serial": "S1", "rssi": -60, "charging": True,
        "detail": {"net": "lte"}, "epoch": "e", "seq": 4,
    }  # fmt: skip
    status = validate(document, "status", catalogue.load().kind("scale"), context()).status
    assert status is not None
    assert (status.state, status.battery, status.firmware, status.serial) == ("online", 80.0, "1.2", "S1")
    assert status.detail == {"rssi": "-60", "charging": "true", "net": "lte"}
    assert status.time_us == NOW + SECOND


def test_a_message_with_only_lost_numbers_is_a_status() -> None:
    for leaf in ("readings", "waveforms", "status"):
        status = validate({"epoch": "e", "lost": [3, 4]}, leaf, catalogue.load().kind("scale"), context()).status
        assert status is not None
        assert (status.state, status.detail) == ("lost", {"numbers": "2"})
    empty = validate({"epoch": "e", "lost": [3], "readings": []}, "readings", catalogue.load().kind("scale"), context())
    assert empty.status is not None


# --- waveforms ------------------------------------------------------------------------------------------------------


def test_a_block_is_int32_on_its_recording() -> None:
    (block,) = outcome(
        "ecg-patch", ecg([0, 200, -200], recording="r1", first_sample=4500, offset=10), leaf="waveforms"
    ).waveforms
    assert block.samples == struct.pack("<3i", 0, 200, -200)
    assert (block.recording, block.first_sample, block.count) == ("r1", 4500, 3)
    assert (block.rate_num, block.rate_den, block.gain, block.offset, block.unit) == (250, 1, 200.0, 10.0, "mV")
    assert (block.start_us, block.time_sent_us, block.offset_min) == (NOW, NOW, 0)


def test_microvolts_become_millivolts_by_the_gain() -> None:
    (block,) = outcome("ecg-patch", ecg([100], unit="uV", gain=0.2), leaf="waveforms").waveforms
    assert (block.gain, block.unit) == (200.0, "mV")


@pytest.mark.parametrize(
    ("rate", "fraction"),
    [(250, Fraction(250)), (360.5, Fraction(721, 2)), ("1000/3", Fraction(1000, 3)), ("128", Fraction(128))],
)
def test_rates_are_rational(rate: Any, fraction: Fraction) -> None:
    (block,) = outcome("ecg-patch", ecg([1], rate=rate), leaf="waveforms").waveforms
    assert Fraction(block.rate_num, block.rate_den) == fraction


def test_a_block_without_a_rate_has_the_registered_one() -> None:
    item = ecg([1])
    del item["rate"]
    assert refusal("ecg-patch", item, leaf="waveforms")[0] == "waveform_shape"
    (block,) = outcome("ecg-patch", item, leaf="waveforms", sample_rate=Fraction(360)).waveforms
    assert block.rate_num == 360


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"channel": "ecg.2"}, "unknown_channel", "did you mean 'ecg."),
        ({"channel": "pleth"}, "unknown_channel", "it has ecg.I"),
        ({"channel": None}, "schema", "channel is missing"),
        ({"channel": 5}, "schema", "channel is 5"),
        ({"samples": None}, "waveform_shape", "samples is missing"),
        ({"samples": [1.5]}, "waveform_shape", "sample 0 is 1.5"),
        ({"samples": [10011]}, "out_of_range", "outside -50 to 50"),
        ({"rate": 0}, "waveform_shape", "rate 0"),
        ({"rate": 50}, "waveform_shape", "outside 100 to 1000 Hz"),
        ({"rate": 2000}, "waveform_shape", "outside 100 to 1000 Hz"),
        ({"rate": "fast"}, "waveform_shape", "'1000/3'"),
        ({"rate": "1/0"}, "waveform_shape", "'1000/3'"),
        ({"rate": "25e1"}, "waveform_shape", "'1000/3'"),
        ({"rate": float("nan")}, "waveform_shape", "nan"),
        ({"rate": True}, "waveform_shape", "true"),
        ({"rate": 250.0000001}, "waveform_shape", "rate is"),
        ({"rate": [250, 1]}, "waveform_shape", "a list"),
        ({"gain": None}, "waveform_shape", "gain is missing"),
        ({"gain": 0}, "waveform_shape", "gain is 0"),
        ({"gain": -200}, "waveform_shape", "gain is -200"),
        ({"gain": "200"}, "waveform_shape", "gain is '200'"),
        ({"gain": float("inf")}, "waveform_shape", "gain is inf"),
        ({"gain": float("nan")}, "waveform_shape", "gain is nan"),
        ({"offset": float("nan")}, "waveform_shape", "offset is nan"),
        ({"offset": "0"}, "waveform_shape", "offset"),
        ({"unit": "V"}, "unknown_unit", "'mV', 'uV'"),
        ({"unit": None}, "unknown_unit", "without a unit"),
        ({"start": None}, "schema", "start is missing"),
        ({"start": "2025-11-21T10:00:00Z"}, "time_unexplained", "before the earliest"),
        ({"start": at(110), "samples": [1] * 5000}, "time_unexplained", "after they arrived"),
        ({"recording": "r1"}, "schema", "go together"),
        ({"first_sample": 5}, "schema", "go together"),
        ({"recording": "r 1", "first_sample": 5}, "schema", "recording"),
        ({"recording": "auto-1", "first_sample": 5}, "schema", "auto-"),
        ({"recording": "r1", "first_sample": -1}, "schema", "first_sample is -1"),
        ({"recording": "r1", "first_sample": 1.0}, "schema", "first_sample is 1.0"),
        ({"recording": "r1", "first_sample": 2**53}, "schema", "first_sample"),
        ({"missing": [[1, 3]]}, "waveform_shape", "within the block's 3 samples"),
        ({"missing": [[-1, 1]]}, "waveform_shape", "within"),
        ({"missing": [[0, 0]]}, "waveform_shape", "within"),
        ({"missing": [5]}, "waveform_shape", "pair"),
        ({"missing": 5}, "waveform_shape", "pairs"),
        ({"flags": [5]}, "schema", "flag"),
        ({"leads": 1}, "schema", "unknown key 'leads'"),
    ],
)
def test_a_refused_block_has_its_reason(change: dict[str, Any], reason: str, says: str) -> None:
    item = {key: value for key, value in {**ecg([1, 2, 3]), **change}.items() if value is not None}
    found, detail = refusal("ecg-patch", item, leaf="waveforms")
    assert found == reason, detail
    assert says in detail


def test_missing_stretches_and_nulls_join() -> None:
    (block,) = outcome(
        "ecg-patch", ecg([1, None, 3, 4, 5, None], missing=[[2, 1], [4, 1]], flags=["lead_off"]), leaf="waveforms"
    ).waveforms
    assert block.missing == [(1, 2), (4, 2)]
    assert block.flags == ["lead_off"]


def test_an_unusual_amplitude_is_flagged_and_kept() -> None:
    (block,) = outcome("ecg-patch", ecg([1300]), leaf="waveforms").waveforms
    assert block.flags == ["unusual_amplitude"]


def test_samples_are_counted_over_the_whole_message() -> None:
    big = TypedArray(77, bytes(2 * 150_000))
    twice = outcome("ecg-patch", ecg(big, -700), ecg(big, -700, channel="ecg.I"), ecg([1]), leaf="waveforms")
    assert [block.item for block in twice.waveforms] == [0, 2]
    assert [dead.reason for dead in twice.dead] == ["too_many"]
    assert outcome("ecg-patch", ecg(pack_samples([5] * 250)), leaf="waveforms").waveforms[0].count == 250
