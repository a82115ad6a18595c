"""JSON, CBOR, typed arrays and packed samples: the same content in every form, and no bytes that break the decoder."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from array import array
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.devices import samples
from vitalgate.devices.codec import (
    TYPED_ARRAYS,
    CodecError,
    encode_cbor,
    encode_json,
    pack_samples,
    typed_array,
    unpack_samples,
)
from vitalgate.devices.decode import MAX_DEPTH, TypedArray, decode
from vitalgate.devices.reasons import Reason, Refused

INT32 = st.integers(-(2**31), 2**31 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20
)
DOCUMENT = st.dictionaries(TEXT, VALUE, max_size=5)


def outcome_of(payload: bytes) -> dict[str, Any] | Refused:
    try:
        return decode(payload)
    except Refused as refused:
        return refused


def refusal(payload: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        decode(payload)
    return caught.value


@given(DOCUMENT)
def test_json_and_cbor_say_the_same(document: dict[str, Any]) -> None:
    assert decode(encode_json(document)) == document
    assert decode(encode_cbor(document)) == document
    assert decode(b"\xd9\xd9\xf7" + encode_cbor(document)) == document
    assert decode(json.dumps(document, indent=1).encode()) == document
    assert decode(b"\xef\xbb\xbf" + encode_json(document)) == document


@given(DOCUMENT, st.binary(min_size=1, max_size=20))
def test_nothing_may_follow_the_document(document: dict[str, Any], more: bytes) -> None:
    assert refusal(encode_cbor(document) + more).reason in (Reason.UNDECODABLE, Reason.SCHEMA)
    if more.strip(b" \t\r\n"):
        assert refusal(encode_json(document) + more).reason is Reason.UNDECODABLE


@given(DOCUMENT, st.data())
def test_a_part_of_a_message_is_no_message(document: dict[str, Any], data: st.DataObject) -> None:
    for payload in (encode_json(document), encode_cbor(document)):
        cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
        assert refusal(cut).reason in (Reason.UNDECODABLE, Reason.SCHEMA)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_refused(payload: bytes) -> None:
    assert isinstance(outcome_of(payload), (dict, Refused))


@given(st.binary(max_size=300), st.integers(0xA0, 0xBF))
def test_any_cbor_is_a_document_or_refused(payload: bytes, first: int) -> None:
    assert isinstance(outcome_of(bytes([first]) + payload), (dict, Refused))


@pytest.mark.parametrize(
    ("payload", "reason", "says"),
    [
        (b"", "undecodable", "empty"),
        (b"\x00\x01", "undecodable", "0x00"),
        (b"[1]", "schema", "is a list"),
        (b'"text"', "schema", "is a text"),
        (b"null", "schema", "is a null"),
        (b'{"a":1,"a":2}', "undecodable", "'a' stands twice"),
        (b'{"a" : 1 , "a" : 2}', "undecodable", "'a' stands twice"),
        (b'{"r":[{"value":1,"value":2}]}', "undecodable", "'value' stands twice"),
        (b'{"a":"\\":","b":1,"b":2}', "undecodable", "'b' stands twice"),
        (b'{"samples":[{"a":1,"a":2}]}', "undecodable", "'a' stands twice"),
        (b'{"a":1', "undecodable", "JSON"),
        (b'{"a":"\xff"}', "undecodable", "UTF-8"),
        (b'{"a":"\\ud800"}', "undecodable", "surrogate"),
        (b'{"a":"\\ud800","b":NaN}', "undecodable", "surrogate"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "undecodable", "deep"),
        (b'{"a":' + b"[" * 100_000, "undecodable", "depth"),
        (b'{"a":NaN,"b":' + b"[" * 100_000, "undecodable", "JSON"),
        (b"\xff\xfe{\x00", "undecodable", "0xff"),
        (cbor2.dumps({"a": 1}) + b"\x00", "undecodable", "follow"),
        (cbor2.dumps({"a": 1}) + b"\xd8\x40", "undecodable", "follow"),
        (bytes.fromhex("a2616101616102"), "undecodable", "Duplicate"),
        (bytes.fromhex("a10102"), "undecodable", "text string"),
        (bytes.fromhex("a1416101"), "undecodable", "byte string"),
        (bytes.fromhex("a161619bffffffffffffffff"), "undecodable", "cut short"),
        (bytes.fromhex("a161615bffffffffffffffff"), "undecodable", "cut short"),
        (bytes.fromhex("bbffffffffffffffff"), "undecodable", "cut short"),
        (bytes.fromhex("a16161f7"), "undecodable", "Undefined"),
        (b"\xa1\x61a" + b"\x81" * 100_000, "undecodable", "depth"),
        (cbor2.dumps({"a": 2**70}), "undecodable", "tag 2"),
        (cbor2.dumps({"a": cbor2.CBORTag(28, [cbor2.CBORTag(29, 0)])}), "undecodable", "tag 2"),
        (cbor2.dumps({"a": cbor2.CBORTag(999, 1)}), "undecodable", "tag 999"),
        (cbor2.dumps({"a": cbor2.CBORTag(55799, {})}), "undecodable", "tag 55799"),
        (cbor2.dumps({"a": cbor2.CBORTag(1, "x")}), "schema", "tag 1"),
        (cbor2.dumps({"a": cbor2.CBORTag(1, 1e300)}), "schema", "tag 1"),
        (cbor2.dumps({"a": cbor2.CBORTag(0, 1)}), "schema", "tag 0"),
    ],
)
def test_bad_bytes_have_their_reason(payload: bytes, reason: str, says: str) -> None:
    refused = refusal(payload)
    assert refused.reason == reason
    assert says in refused.detail


def test_nan_and_infinity_of_json_are_left_for_the_validator() -> None:
    document = decode(b'{"a":NaN,"b":-Infinity,"c":1e400,"d":123456789012345678901234567890}')
    assert str(document["a"]) == "nan"
    assert document["b"] == float("-inf")
    assert document["c"] == float("inf")
    assert document["d"] == 123456789012345678901234567890.0


def test_cbor_times_are_texts() -> None:
    tagged = {
        "a": cbor2.CBORTag(0, "2026-11-21T10:00:00Z"),
        "b": cbor2.CBORTag(1, 1795255200),
        "c": cbor2.CBORTag(1, 0.25),
    }
    assert decode(cbor2.dumps(tagged)) == {
        "a": "2026-11-21T10:00:00Z", "b": "2026-11-21T10:00:00+00:00", "c": "1970-01-01T00:00:00.250000+00:00",
    }  # fmt: skip


# --- samples --------------------------------------------------------------------------------------------------------


@given(st.lists(INT32, max_size=200))
def test_packed_samples_come_back(values: list[int]) -> None:
    packed = pack_samples(values)
    assert unpack_samples(packed) == values
    assert len(packed) <= 1 + 5 * len(values)
    if values:
        assert samples.read(packed, 200) == samples.read(values, 200)


@given(st.lists(INT32, min_size=1, max_size=100))
def test_every_form_of_the_same_samples_is_the_same(values: list[int]) -> None:
    expected = samples.read(values, 100)
    assert expected.data == struct.pack(f"<{len(values)}i", *values)
    assert (expected.low, expected.high) == (min(values), max(values))
    typed = typed_array(values)
    assert samples.read(TypedArray(typed.tag, typed.value), 100) == expected
    decoded = decode(encode_cbor({"waveforms": [{"samples": values}]}))["waveforms"][0]["samples"]
    assert samples.read(decoded, 100) == expected
    assert decode(encode_json({"samples": pack_samples(values)})) == {"samples": values}


@pytest.mark.parametrize("tag", sorted(TYPED_ARRAYS))
def test_typed_arrays_of_every_integer_type(tag: int) -> None:
    code, order = TYPED_ARRAYS[tag]
    values = [0, 1, 127, 3] if code.isupper() else [0, -1, 127, -128]
    data = struct.pack((">" if order == "big" else "<") + str(len(values)) + code, *values)
    assert samples.read(TypedArray(tag, data), 10) == samples.read(values, 10)


@given(st.binary(max_size=100))
def test_both_unpackers_agree_on_any_bytes(data: bytes) -> None:
    try:
        slow: list[int] | None = unpack_samples(data)
    except CodecError:
        slow = None
    if slow:
        assert samples.read(data, 1000).data == array("i", slow).tobytes()
    else:
        with pytest.raises(Refused) as caught:
            samples.read(data, 1000)
        assert caught.value.reason is Reason.WAVEFORM_SHAPE


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "empty"),
        ([1, 2.0], "sample 1 is 2.0"),
        ([1, "2"], "sample 1 is '2'"),
        ([True], "sample 0 is true"),
        ([1, [2]], "sample 1 is a list"),
        ([None, None], "every sample is null"),
        ([2**31], "outside"),
        ("1,2,3", "samples is str"),
        (None, "samples is NoneType"),
        (TypedArray(85, b"\0\0\0\0"), "array of floats"),
        (TypedArray(79, b"\0" * 8), "wider than 32 bits"),
        (TypedArray(77, b"\0\0\0"), "cut short"),
        (TypedArray(77, "text"), "byte string"),
        (TypedArray(77, b""), "empty"),
        (TypedArray(66, b"\xff\xff\xff\xff"), "outside"),
        (b"", "begins with 0x01"),
        (b"\x02\x00", "begins with 0x01"),
        (b"\x01", "empty"),
        (b"\x01\x80", "cut short"),
        (b"\x01" + b"\x80" * 5 + b"\x00", "longer than five bytes"),
        (b"\x01\xff\xff\xff\xff\x7f", "outside"),
    ],
)
def test_what_cannot_be_samples_says_why(value: Any, says: str) -> None:
    with pytest.raises(Refused) as caught:
        samples.read(value, 1000)
    assert caught.value.reason is Reason.WAVEFORM_SHAPE
    assert says in caught.value.detail


@pytest.mark.parametrize("value", [[0] * 11, TypedArray(72, bytes(11)), b"\x01" + bytes(11)])
def test_too_many_samples_are_refused(value: Any) -> None:
    with pytest.raises(Refused, match="the limit is 10") as caught:
        samples.read(value, 10)
    assert caught.value.reason is Reason.TOO_MANY
    assert samples.read(value, 11).size == 11


def test_nulls_hold_the_sample_before_and_are_told() -> None:
    assert samples.read([None, 7, None, None, 9, None], 10)[0:] == (
        struct.pack("<6i", 7, 7, 7, 7, 9, 9), 6, 7, 9, [(0, 1), (2, 2), (5, 1)],
    )  # fmt: skip


def test_an_ecg_packs_into_about_a_byte_a_sample() -> None:
    wave = [round(200 * (i % 50 == 0) + 20 * ((i * 7) % 5)) for i in range(1000)]
    assert len(pack_samples(wave)) < 1.25 * len(wave)


def test_encoders_refuse_what_the_wire_has_not() -> None:
    for wrong in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises(CodecError):
            encode_json(wrong)
    with pytest.raises(CodecError):
        encode_cbor({"a": object()})
    for values in ([2**31], [1.5], [True], ["1"]):
        with pytest.raises(CodecError):
            pack_samples(values)  # type: ignore[arg-type]
    for values in ([2**31], [1.5]):
        with pytest.raises(CodecError):
            typed_array(values)  # type: ignore[arg-type]
    assert decode(encode_json({"samples": array("h", [1, 2])})) == {"samples": [1, 2]}
    assert decode(encode_cbor({"waveforms": [1, {"samples": [1, None]}]})) == {"waveforms": [1, {"samples": [1, None]}]}
    with pytest.raises(CodecError, match="more than 1"):
        unpack_samples(pack_samples([1, 2]), 1)


def test_nesting_up_to_the_limit_is_taken() -> None:
    inner: Any = 1
    for _ in range(MAX_DEPTH - 1):
        inner = [inner]
    assert decode(encode_json({"a": inner})) == decode(encode_cbor({"a": inner})) == {"a": inner}


def test_a_device_needs_neither_numpy_nor_the_servers_packages() -> None:
    code = (
        "import sys\n"
        "for name in ('numpy', 'orjson', 'msgspec', 'scipy', 'psycopg', 'faust'): sys.modules[name] = None\n"
        "import vitalgate.devices.codec, vitalgate.devices.catalogue, vitalgate.devices.reasons\n"
        "import vitalgate.devices.units, vitalgate.devices.times\n"
        "print(len(vitalgate.devices.catalogue.load().kinds))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip().isdigit(), done.stderr
