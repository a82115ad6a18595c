"""Samples of a block, in any of the forms they travel in, to int32 little-endian."""

from __future__ import annotations

import sys
from array import array
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vitalgate.devices.codec import PACKED, SAMPLE_MAX, SAMPLE_MIN, TYPED_ARRAYS
from vitalgate.devices.decode import TypedArray
from vitalgate.devices.reasons import Reason, Refused, show

_INT: Final = {int}
_INT_OR_NONE: Final = {int, type(None)}
_NUMPY: Final = {"b": "i1", "B": "u1", "h": "i2", "H": "u2", "i": "i4", "I": "u4"}
_DTYPES: Final = {
    tag: np.dtype((">" if order == "big" else "<") + _NUMPY[code]) for tag, (code, order) in TYPED_ARRAYS.items()
}
_RANGE: Final = f"[{SAMPLE_MIN}, {SAMPLE_MAX}]"
Missing = list[tuple[int, int]]


class Samples(NamedTuple):
    """Decoded samples."""

    data: bytes
    """int32 little-endian, size * 4 bytes."""
    size: int
    low: int
    high: int
    missing: Missing | None
    """(start, length) stretches that were null; there the previous sample (at the start: the next) is repeated."""


def _shape(detail: str) -> Refused:
    return Refused(Reason.WAVEFORM_SHAPE, detail)


def read(value: Any, limit: int) -> Samples:
    """The samples in a JSON or CBOR list, a typed array, or a packed byte string.

    Parameters
    ----------
    value
        What stands under `samples`.
    limit
        Most samples accepted (settings.intake.max_samples).

    Raises
    ------
    Refused
        WAVEFORM_SHAPE for another type, an empty block, a sample that is no 32-bit integer, or a broken packing;
        TOO_MANY above the limit, before anything is allocated for them.
    """
    if type(value) is list:
        return _from_list(value, limit)
    if type(value) is TypedArray:
        return _from_typed(value, limit)
    if type(value) is bytes:
        return _from_packed(value, limit)
    raise _shape(f"samples is {type(value).__name__}; send a list of integers, a typed array or a packed byte string")


def _too_many(count: int, limit: int) -> Refused:
    return Refused(Reason.TOO_MANY, f"{count} samples in one message, the limit is {limit}; send smaller blocks")


def _from_list(values: list[Any], limit: int) -> Samples:
    count = len(values)
    if count > limit:
        raise _too_many(count, limit)
    if not count:
        raise _shape("samples is empty; leave the block out")
    kinds = set(map(type, values))
    missing: Missing | None = None
    if kinds != _INT:
        if not kinds <= _INT_OR_NONE or int not in kinds:
            raise _bad_element(values)
        values, missing = _filled(values)
    try:
        numbers = array("i", values)
    except OverflowError:
        raise _shape(f"a sample is outside {_RANGE}; the widest type is 32 bits") from None
    low, high = min(values), max(values)
    if sys.byteorder != "little":
        numbers.byteswap()
    return Samples(numbers.tobytes(), count, low, high, missing)


def _bad_element(values: list[Any]) -> Refused:
    for place, value in enumerate(values):
        if type(value) is not int and value is not None:
            return _shape(
                f"sample {place} is {show(value)}; samples are integers (raw units, see gain), or null where "
                "nothing was measured"
            )
    return _shape("every sample is null; leave the block out")


def _filled(values: list[Any]) -> tuple[list[int], Missing]:
    """Nulls replaced by the sample before (at the start: the one after), and where they were."""
    missing: Missing = []
    start = -1
    for place, value in enumerate(values):
        if value is None:
            if start < 0:
                start = place
        elif start >= 0:
            missing.append((start, place - start))
            start = -1
    if start >= 0:
        missing.append((start, len(values) - start))
    held = next(value for value in values if value is not None)
    out: list[int] = []
    for value in values:
        held = held if value is None else value
        out.append(held)
    return out, missing


def _from_typed(value: TypedArray, limit: int) -> Samples:
    dtype = _DTYPES.get(value.tag)
    if dtype is None:
        what = "floats" if value.tag >= 80 else "integers wider than 32 bits"
        raise _shape(f"tag {value.tag} is an array of {what}; send integers of at most 32 bits, with a gain")
    if type(value.data) is not bytes:
        raise _shape(f"tag {value.tag} must hold a byte string, not {type(value.data).__name__}")
    count, rest = divmod(len(value.data), dtype.itemsize)
    if rest:
        raise _shape(
            f"tag {value.tag} holds {len(value.data)} bytes, no multiple of {dtype.itemsize}: it was cut short"
        )
    if count > limit:
        raise _too_many(count, limit)
    return _from_numbers(np.frombuffer(value.data, dtype))


def _from_numbers(numbers: npt.NDArray[Any]) -> Samples:
    if not numbers.size:
        raise _shape("samples is empty; leave the block out")
    low, high = int(numbers.min()), int(numbers.max())
    if low < SAMPLE_MIN or high > SAMPLE_MAX:
        raise _shape(f"a sample is outside {_RANGE}; the widest type is 32 bits")
    return Samples(numbers.astype("<i4").tobytes(), int(numbers.size), low, high, None)


def _from_packed(data: bytes, limit: int) -> Samples:
    if not data or data[0] != PACKED:
        found = f"0x{data[0]:02x}" if data else "nothing"
        raise _shape(f"a packed byte string begins with 0x{PACKED:02x}, here with {found}")
    octets = np.frombuffer(data, np.uint8, offset=1)
    ends = np.flatnonzero(octets < 0x80)
    count = ends.size
    if not count or ends[-1] != octets.size - 1:
        raise _shape("the packed samples are empty or their last difference is cut short")
    if count > limit:
        raise _too_many(count, limit)
    if count == octets.size:
        zigzag = octets.astype(np.int64)
    else:
        starts = np.empty(count, np.int64)
        starts[0] = 0
        starts[1:] = ends[:-1] + 1
        lengths = ends - starts + 1
        longest = int(lengths.max())
        if longest > 5:
            raise _shape(f"difference {int(lengths.argmax())} is longer than five bytes")
        zigzag = np.zeros(count, np.int64)
        low_bits = (octets & 0x7F).astype(np.int64)
        for place in range(longest):
            has = np.flatnonzero(lengths > place)
            zigzag[has] |= low_bits[starts[has] + place] << (7 * place)
    # At most 2^35 a difference and 2^28 samples: the sum stays within 63 bits.
    return _from_numbers(np.cumsum((zigzag >> 1) ^ -(zigzag & 1)))
