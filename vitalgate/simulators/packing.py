"""Delta packing of a whole block at once: the bytes of ``devices.codec.pack_samples``, by NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.devices.codec import PACKED


def pack_array(samples: NDArray[np.int32]) -> bytes:
    """Packed byte string of the samples; equal byte for byte to ``pack_samples(samples.tolist())``."""
    if not len(samples):
        return bytes((PACKED,))
    delta = np.diff(samples.astype(np.int64), prepend=0)
    number = np.where(delta >= 0, 2 * delta, -2 * delta - 1)
    width = max(1, -(-int(number.max()).bit_length() // 7))
    out = np.empty((len(number), width), np.uint8)
    for place in range(width):
        out[:, place] = (number >> (7 * place)) & 0x7F
    if width == 1:
        return bytes((PACKED,)) + bytes(out)
    # How many groups of seven bits each number needs: one, and one more for every limit that it reaches.
    need = np.ones(len(number), np.int64)
    for place in range(1, width):
        more = number >= 1 << (7 * place)
        need += more
        out[more, place - 1] |= 0x80
    return bytes((PACKED,)) + bytes(out[np.arange(width) < need[:, None]])


def ready(document: dict[str, Any], wire: str) -> dict[str, Any]:
    """The document with its arrays of samples in the form that the wire wants: packed for CBOR, lists for JSON."""
    blocks = document.get("waveforms")
    if not blocks:
        return document
    return {
        **document,
        "waveforms": [
            {**block, "samples": pack_array(block["samples"]) if wire == "cbor" else block["samples"].tolist()}
            if isinstance(block.get("samples"), np.ndarray)
            else block
            for block in blocks
        ],
    }
