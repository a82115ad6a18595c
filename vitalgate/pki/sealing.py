"""Fields that name a person, sealed for storage: envelope encryption with key rotation, and a blind index for search.

Pure, but for the randomness that it draws from the system. Each value gets a data key of its own (AES-256-GCM, NIST SP
800-38D), which the ring's current key wraps (AES key wrap, RFC 3394; it needs no nonce, so a ring key may wrap any
number). Rotation re-wraps the 40 bytes of the data key and leaves the value alone. The bytes of a sealed value:

    1    form, 1
    1    n, length of the ring key's id
    n    id of the ring key
    40   wrapped data key
    12   nonce
    …    value, padded to a multiple of 32 bytes so that its length says little, and GCM's tag of 16 bytes

The tag also covers the `context`, a text that says where the value belongs (`person/p-17/name`): a value that somebody
copies into another row or column cannot be unsealed there.

A blind index is HMAC-SHA-256 over field and value with a key of its own, so that an exact match can be searched for
without unsealing every row. It shows which rows hold equal values, and nothing else, to who lacks the key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from vitalgate.pki.keyring import Key, KeyRing

_FORM: Final = 1
_WRAPPED: Final = 40
_NONCE: Final = 12
_TAG: Final = 16
_BLOCK: Final = 32
MAX_BYTES: Final = 1_048_576
"""Longest value that is sealed: these are names and addresses, not documents."""


class SealError(ValueError):
    """A sealed value cannot be read; the text never holds what is sealed."""


class UnknownKey(SealError):
    """The value was sealed with a key that the ring does not have (any more)."""


class BrokenSeal(SealError):
    """The value was changed, cut, or belongs to another context."""


class _Parts(NamedTuple):
    key_id: str
    wrapped: bytes
    nonce: bytes
    body: bytes


def seal(ring: KeyRing, value: str | bytes, context: str) -> bytes:
    """Seal a value (text as UTF-8) with the ring's current key, bound to its context.

    Sealing a value twice gives different bytes. Raises ValueError for a value above `MAX_BYTES` or an empty context.
    """
    plain = value.encode() if isinstance(value, str) else value
    if len(plain) > MAX_BYTES:
        raise ValueError(f"a value of {len(plain)} bytes is too long to be sealed; the limit is {MAX_BYTES}")
    data_key, nonce = AESGCM.generate_key(bit_length=256), os.urandom(_NONCE)
    body = AESGCM(data_key).encrypt(nonce, _pad(plain), _bound(context))
    return _head(ring.seals[0], data_key) + nonce + body


def unseal(ring: KeyRing, sealed: bytes | memoryview, context: str) -> bytes:
    """The value. Raises UnknownKey, and BrokenSeal when it was changed or the context is another."""
    parts = _split(bytes(sealed))
    try:
        plain = AESGCM(_unwrap(ring, parts)).decrypt(parts.nonce, parts.body, _bound(context))
    except InvalidTag:
        raise BrokenSeal(f"a sealed value was changed, or does not belong to {context!r}") from None
    return _unpad(plain)


def unseal_text(ring: KeyRing, sealed: bytes | memoryview, context: str) -> str:
    """`unseal` for a value that was sealed as text."""
    try:
        return unseal(ring, sealed, context).decode()
    except UnicodeDecodeError:
        raise SealError(f"the sealed value of {context!r} is not text") from None


def rewrap(ring: KeyRing, sealed: bytes | memoryview) -> bytes:
    """The same sealed value under the ring's current key; as it is when that is its key already.

    Needs no context, and neither reads nor changes the value. Raises UnknownKey, BrokenSeal.
    """
    sealed = bytes(sealed)
    parts = _split(sealed)
    if parts.key_id == ring.seals[0].id:
        return sealed
    return _head(ring.seals[0], _unwrap(ring, parts)) + parts.nonce + parts.body


def sealed_by(sealed: bytes | memoryview) -> str:
    """The id of the key that a value is sealed with. Raises BrokenSeal."""
    return _split(bytes(sealed)).key_id


def fold(text: str) -> str:
    """A text as it is compared: Unicode compatibility form, case folded, spaces at the ends and doubled ones gone."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def blind_index(ring: KeyRing, field: str, value: str) -> str:
    """What is stored beside a sealed value to find it by: `KEY-ID.HASH`. Give `fold(value)` to ignore case."""
    return _index(ring.indexes[0], field, value)


def blind_indexes(ring: KeyRing, field: str, value: str) -> list[str]:
    """What to search for (`WHERE name_index = ANY(…)`): the index by each key of the ring, the current one first."""
    return [_index(key, field, value) for key in ring.indexes]


def indexed_by(index: str) -> str:
    """The id of the key that made a blind index."""
    return index.partition(".")[0]


def _index(key: Key, field: str, value: str) -> str:
    name = field.encode()
    message = len(name).to_bytes(2, "big") + name + value.encode()
    digest = hmac.new(key.secret, message, hashlib.sha256).digest()
    return f"{key.id}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


@lru_cache(maxsize=4096)
def _bound(context: str) -> bytes:
    if not context:
        raise ValueError("a sealed value needs a context: a text that says where it belongs, such as person/p-17/name")
    return b"vitalgate.sealed" + bytes([_FORM]) + context.encode()


def _head(key: Key, data_key: bytes) -> bytes:
    name = key.id.encode()
    return bytes([_FORM, len(name)]) + name + aes_key_wrap(key.secret, data_key)


def _split(sealed: bytes) -> _Parts:
    if not sealed or sealed[0] != _FORM:
        raise BrokenSeal(f"these {len(sealed)} bytes are no sealed value of form {_FORM}")
    end = 2 + (sealed[1] if len(sealed) > 1 else 0)
    if len(sealed) < end + _WRAPPED + _NONCE + _BLOCK + _TAG:
        raise BrokenSeal(f"a sealed value of {len(sealed)} bytes is cut short")
    wrapped_end = end + _WRAPPED
    return _Parts(
        sealed[2:end].decode("ascii", "replace"),
        sealed[end:wrapped_end],
        sealed[wrapped_end : wrapped_end + _NONCE],
        sealed[wrapped_end + _NONCE :],
    )


def _unwrap(ring: KeyRing, parts: _Parts) -> bytes:
    for key in ring.seals:
        if key.id == parts.key_id:
            try:
                return aes_key_unwrap(key.secret, parts.wrapped)
            except InvalidUnwrap:
                raise BrokenSeal(f"a value sealed with key {key.id} was changed, or that key is another one") from None
    raise UnknownKey(f"key {parts.key_id!r} is not on the key ring; put it back to read what it sealed")


def _pad(plain: bytes) -> bytes:
    return plain + b"\x80" + bytes(-(len(plain) + 1) % _BLOCK)


def _unpad(padded: bytes) -> bytes:
    plain, mark, rest = padded.rpartition(b"\x80")
    if not mark or rest.strip(b"\0"):
        raise BrokenSeal("a sealed value has no end mark")
    return plain
