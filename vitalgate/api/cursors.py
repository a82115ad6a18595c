"""Opaque cursors: where a page ended, bound to the question that was asked. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from vitalgate.api.problems import Problem, bad

_LONGEST = 2000


def digest(*parts: str) -> str:
    """What makes two questions the same."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:12]


def encode(question: str, values: Sequence[Any]) -> str:
    """A cursor after the row with these sort values."""
    text = orjson.dumps([question, list(values)], default=str)
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def decode(cursor: str, question: str, count: int) -> list[Any]:
    """The sort values that a cursor holds.

    Raises
    ------
    Problem
        400 when it is none of ours, or of another question.
    """
    wrong = bad("The cursor is not one that this API gave out; begin again without it.", "bad-cursor")
    if len(cursor) > _LONGEST:
        raise wrong
    try:
        document = orjson.loads(base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), b"-_", validate=True))
    except (ValueError, binascii.Error, UnicodeEncodeError) as error:
        raise wrong from error
    match document:
        case [str(asked), list(values)] if len(values) == count:
            if asked != question:
                raise Problem(
                    400, "bad-cursor", "The cursor is of another filter or sort order; keep both as they were."
                )
            if not all(value is None or isinstance(value, str | int | float | bool) for value in values):
                raise wrong
            return values
    raise wrong
