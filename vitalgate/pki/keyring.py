"""The key ring that seals fields naming a person: its text form, a new key on it, and where it is read from.

A ring is a short text, a line for each key, the current one of each use first::

    seal  s-20260131-5f2a91c0  <32 bytes, base64>
    seal  s-20250131-09be77d4  <32 bytes, base64>
    index i-20250131-7ac01b3e  <32 bytes, base64>

`seal` keys wrap data keys (`sealing.py`), `index` keys make blind indexes. Earlier ones stay on the ring for as long as
anything is sealed or indexed with them; taking one off makes what needs it unreadable for good.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, Literal

from vitalgate.config.loading import read_secret

Use = Literal["seal", "index"]
KEY_BYTES: Final = 32
"""AES-256 and HMAC-SHA-256."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_HEAD: Final = (
    "# Vitalgate key ring. Whoever has this file can read what it seals; what it sealed is lost with it.\n"
    "# The first key of each use is the current one. Change it with `vitalgate keys rotate`.\n"
)


class BadKeyRing(ValueError):
    """A key ring cannot be used; the text says which line and why, and never holds a key."""


@dataclass(frozen=True)
class Key:
    """One key: its name on what it made, and its bytes, which no `repr` shows."""

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise BadKeyRing(f"key id {self.id!r} must be 1 to 40 letters, digits, '-' or '_'")
        if len(self.secret) != KEY_BYTES:
            raise BadKeyRing(f"key {self.id} has {len(self.secret)} bytes; {KEY_BYTES} are needed")


@dataclass(frozen=True)
class KeyRing:
    """Keys in use, the current one of each use first. Raises BadKeyRing when a use has none, or an id comes twice."""

    seals: tuple[Key, ...]
    indexes: tuple[Key, ...]

    def __post_init__(self) -> None:
        for use, keys in (("seal", self.seals), ("index", self.indexes)):
            if not keys:
                raise BadKeyRing(f"the key ring has no {use} key; `vitalgate keys new FILE` makes a whole ring")
            seen = {key.id for key in keys}
            if len(seen) != len(keys):
                raise BadKeyRing(f"two {use} keys of the key ring have the same id")

    def text(self) -> str:
        """The ring as its file has it: secret."""
        lines = [
            f"{use:5} {key.id} {base64.b64encode(key.secret).decode()}"
            for use, keys in (("seal", self.seals), ("index", self.indexes))
            for key in keys
        ]
        return _HEAD + "\n".join(lines) + "\n"


def parse(text: str) -> KeyRing:
    """The ring of a text. Raises BadKeyRing."""
    keys: dict[str, list[Key]] = {"seal": [], "index": []}
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) != 3 or parts[0] not in keys:
            raise BadKeyRing(f"line {number} of the key ring must be `seal ID BASE64` or `index ID BASE64`")
        try:
            secret = base64.b64decode(parts[2], validate=True)
        except binascii.Error:
            raise BadKeyRing(f"line {number} of the key ring: the key is not base64") from None
        try:
            keys[parts[0]].append(Key(parts[1], secret))
        except BadKeyRing as error:
            raise BadKeyRing(f"line {number} of the key ring: {error}") from None
    return KeyRing(tuple(keys["seal"]), tuple(keys["index"]))


def new_key(use: Use, today: date) -> Key:
    """A random key, named after its use and day."""
    return Key(f"{use[0]}-{today:%Y%m%d}-{secrets.token_hex(4)}", secrets.token_bytes(KEY_BYTES))


def new_ring(today: date) -> KeyRing:
    """A ring with one random key of each use."""
    return KeyRing((new_key("seal", today),), (new_key("index", today),))


def rotated(ring: KeyRing, today: date, uses: Sequence[Use] = ("seal",)) -> KeyRing:
    """The ring with a new current key for each of `uses`; what was current can still be read."""
    return KeyRing(
        (new_key("seal", today), *ring.seals) if "seal" in uses else ring.seals,
        (new_key("index", today), *ring.indexes) if "index" in uses else ring.indexes,
    )


def without(ring: KeyRing, key_id: str) -> KeyRing:
    """The ring without an earlier key. Raises BadKeyRing for a current one, and one that is not there."""
    if key_id in (ring.seals[0].id, ring.indexes[0].id):
        raise BadKeyRing(f"key {key_id} is in use; rotate first, then re-seal, then take it off")
    left = KeyRing(
        tuple(key for key in ring.seals if key.id != key_id), tuple(key for key in ring.indexes if key.id != key_id)
    )
    if left == ring:
        raise BadKeyRing(f"key {key_id} is not on the key ring")
    return left


def read(source: str) -> KeyRing:
    """The ring in a file, or `env:NAME` for one in an environment variable. Raises BadKeyRing, SettingsError."""
    return parse(read_secret(source, "key ring (security.keys_file)"))


def write(path: Path, ring: KeyRing) -> None:
    """Replace a ring's file by one move, mode 600, on the disk when this returns: a half-written ring loses data."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(ring.text())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
