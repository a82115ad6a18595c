"""The wire forms as a device writes them: JSON, CBOR, typed arrays and packed samples.

For device makers: needs only the standard library and cbor2. The server reads the same forms with `decode.py`;
docs/mqtt.md describes them byte by byte.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import cbor2

#: RFC 8746 tags of the sample types accepted: tag -> (array type code, byte order). Floats are not samples.
TYPED_ARRAYS: Final[Mapping[int, tuple[str, str]]] = {
    64: ("B", "little"),
    65: ("H", "big"),
    66: ("I", "big"),
    68: ("B", "little"),
    69: ("H", "little"),
    70: ("I", "little"),
    72: ("b", "little"),
    73: ("h", "big"),
    74: ("i", "big"),
    77: ("h", "little"),
    78: ("i", "little"),
}
SAMPLE_MIN: Final = -(2**31)
SAMPLE_MAX: Final = 2**31 - 1
PACKED: Final = 0x01
"""First byte of a packed byte string: zigzag varint differences."""
_DELTA_MAX: Final = 2**32 - 1


class CodecError(ValueError):
    """The content cannot be written or read in this form; the text says why."""


def _plain(value: object) -> object:
    if isinstance(value, (bytes, bytearray)):
        return unpack_samples(bytes(value))
    if isinstance(value, array):
        return value.tolist()
    raise CodecError(f"{type(value).__name__} cannot be written as JSON")


def encode_json(document: Mapping[str, Any]) -> bytes:
    """One message as compact UTF-8 JSON; packed samples and arrays become plain lists.

    Raises
    ------
    CodecError
        For NaN or infinity, or a value of a type that JSON has not.
    """
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()
    except ValueError as error:
        raise CodecError(str(error)) from error


def encode_cbor(document: Mapping[str, Any]) -> bytes:
    """One message as CBOR. `samples` given as a list becomes the smaller of typed array and packed string.

    Raises
    ------
    CodecError
        For a value of a type that the wire form has not, or a sample beyond 32 bits.
    """
    waveforms = document.get("waveforms")
    if isinstance(waveforms, Sequence):
        document = {**document, "waveforms": [_compact(block) for block in waveforms]}
    try:
        return cbor2.dumps(document)
    except (cbor2.CBOREncodeError, OverflowError) as error:
        raise CodecError(str(error)) from error


def _compact(block: Any) -> Any:
    if not isinstance(block, Mapping):
        return block
    samples = block.get("samples")
    if isinstance(samples, array):
        samples = samples.tolist()
    if not isinstance(samples, list) or None in samples:
        return block
    packed = pack_samples(samples)
    typed = typed_array(samples)
    return {**block, "samples": packed if len(packed) < len(typed.value) else typed}


def typed_array(samples: Iterable[int]) -> cbor2.CBORTag:
    """The samples as an RFC 8746 typed array: sint16 little-endian (tag 77), else sint32 little-endian (tag 78).

    Raises
    ------
    CodecError
        When a sample is not an integer of at most 32 bits.
    """
    values = list(samples)
    for tag in (77, 78):
        try:
            data = array(TYPED_ARRAYS[tag][0], values)
        except OverflowError:
            continue
        except TypeError as error:
            raise CodecError(f"samples must be integers: {error}") from error
        if sys.byteorder != "little":
            data.byteswap()
        return cbor2.CBORTag(tag, data.tobytes())
    raise CodecError(f"a sample is outside the 32-bit range [{SAMPLE_MIN}, {SAMPLE_MAX}]")


def pack_samples(samples: Iterable[int]) -> bytes:
    """The samples as a packed byte string, about one byte each for an ECG.

    Byte 0 is 0x01. Then, for every sample, its difference from the one before (the first from 0) as a zigzag
    varint: z = 2*d for d >= 0, else -2*d - 1; seven bits a byte, lowest first, the top bit set on all bytes but the
    last of a number; one to five bytes.

    Raises
    ------
    CodecError
        When a sample is not an integer of at most 32 bits.

    Examples
    --------
    >>> pack_samples([0, 3, 1, 200]).hex()
    '010006038e03'
    """
    out = bytearray((PACKED,))
    before = 0
    for sample in samples:
        if type(sample) is not int or not SAMPLE_MIN <= sample <= SAMPLE_MAX:
            raise CodecError(f"sample {sample!r} is not an integer within [{SAMPLE_MIN}, {SAMPLE_MAX}]")
        delta = sample - before
        before = sample
        number = 2 * delta if delta >= 0 else -2 * delta - 1
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)
    return bytes(out)


def unpack_samples(data: bytes, limit: int | None = None) -> list[int]:
    """The samples of a packed byte string; the inverse of `pack_samples`.

    Parameters
    ----------
    data
        The byte string. It holds at most one sample a byte, so its length bounds what is allocated.
    limit
        Most samples accepted.

    Raises
    ------
    CodecError
        When the form is unknown, a number is cut short or too long, a sample exceeds 32 bits, or there are more than
        `limit` samples.
    """
    if not data or data[0] != PACKED:
        found = f"0x{data[0]:02x}" if data else "nothing"
        raise CodecError(f"packed samples begin with 0x{PACKED:02x}, here with {found}")
    out: list[int] = []
    value = number = shift = 0
    for byte in data[1:]:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift > 28:
                raise CodecError(f"difference {len(out)} is longer than five bytes")
            continue
        if number > _DELTA_MAX * 2:
            raise CodecError(f"difference {len(out)} is beyond 32 bits")
        value += (number >> 1) ^ -(number & 1)
        if not SAMPLE_MIN <= value <= SAMPLE_MAX:
            raise CodecError(f"sample {len(out)} is {value}, outside [{SAMPLE_MIN}, {SAMPLE_MAX}]")
        if limit is not None and len(out) >= limit:
            raise CodecError(f"more than {limit} samples")
        out.append(value)
        number = shift = 0
    if shift:
        raise CodecError("the last difference is cut short")
    return out
