"""MQTT 3.1.1 and 5 packets as bytes: what the gateway and the notifier speak, and nothing more. Pure.

Why not a client library here: paho reads a packet with three system calls and acknowledges each with two more, about
50 µs a message; cutting whole buffers into packets and acknowledging in one write takes about 5 µs (see
``docs/decisions/0008-gateway-speaks-mqtt-itself.md``). It also lets a payload of any announced size be taken in
bounded memory.

Layout and numbers: OASIS MQTT Version 5.0 (2019) and Version 3.1.1 (2014), section 2 and 3 of both.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 11, 13, 14
V311, V5 = 4, 5
PINGREQ = b"\xc0\x00"
PUBACK_HEAD = b"\x40\x02"
#: An oversize payload is kept up to here.
OVERSIZE_KEEP = 65_536

_TWO = struct.Struct(">H")
_FOUR = struct.Struct(">I")

# Property number -> its type: 1, 2, 4 bytes, "v" varint, "s" string or bytes, "p" pair of strings (MQTT 5, 2.2.2.2).
_PROPERTIES: dict[int, int | str] = {
    0x01: 1, 0x02: 4, 0x03: "s", 0x08: "s", 0x09: "s", 0x0B: "v", 0x11: 4, 0x12: "s", 0x13: 2, 0x15: "s", 0x16: "s",
    0x17: 1, 0x18: 4, 0x19: 1, 0x1A: "s", 0x1C: "s", 0x1F: "s", 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x26: "p",
    0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
SESSION_EXPIRY, RECEIVE_MAXIMUM, SERVER_KEEP_ALIVE, REASON_STRING = 0x11, 0x21, 0x13, 0x1F


class WireError(Exception):
    """The other side sent bytes that are not MQTT; the connection cannot be used any more."""


class Publish(NamedTuple):
    """One PUBLISH that arrived."""

    topic: bytes
    payload: bytes
    length: int
    """Length of the payload as sent; larger than ``len(payload)`` when it was cut."""
    mid: bytes
    """Packet identifier, the two bytes as they came; empty at QoS 0."""
    qos: int
    retain: bool
    dup: bool


class Control(NamedTuple):
    """Any other packet."""

    kind: int
    flags: int
    body: bytes


Packet = Publish | Control


class Connack(NamedTuple):
    """The broker's answer to CONNECT."""

    session_present: bool
    code: int
    """0 accepted, else the reason (MQTT 5) or return code (3.1.1)."""
    properties: dict[int, int | bytes]


def varint(value: int) -> bytes:
    """A variable byte integer, 1 to 4 bytes."""
    if not 0 <= value < 268_435_456:
        raise ValueError(f"{value} does not fit MQTT's variable byte integer (0 to 268435455)")
    out = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        out.append(digit | 0x80 if value else digit)
        if not value:
            return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, index after it). Raises WireError when it is malformed or runs out of bytes."""
    value = shift = 0
    for index in range(at, min(at + 4, len(data))):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise WireError("malformed variable byte integer")


def _text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) > 65_535:
        raise ValueError(f"a string of {len(raw)} bytes does not fit MQTT (limit 65535)")
    return _TWO.pack(len(raw)) + raw


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + varint(len(body)) + body


def connect(
    client_id: str,
    username: str,
    password: str,
    *,
    version: int,
    keepalive_s: int,
    clean: bool,
    session_expiry_s: int = 0,
    receive_maximum: int = 65_535,
) -> bytes:
    """A CONNECT packet. In 3.1.1 the last two have no counterpart: a session that is not clean never expires there."""
    flags = (0x02 if clean else 0) | (0x80 if username else 0) | (0x40 if password else 0)
    body = _text("MQTT") + bytes([version, flags]) + _TWO.pack(keepalive_s)
    if version == V5:
        properties = bytes([SESSION_EXPIRY]) + _FOUR.pack(session_expiry_s)
        properties += bytes([RECEIVE_MAXIMUM]) + _TWO.pack(receive_maximum)
        body += varint(len(properties)) + properties
    body += _text(client_id)
    if username:
        body += _text(username)
    if password:
        body += _text(password)
    return _packet(0x10, body)


def subscribe(
    mid: int, filters: list[str], *, version: int, qos: int = 1, live: bool = False, no_local: bool = False
) -> bytes:
    """A SUBSCRIBE packet.

    Two wishes that only MQTT 5 knows: `live` keeps the retain flag as published and wants no retained messages from
    before (Mosquitto 2.0 sends them to shared subscriptions too, against the standard); `no_local` spares us our own
    messages, which a shared subscription may not ask for.
    """
    option = qos
    if version == V5:
        option |= (0x28 if live else 0) | (0x04 if no_local else 0)
    body = _TWO.pack(mid) + (b"\x00" if version == V5 else b"")
    for name in filters:
        body += _text(name) + bytes([option])
    return _packet(0x82, body)


def unsubscribe(mid: int, filters: list[str], *, version: int) -> bytes:
    """An UNSUBSCRIBE packet."""
    body = _TWO.pack(mid) + (b"\x00" if version == V5 else b"")
    return _packet(0xA2, body + b"".join(_text(name) for name in filters))


def publish(topic: bytes, payload: bytes, mid: int, *, version: int, qos: int = 1, retain: bool = False) -> bytes:
    """A PUBLISH packet; `mid` is ignored at QoS 0."""
    body = _TWO.pack(len(topic)) + topic
    if qos:
        body += _TWO.pack(mid)
    if version == V5:
        body += b"\x00"
    return _packet(0x30 | qos << 1 | retain, body + payload)


def disconnect(*, version: int, session_expiry_s: int | None = None) -> bytes:
    """A DISCONNECT; in MQTT 5 it may change how long the session lives on."""
    if version != V5 or session_expiry_s is None:
        return b"\xe0\x00"
    properties = bytes([SESSION_EXPIRY]) + _FOUR.pack(session_expiry_s)
    return _packet(0xE0, b"\x00" + varint(len(properties)) + properties)


def read_properties(body: bytes, at: int) -> tuple[dict[int, int | bytes], int]:
    """(properties, index after them); pairs and repeated ones keep the last. Raises WireError."""
    length, at = read_varint(body, at)
    end = at + length
    if end > len(body):
        raise WireError(f"properties of {length} bytes run past the packet")
    found: dict[int, int | bytes] = {}
    try:
        while at < end:
            number = body[at]
            kind = _PROPERTIES.get(number)
            at += 1
            if kind is None:
                raise WireError(f"unknown MQTT property 0x{number:02x}")
            if isinstance(kind, int):
                found[number] = int.from_bytes(body[at : at + kind], "big")
                at += kind
            elif kind == "v":
                found[number], at = read_varint(body, at)
            else:
                for _ in range(2 if kind == "p" else 1):
                    size = _TWO.unpack_from(body, at)[0]
                    found[number] = body[at + 2 : at + 2 + size]
                    at += 2 + size
    except struct.error as error:
        raise WireError("properties cut short") from error
    if at != end:
        raise WireError("properties run past their length")
    return found, end


def read_connack(body: bytes, version: int) -> Connack:
    """Raises WireError when it is too short."""
    if len(body) < 2:
        raise WireError("CONNACK cut short")
    properties: dict[int, int | bytes] = {}
    if version == V5 and len(body) > 2:
        properties, _ = read_properties(body, 2)
    return Connack(bool(body[0] & 1), body[1], properties)


def read_ack(body: bytes) -> tuple[int, int]:
    """(packet identifier, reason code) of a PUBACK; the code is 0 where it is left out."""
    if len(body) < 2:
        raise WireError("acknowledgement cut short")
    return _TWO.unpack_from(body)[0], body[2] if len(body) > 2 else 0


def read_suback(body: bytes, version: int) -> tuple[int, list[int]]:
    """(packet identifier, a code per filter); 0x80 and above is a refusal."""
    if len(body) < 3:
        raise WireError("SUBACK cut short")
    at = read_properties(body, 2)[1] if version == V5 else 2
    return _TWO.unpack_from(body)[0], list(body[at:])


class Parser:
    """Cuts a stream of bytes into packets.

    A PUBLISH with more than `limit` payload bytes comes out with its first `OVERSIZE_KEEP` bytes and its true
    length, and never more than that is held of it.
    """

    def __init__(self, version: int, limit: int) -> None:
        self._v5 = version == V5
        self._limit = limit
        # Beyond this a packet can only be an oversize PUBLISH (topic and properties are at most 64 KiB each here).
        self._whole = limit + 2 * 65_536 + 16
        self._rest = b""
        self._parts: list[bytes] = []
        self._missing = 0  # bytes still to come of the packet in `_parts`
        self._skip = 0  # bytes of an oversize packet to throw away

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are complete now. Raises WireError for bytes that are not MQTT."""
        if self._missing:
            if len(data) < self._missing:
                self._parts.append(data)
                self._missing -= len(data)
                return []
            self._parts.append(data)
            data = b"".join(self._parts)
            self._parts, self._missing = [], 0
        elif self._rest:
            data = self._rest + data
        self._rest = b""
        out: list[Packet] = []
        at = 0
        end = len(data)
        while at < end:
            if self._skip:
                taken = min(self._skip, end - at)
                self._skip -= taken
                at += taken
                continue
            head = data[at]
            # Remaining length, with the one- and two-byte forms first.
            if end - at < 2:
                break
            length = data[at + 1]
            start = at + 2
            if length >= 0x80:
                if end - at < 3:
                    break
                second = data[at + 2]
                start = at + 3
                length = (length & 0x7F) | (second & 0x7F) << 7
                if second >= 0x80:
                    try:
                        length, start = read_varint(data, at + 1)
                    except WireError:
                        if end - at < 5:
                            break
                        raise
            stop = start + length
            if stop > end:
                if length > self._whole and head & 0xF0 == 0x30:
                    if end - start < OVERSIZE_KEEP + 2 * 65_536 + 16:
                        break
                    self._skip = stop - end
                    out.append(self._publish(head, data[start:end], length))
                    return out
                if length > self._whole:
                    raise WireError(f"a control packet of {length} bytes")
                self._parts = [data[at:]]
                self._missing = stop - end
                return out
            if head & 0xF0 == 0x30:
                # The common case, inline: QoS 1, MQTT 5 without properties or 3.1.1.
                topic_end = start + 2 + (data[start] << 8 | data[start + 1]) if length >= 2 else stop + 1
                if head & 0x06 == 2 and topic_end + 3 <= stop and (not self._v5 or data[topic_end + 2] == 0):
                    body = topic_end + 3 if self._v5 else topic_end + 2
                    size = stop - body
                    if size <= self._limit:
                        out.append(
                            Publish(
                                data[start + 2 : topic_end], data[body:stop], size, data[topic_end : topic_end + 2],
                                1, head & 1 == 1, head & 8 == 8,
                            )
                        )  # fmt: skip
                        at = stop
                        continue
                out.append(self._publish(head, data[start:stop], length))
            else:
                out.append(Control(head >> 4, head & 15, data[start:stop]))
            at = stop
        if at < end:
            self._rest = data[at:]
        return out

    def _publish(self, head: int, body: bytes, length: int) -> Publish:
        qos = head >> 1 & 3
        if len(body) < 2:
            raise WireError("PUBLISH cut short")
        at = 2 + _TWO.unpack_from(body)[0]
        topic, mid = body[2:at], b""
        if qos:
            mid = body[at : at + 2]
            at += 2
        if self._v5:
            _, at = read_properties(body, at)
        if at > len(body) or qos == 3:
            raise WireError(f"PUBLISH of {length} bytes with QoS {qos} is malformed")
        size = length - at
        payload = body[at:] if size <= self._limit else body[at : at + OVERSIZE_KEEP]
        return Publish(topic, payload, size, mid, qos, bool(head & 1), bool(head & 8))
