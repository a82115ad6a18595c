"""The hash chain: link n's hash is over link n-1's hash, the event's inbox offset and the event itself. Pure.

The chain is a function of the inbox alone, so a writer that is restarted, or one that wakes up late, can only write
the same links again; a repeat of a link is no break, another link of the same number is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]

GENESIS = "0" * 64
#: Fields that the chain adds to an event.
LINK_FIELDS = ("n", "inbox_offset", "previous_hash", "hash")
#: Fields that no event may bring along: they make a record of the trail what it is.
RESERVED = (*LINK_FIELDS, "checkpoint")
#: Links whose hashes a verifier remembers: far more than a late writer can repeat.
REMEMBERED = 50_000


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
    anchors: int = 0
    """Anchors from outside that the trail agrees with."""
    behind: bool = False
    """The one thing wrong is that the trail ends before an anchor: cut off, or not written so far yet."""


def read_event(data: bytes) -> Record:
    """The event in an inbox record; bytes that are no event become one that says so and keeps them."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or any(name in event for name in RESERVED):
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
    """Checks a trail record by record, in the order in which it was kept.

    Parameters
    ----------
    good_signature
        Tells whether a checkpoint's or an anchor's signature is right; None when the key is not known.
    anchors
        Checkpoints remembered outside the trail (`anchors.py`), in any order: the trail must hold their links.
    whole
        The trail must begin with link 1.
    """

    def __init__(
        self,
        good_signature: Callable[[Record], bool | None] | None = None,
        anchors: Iterable[Record] = (),
        *,
        whole: bool = False,
    ) -> None:
        self._good_signature = good_signature
        self._whole = whole
        self._anchors: dict[int, list[Record]] = defaultdict(list)
        for anchor in anchors:
            self._anchors[anchor["n"]].append(anchor)
        self._anchored = 0
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
        if n is None or not is_link(record):
            return Broken(before.n + 1 if before else 1, "a record that is no link of a chain stands in the trail")
        if before is not None and n <= before.n and self._seen.get(n) == record["hash"] == own_hash(record):
            self._repeats += 1
            return None
        if before is None:
            self._first = n
            if self._whole and n != 1:
                return Broken(1, f"the trail begins with link {n}: what came before it is gone")
            if n == 1 and record.get("previous_hash") != GENESIS:
                return Broken(1, "the first link does not begin with the genesis hash")
        elif n <= before.n:
            return Broken(n, f"it stands in the trail again, differently, after link {before.n}")
        elif n > before.n + 1:
            return Broken(before.n + 1, f"the link after {before.n} was left out; number {n} follows")
        elif record.get("previous_hash") != before.hash:
            return Broken(n, f"its previous hash is not the hash of link {before.n}")
        elif record["inbox_offset"] <= before.inbox_offset:
            return Broken(n, f"its inbox offset does not come after that of link {before.n}")
        if own_hash(record) != record["hash"]:
            return Broken(n, "its content does not give its hash: it was changed")
        for anchor in self._anchors.pop(n, ()):
            if anchor["hash"] != record["hash"]:
                return Broken(n, _REPLACED)
            if self._good_signature and self._good_signature(anchor) is False:
                return Broken(n, "the signature of its anchor is wrong")
            self._anchored += 1
        self._tip = tip_of(record)
        self._seen[n] = record["hash"]
        self._seen.pop(n - REMEMBERED, None)
        return None

    def _checkpoint(self, record: Record) -> Broken | None:
        n = record.get("n")
        if not isinstance(n, int):
            return Broken(self._tip.n + 1 if self._tip else 1, "a checkpoint without a number stands in the trail")
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

    def against(self, anchor: Record) -> Broken | None:
        """What an anchor that became known only now says of a link that was read lately."""
        if self._seen.get(anchor["n"], anchor["hash"]) != anchor["hash"]:
            return Broken(anchor["n"], _REPLACED)
        return None

    def verdict(self) -> Verdict:
        """What was found, all records having been taken."""
        tip, broken, behind = self._tip or Tip(), self._broken, False
        if broken is None and self._anchors:
            earlier = min(self._anchors)
            if self._first and earlier < self._first:
                broken = Broken(earlier, f"an anchor signs it, but the trail begins with link {self._first}")
            else:
                behind = True
                last = max(self._anchors)
                broken = Broken(tip.n + 1, f"an anchor signs link {last}, but the trail ends at {tip.n}: cut off")
        return Verdict(self._first, tip, self._checkpoints, self._signed, self._repeats, broken, self._anchored, behind)


_REPLACED = "an anchor kept outside the trail has another hash for it: the trail was replaced"
#: What a link must hold before anything is compared.
_KINDS = (("n", int), ("hash", str), ("previous_hash", str), ("inbox_offset", int))


def is_link(record: object) -> bool:
    """Whether something read from a trail has the fields of a link; says nothing of its hash."""
    return (
        isinstance(record, dict)
        and not record.get("checkpoint")
        and all(isinstance(record.get(name), kind) and record[name] is not True for name, kind in _KINDS)
    )


def own_hash(record: Record) -> str | None:
    """The hash that a link's content gives; None when it cannot be worked out."""
    try:
        event = {name: value for name, value in record.items() if name not in LINK_FIELDS}
        return link_hash(record["previous_hash"], record["inbox_offset"], event)
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        return None


def verify(
    records: Iterable[Record],
    good_signature: Callable[[Record], bool | None] | None = None,
    anchors: Iterable[Record] = (),
    *,
    whole: bool = False,
) -> Verdict:
    """Recompute a chain and name the first broken link.

    Parameters
    ----------
    records
        Records of audit.events in the order kept.
    good_signature
        Tells whether a checkpoint's signature is right; None when the key is not known.
    anchors
        Checkpoints remembered outside the trail.
    whole
        A trail that begins later than with link 1 is broken.
    """
    verifier = Verifier(good_signature, anchors, whole=whole)
    for record in records:
        if verifier.take(record):
            break
    return verifier.verdict()
