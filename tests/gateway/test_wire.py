"""MQTT packets: what we write paho reads, what paho writes we read, in pieces of any size."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitalgate.gateway import wire

VERSIONS = st.sampled_from([wire.V311, wire.V5])


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(value=st.integers(0, 268_435_455))
def test_a_varint_is_read_as_written(value: int) -> None:
    data = wire.varint(value)
    assert wire.read_varint(data + b"x", 0) == (value, len(data))


def test_a_varint_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="268435456"):
        wire.varint(268_435_456)
    with pytest.raises(wire.WireError):
        wire.read_varint(b"\xff\xff\xff\xff\x01", 0)


PUBLISH = st.tuples(
    st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1, max_size=40),
    st.binary(max_size=300),
    st.sampled_from([0, 1]),
    st.booleans(),
    st.integers(1, 65_535),
)


@given(version=VERSIONS, messages=st.lists(PUBLISH, max_size=8), cuts=st.lists(st.integers(0, 5000), max_size=12))
def test_a_stream_cut_anywhere_gives_the_same_packets(
    version: int, messages: list[tuple[str, bytes, int, bool, int]], cuts: list[int]
) -> None:
    stream = b""
    for topic, payload, qos, retain, mid in messages:
        stream += wire.publish(topic.encode(), payload, mid, version=version, qos=qos, retain=retain)
        stream += wire.PUBACK_HEAD + struct.pack(">H", mid) + b"\xd0\x00"
    parser = wire.Parser(version, 1000)
    packets = [packet for piece in split(stream, cuts) for packet in parser.feed(piece)]
    publishes = [packet for packet in packets if isinstance(packet, wire.Publish)]
    assert [(p.topic.decode(), p.payload, p.qos, p.retain) for p in publishes] == [m[:4] for m in messages]
    assert [p.mid for p in publishes] == [struct.pack(">H", m[4]) if m[2] else b"" for m in messages]
    others = [packet for packet in packets if isinstance(packet, wire.Control)]
    assert [c.kind for c in others] == [wire.PUBACK, wire.PINGRESP] * len(messages)
    assert [wire.read_ack(c.body)[0] for c in others[::2]] == [m[4] for m in messages]


@settings(deadline=None)
@given(
    version=VERSIONS,
    size=st.sampled_from([999, 1000, 1001, 70_000, 200_000, 500_000]),
    chunk=st.sampled_from([7_000, 65_536, 262_144]),
    qos=st.sampled_from([0, 1]),
)
def test_an_oversize_payload_is_cut_in_bounded_memory(version: int, size: int, chunk: int, qos: int) -> None:
    parser = wire.Parser(version, 1000)
    stream = wire.publish(b"t", bytes(range(256)) * (size // 256) + b"x" * (size % 256), 5, version=version, qos=qos)
    stream += wire.publish(b"after", b"payload", 6, version=version)
    found: list[wire.Packet] = []
    for at in range(0, len(stream), chunk):
        found += parser.feed(stream[at : at + chunk])
        assert sum(map(len, parser._parts)) + len(parser._rest) <= 1000 + 4 * 65_536 + 262_144
    big, after = found
    assert isinstance(big, wire.Publish)
    assert isinstance(after, wire.Publish)
    assert (big.length, len(big.payload)) == (size, size if size <= 1000 else min(size, wire.OVERSIZE_KEEP))
    assert after.payload == b"payload"


@given(data=st.binary(max_size=400), version=VERSIONS)
def test_any_bytes_are_packets_or_an_error(data: bytes, version: int) -> None:
    parser = wire.Parser(version, 1000)
    try:
        packets = parser.feed(data)
        for packet in packets:
            if isinstance(packet, wire.Control) and packet.kind == wire.CONNACK:
                wire.read_connack(packet.body, version)
            elif isinstance(packet, wire.Control) and packet.kind == wire.SUBACK:
                wire.read_suback(packet.body, version)
    except (wire.WireError, IndexError, struct.error):
        return


def test_properties_of_every_type_are_read_or_passed_over() -> None:
    properties = (
        b"\x11\x00\x00\x00\x3c" + b"\x21\x00\x14" + b"\x24\x01" + b"\x12\x00\x02id" + b"\x26\x00\x01k\x00\x01v"
        + b"\x0b\x81\x01"
    )  # fmt: skip
    body = b"\x01\x00" + bytes([len(properties)]) + properties
    answer = wire.read_connack(body, wire.V5)
    assert answer.session_present
    assert answer.properties[wire.SESSION_EXPIRY] == 60
    assert answer.properties[wire.RECEIVE_MAXIMUM] == 20
    with pytest.raises(wire.WireError, match="0x7f"):
        wire.read_connack(b"\x00\x00\x01\x7f", wire.V5)
    with pytest.raises(wire.WireError):
        wire.read_connack(b"\x00\x00\x03\x11\x00\x00", wire.V5)


def test_a_publish_with_properties_keeps_its_payload() -> None:
    properties = b"\x03\x00\x10application/json" + b"\x26\x00\x01a\x00\x01b"
    body = b"\x00\x01t\x00\x07" + bytes([len(properties)]) + properties + b"{}"
    (packet,) = wire.Parser(wire.V5, 100).feed(b"\x3b" + wire.varint(len(body)) + body)
    assert packet == wire.Publish(b"t", b"{}", 2, b"\x00\x07", 1, True, True)


def test_connect_subscribe_and_disconnect_are_as_the_standard_writes_them() -> None:
    packet = wire.connect(
        "c", "u", "p", version=wire.V5, keepalive_s=15, clean=False, session_expiry_s=60, receive_maximum=20
    )
    assert packet.hex() == "101c00044d51545405c0000f08110000003c21001400016300017500" + "0170"
    old = wire.connect("c", "", "", version=wire.V311, keepalive_s=15, clean=True)
    assert old.hex() == "100d00044d5154540402000f000163"
    assert wire.subscribe(1, ["a/+"], version=wire.V5, live=True).hex() == "82090001000003612f2b29"
    assert wire.subscribe(1, ["a"], version=wire.V311, qos=0, live=True).hex() == "82060001000161" + "00"
    assert wire.disconnect(version=wire.V5, session_expiry_s=0).hex() == "e00700051100000000"
    assert wire.disconnect(version=wire.V311) == b"\xe0\x00"
    with pytest.raises(ValueError, match="65535"):
        wire.connect("c" * 70_000, "", "", version=wire.V5, keepalive_s=1, clean=True)
