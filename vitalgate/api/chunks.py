"""A file as encrypted chunks: AES-256-GCM each, so that any range is read and proven without the rest. Pure.

Every file has a key of its own, so the nonce is the chunk's number and whether it is the last (the STREAM construction
of Hoang, Reyhanitabar, Rogaway and Vizár, 2015): chunks that are changed, swapped, cut off or put into another file are
refused. The stored object is the chunks one after another, each longer than its text by GCM's tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PLAIN: Final = 65_536
"""Bytes of text in a chunk; the last may have fewer."""
TAG: Final = 16
SEALED: Final = PLAIN + TAG


class BrokenFile(Exception):
    """A stored file was changed or is not the one that was asked for."""


def chunk_count(size: int) -> int:
    """Chunks of a file of `size` bytes; an empty file has one, which proves that it is empty."""
    return max(1, -(-size // PLAIN))


def stored_size(size: int) -> int:
    """Bytes of the stored object."""
    return size + chunk_count(size) * TAG


@dataclass(frozen=True)
class Span:
    """What to read of the stored object for a range of the text, and what to cut off then."""

    first_chunk: int
    start: int
    """First byte of the stored object."""
    stop: int
    """Byte after the last of the stored object."""
    skip: int
    """Bytes of the text before the range."""
    length: int
    """Bytes of the range."""


def span(size: int, first: int, stop: int) -> Span:
    """The span for bytes [first, stop) of a file; first < stop <= size, or 0, 0 for an empty file."""
    low = first // PLAIN
    high = chunk_count(max(stop, 1))
    return Span(low, low * SEALED, min(high * SEALED, stored_size(size)), first - low * PLAIN, stop - first)


class Sealer:
    """Seals or opens the chunks of one file.

    Parameters
    ----------
    key
        The file's own key, 32 bytes.
    file_id
        Bound into every chunk.
    """

    def __init__(self, key: bytes, file_id: str) -> None:
        self._cipher = AESGCM(key)
        self._bound = b"vitalgate.file" + file_id.encode()

    def seal(self, number: int, plain: bytes, last: bool) -> bytes:
        """One chunk of the stored object."""
        return self._cipher.encrypt(_nonce(number, last), plain, self._bound)

    def open(self, first_chunk: int, sealed: bytes, chunks: int) -> Iterator[bytes]:
        """The texts of consecutive chunks of a file that has `chunks` of them. Raises BrokenFile."""
        for index, at in enumerate(range(0, len(sealed), SEALED)):
            number = first_chunk + index
            try:
                yield self._cipher.decrypt(_nonce(number, number == chunks - 1), sealed[at : at + SEALED], self._bound)
            except InvalidTag:
                raise BrokenFile(f"chunk {number} of a stored file was changed or belongs to another file") from None


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
