"""Identities made from content, so that a repeat is recognised as one wherever it turns up."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson

from vitalgate.devices.decode import TypedArray

_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
_NOT_CONTENT: Final = ("sent_at", "lost")


def payload_hash(payload: bytes) -> bytes:
    """BLAKE2b-128 of the bytes as they came."""
    return blake2b(payload, digest_size=16).digest()


def content_hash(document: Mapping[str, Any], samples: Mapping[int, bytes] | None = None) -> bytes:
    """BLAKE2b-64 of what a message says: the same for JSON and CBOR, and without `sent_at` and `lost`.

    Parameters
    ----------
    document
        As `decode` gave it.
    samples
        Decoded samples (int32 little-endian) by position in `waveforms`; they stand in place of `samples` there, so
        that a list, a typed array and a packed string of the same samples are the same content.

    Returns
    -------
    bytes
        8 bytes; empty when the content has no canonical form (integers beyond 64 bits).
    """
    body = {key: value for key, value in document.items() if key not in _NOT_CONTENT}
    digest = blake2b(digest_size=8)
    if samples:
        blocks = body.get("waveforms", [body])
        plain = []
        for place, block in enumerate(blocks):
            if place in samples:
                digest.update(samples[place])
                block = {key: value for key, value in block.items() if key not in ("samples", "missing")}
            plain.append(block)
        body = {**body, "waveforms": plain} if "waveforms" in body else plain[0]
    try:
        digest.update(orjson.dumps(body, default=_other, option=_OPTIONS))
    except (TypeError, RecursionError):
        return b""
    return digest.digest()


def _other(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, TypedArray):
        return [value.tag, value.data]
    raise TypeError(f"{type(value).__name__} has no canonical form")


def message_id(device: str, epoch: str, seq: int, content: bytes, payload: bytes) -> str:
    """Hex id of a device message: device, number and content (the payload's hash when it could not be decoded).

    A message sent again, also with a new `sent_at` or in the other encoding, has the same id.
    """
    text = f"{device}\0{epoch}\0{seq}\0".encode("utf-8", "surrogatepass")
    return blake2b(text + (content or payload), digest_size=16).hexdigest()


def dead_letter_id(partition: int, offset: int, item: int) -> str:
    """Id of a dead letter: where its raw record is, and which item of it (-1: the whole message)."""
    return f"{partition}-{offset}-{item}"
