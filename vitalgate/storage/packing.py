"""Samples at rest: integers, lossless, as a byte string with a codec number.

Codec 0 is int32 little-endian as it is. Codec 1 is the first difference with the low and high bytes of the zigzag
values apart, deflated: neighbouring ECG samples differ by little, so that nearly all high bytes are zero.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int32]

RAW = 0
DELTA = 1


def _deflate(planes: bytes, at_rest: bool) -> bytes:
    if not at_rest:
        return zlib.compress(planes, 1)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_FILTERED)
    return squeeze.compress(planes) + squeeze.flush()


def pack(samples: bytes | Samples, *, at_rest: bool = False) -> tuple[int, bytes]:
    """(codec, bytes) of int32 samples.

    Parameters
    ----------
    samples
        int32, as an array or as its little-endian bytes.
    at_rest
        Spend more time for fewer bytes.
    """
    values = np.frombuffer(samples, dtype="<i4") if isinstance(samples, bytes) else samples
    if not len(values):
        return RAW, b""
    delta = np.empty(len(values), dtype=np.int64)
    delta[0] = values[0]
    np.subtract(values[1:], values[:-1], out=delta[1:], dtype=np.int64)
    zigzag = (delta << 1) ^ (delta >> 63)
    width = 8 if zigzag.max() > 0xFFFFFFFF else 4 if zigzag.max() > 0xFFFF else 2
    planes = zigzag.astype(f"<u{width}").view(np.uint8).reshape(-1, width).T
    body = _deflate(np.ascontiguousarray(planes).tobytes(), at_rest)
    if len(body) + 1 >= 4 * len(values):
        return RAW, values.astype("<i4").tobytes()
    return DELTA, bytes((width,)) + body


def unpack(codec: int, packed: bytes, count: int) -> Samples:
    """The int32 samples again.

    Raises
    ------
    ValueError
        For an unknown codec or bytes that do not give `count` samples.
    """
    if codec == RAW:
        values = np.frombuffer(packed, dtype="<i4").astype(np.int32)
    elif codec == DELTA:
        width = packed[0]
        planes = np.frombuffer(zlib.decompress(packed[1:]), dtype=np.uint8).reshape(width, -1)
        zigzag = np.ascontiguousarray(planes.T).view(f"<u{width}").reshape(-1).astype(np.uint64)
        delta = (zigzag >> np.uint64(1)).astype(np.int64) ^ -(zigzag & np.uint64(1)).astype(np.int64)
        values = np.cumsum(delta).astype(np.int32)
    else:
        raise ValueError(f"codec {codec} of a waveform block is unknown; a newer version wrote it")
    if len(values) != count:
        raise ValueError(f"a waveform block of {count} samples unpacks to {len(values)}")
    return values


def array(samples: bytes) -> Samples:
    """The int32 array of little-endian bytes, without a copy."""
    return np.frombuffer(samples, dtype="<i4").astype(np.int32, copy=False)
