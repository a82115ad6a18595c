"""The hash chain: link n's hash is over link n-1's hash, the event's inbox offset and the event itself. Pure.

The chain is a function of the inbox alone, so a writer that is restarted, or one that wakes up late, can only write
the same links again; a repeat of a link is no break, another link of the same number is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]

GENESIS = "0" * 64
#: Fields that the chain adds to an event.
LINK_FIELDS = ("n", "inbox_offset", "previous_hash", "hash")


@dataclass(frozen=True)
class Tip:
    """The end of a chain."""

    n: int = 0
    hash: str = GENESIS
    inbox_offset: int = -1


@dataclass(frozen=True)
class Broken:
    """The first thing in a trail that is not as it was written."""

    n: int
    why: str


@dataclass(frozen=True)
class Verdict:
    """What a verification found."""

    first: int
    """Number of the first link read; 1 when the trail was read from its beginning."""
    tip: Tip
    checkpoints: int
    """Checkpoints whose signature and hash were right."""
    signed_through: int
    """The newest link that a good signature covers; what comes after could be cut off unseen."""
    repeats: int
    broken: Broken | None


def read_event(data: bytes) -> Record:
    """The event in an inbox record; bytes that are no JSON object become an event that says so and keeps them."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or any(name in event for name in LINK_FIELDS):
        digest = hashlib.sha256(data).hexdigest()
        return {
            "event_id": digest[:32], "who": "unknown", "action": "audit.unreadable", "entity_type": "audit.inbox",
            "entity_id": digest, "outcome": "refused", "detail": {"bytes_base64": base64.b64encode(data).decode()},
        }  # fmt: skip
    return event


def canonical(event: Record) -> bytes:
    """The bytes of an event that are hashed: JSON, keys sorted, no spaces, UTF-8."""
    return json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def link_hash(previous: str, inbox_offset: int, event: Record) -> str:
    """Hash of a link, hexadecimal SHA-256."""
    digest = hashlib.sha256(bytes.fromhex(previous))
    digest.update(inbox_offset.to_bytes(8, "big"))
    digest.update(canonical(event))
    return digest.hexdigest()


def append(tip: Tip, inbox_offset: int, data: bytes) -> tuple[Tip, Record] | None:
    """Chain one inbox record; None when it is in the chain already.

    Returns
    -------
    The new tip, and the record for audit.events.
    """
    if inbox_offset <= tip.inbox_offset:
        return None
    event = read_event(data)
    digest = link_hash(tip.hash, inbox_offset, event)
    new = Tip(tip.n + 1, digest, inbox_offset)
    return new, {**event, "n": new.n, "inbox_offset": inbox_offset, "previous_hash": tip.hash, "hash": digest}


def tip_of(record: Record) -> Tip:
    """The tip that a link leaves behind it."""
    return Tip(record["n"], record["hash"], record["inbox_offset"])


class Verifier:
    """Checks a trail record by record, in the order in which it was kept."""

    def __init__(self, good_signature: Callable[[Record], bool | None] | None = None) -> None:
        self._good_signature = good_signature
        self._tip: Tip | None = None
        self._first = 0
        self._seen: dict[int, str] = {}
        self._checkpoints = self._signed = self._repeats = 0
        self._broken: Broken | None = None

    def take(self, record: Record) -> Broken | None:
        """Check the next record; says what is broken, and stays with the first break."""
        if self._broken is None:
            self._broken = self._checkpoint(record) if record.get("checkpoint") else self._link(record)
        return self._broken

    def _link(self, record: Record) -> Broken | None:
        n, before = record.get("n"), self._tip
        if not isinstance(n, int) or not isinstance(record.get("hash"), str):
            return Broken(before.n + 1 if before else 1, "a record without number or hash stands in the trail")
        if before is not None and n <= before.n and self._seen.get(n) == record["hash"] == _own_hash(record):
            self._repeats += 1
            return None
        if before is None:
            self._first = n
            if n == 1 and record.get("previous_hash") != GENESIS:
                return Broken(1, "the first link does not begin with the genesis hash")
        elif n != before.n + 1:
            what = "was left out" if n > before.n + 1 else f"was written again differently, as {n}"
            return Broken(before.n + 1, f"the link after {before.n} {what}; number {n} follows")
        elif record.get("previous_hash") != before.hash:
            return Broken(n, f"its previous hash is not the hash of link {before.n}")
        elif record.get("inbox_offset", -1) <= before.inbox_offset:
            return Broken(n, f"its inbox offset does not come after that of link {before.n}")
        if _own_hash(record) != record["hash"]:
            return Broken(n, "its content does not give its hash: it was changed")
        self._tip = tip_of(record)
        self._seen[n] = record["hash"]
        return None

    def _checkpoint(self, record: Record) -> Broken | None:
        n = record.get("n", 0)
        if self._tip is None:
            return None  # the trail is read from here on
        if n > self._tip.n:
            return Broken(self._tip.n + 1, f"a checkpoint signs link {n}, but the trail ends at {self._tip.n}: cut off")
        if n in self._seen and self._seen[n] != record.get("hash"):
            return Broken(n, "a signed checkpoint has another hash for it")
        good = self._good_signature(record) if self._good_signature else None
        if good is False:
            return Broken(n, "the signature of its checkpoint is wrong")
        if good:
            self._checkpoints += 1
            self._signed = max(self._signed, n)
        return None

    def verdict(self) -> Verdict:
        """What was found so far."""
        return Verdict(self._first, self._tip or Tip(), self._checkpoints, self._signed, self._repeats, self._broken)


def _own_hash(record: Record) -> str | None:
    try:
        event = {name: value for name, value in record.items() if name not in LINK_FIELDS}
        return link_hash(record["previous_hash"], record["inbox_offset"], event)
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        return None


def verify(records: Iterable[Record], good_signature: Callable[[Record], bool | None] | None = None) -> Verdict:
    """Recompute a chain and name the first broken link.

    Parameters
    ----------
    records
        Records of audit.events in the order kept.
    good_signature
        Tells whether a checkpoint's signature is right; None when the key is not known.
    """
    verifier = Verifier(good_signature)
    for record in records:
        if verifier.take(record):
            break
    return verifier.verdict()
