"""Anchors: signed checkpoints kept outside the trail, so that a trail that was cut, replaced or put back shows. Pure.

A trail whose end was cut off together with the checkpoints in it holds in itself, and so does an old copy of it. Only
somebody who remembers a later link can tell. An anchor is that memory: number and hash of a link, signed. It is worth
as much as the place where it is kept is out of reach of whoever changes the trail.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from vitalgate.audit.chain import Record

FIELDS = ("n", "hash", "when", "signature", "public_key", "key_id")
#: Anchors in one file; beyond it every second one of the older half goes.
LIMIT = 1000


class AnchorError(ValueError):
    """Something in an anchor file is no anchor; the text names the line."""


def anchor_of(checkpoint: Record) -> Record:
    """The anchor that a checkpoint record makes."""
    return {name: checkpoint.get(name) for name in FIELDS}


def dump(anchors: Iterable[Record]) -> str:
    """Anchors as JSON lines."""
    return "".join(json.dumps(anchor, separators=(",", ":")) + "\n" for anchor in anchors)


def parse(text: str, where: str = "the anchor file") -> list[Record]:
    """Anchors from JSON lines; blank lines are passed over.

    Raises
    ------
    AnchorError
        When a line is no anchor: it needs a positive `n`, a 64-digit hexadecimal `hash` and a `signature`.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            anchor: Any = json.loads(line)
        except (ValueError, RecursionError):
            anchor = None
        if not _is_anchor(anchor):
            raise AnchorError(
                f"line {number} of {where} is no anchor (n, hash and signature are needed): {line[:60]!r}; "
                "`vitalgate audit anchor FILE` writes one"
            )
        found.append(anchor)
    return found


def _is_anchor(anchor: Any) -> bool:
    if not isinstance(anchor, dict):
        return False
    n, digest = anchor.get("n"), anchor.get("hash")
    if not isinstance(n, int) or isinstance(n, bool) or n < 1 or not isinstance(anchor.get("signature"), str):
        return False
    return isinstance(digest, str) and len(digest) == 64 and set(digest) <= set("0123456789abcdef")


def add(anchors: Sequence[Record], new: Record, limit: int = LIMIT) -> list[Record]:
    """The anchors with a further one; past `limit` the older half is thinned, the newest always stay."""
    every = [anchor for anchor in anchors if anchor["n"] != new["n"] or anchor["hash"] != new["hash"]] + [new]
    if len(every) > limit:
        half = len(every) // 2
        every = every[:half:2] + every[half:]
    return every
