"""Bytes to a document: JSON or CBOR, told apart by the first byte, with every limit held before memory is spent.

What comes out is a plain dict of str, int, float, bool, None, list, dict, and for CBOR also bytes and `TypedArray`;
nothing in it has been checked for meaning yet (that is `validate.py`).
"""

from __future__ import annotations

import datetime as dt
import json
import math
import secrets
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn

import cbor2
import orjson

from vitalgate.devices.reasons import Reason, Refused

MAX_DEPTH: Final = 16
"""Deepest nesting of lists and maps."""
SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"
"""CBOR's magic number (tag 55799); allowed once, at the very beginning."""
FIRST_ARRAY_TAG: Final = 64
LAST_ARRAY_TAG: Final = 87
_BOM: Final = b"\xef\xbb\xbf"


class TypedArray(NamedTuple):
    """An RFC 8746 typed array as it came; whether its type can be samples is for `samples.py` to say."""

    tag: int
    data: Any


def decode(payload: bytes) -> dict[str, Any]:
    """The document in a payload.

    Raises
    ------
    Refused
        UNDECODABLE when the bytes are neither form, are cut short, go on after the end, repeat a key, or nest too
        deep; SCHEMA when they are a list, a number or a text instead of an object.
    """
    if not payload:
        raise Refused(Reason.UNDECODABLE, "the message is empty; send one JSON object or one CBOR map")
    first = payload[0]
    if 0xA0 <= first <= 0xBF or payload.startswith(SELF_DESCRIBED):
        document = _cbor(payload)
    elif first in b'{[ \t\r\n"-0123456789tfnN' or payload.startswith(_BOM):
        document = _json(payload)
    else:
        raise Refused(
            Reason.UNDECODABLE,
            f"the first byte is 0x{first:02x}; a JSON object begins with '{{' and a CBOR map with 0xa0 to 0xbf",
        )
    if type(document) is not dict:
        raise Refused(Reason.SCHEMA, f"the message is a {_name(document)}; send one object with named keys")
    return document


def _name(value: object) -> str:
    return {list: "list", str: "text", int: "number", float: "number", bool: "true or false", type(None): "null"}.get(
        type(value), type(value).__name__
    )


# --- JSON -----------------------------------------------------------------------------------------------------------


def _json(payload: bytes) -> Any:
    if payload.startswith(_BOM):
        payload = payload[3:]
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        if b"NaN" in payload or b"Infinity" in payload or "infinity" in str(error):
            return _json_slowly(payload)
        raise Refused(Reason.UNDECODABLE, f"not valid JSON: {error}") from None
    keys = _count_keys(document, 0)
    # Every key's closing quote stands right before its colon unless white space lies between. So when there is no
    # such white space and no more `":` than keys that came out, no key was written twice. Else look closely.
    if payload.count(b'":') != keys or b" :" in payload or b"\t:" in payload or b"\n:" in payload or b"\r:" in payload:
        _json_slowly(payload)
    return document


def _count_keys(value: Any, depth: int) -> int:
    """Number of keys in nested dicts; `samples` is not looked into. Raises Refused beyond MAX_DEPTH."""
    if depth > MAX_DEPTH:
        raise Refused(Reason.UNDECODABLE, f"nested deeper than {MAX_DEPTH} levels")
    if type(value) is dict:
        keys = len(value)
        for name, inner in value.items():
            kind = type(inner)
            if kind is dict or (kind is list and name != "samples"):
                keys += _count_keys(inner, depth + 1)
        return keys
    keys = 0
    if type(value) is list:
        for inner in value:
            kind = type(inner)
            if kind is dict:
                keys += len(inner)
                for name, deeper in inner.items():
                    kind = type(deeper)
                    if kind is dict or (kind is list and name != "samples"):
                        keys += _count_keys(deeper, depth + 2)
            elif kind is list:
                keys += _count_keys(inner, depth + 1)
    return keys


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refused(Reason.UNDECODABLE, f"the key {key[:40]!r} stands twice in one object; send it once")
            seen.add(key)
    return found


def _integer(text: str) -> int | float:
    return int(text) if len(text) < 20 else float(text)


def _json_slowly(payload: bytes) -> Any:
    """By the standard library: finds repeated keys, and lets NaN and Infinity through for the validator to refuse."""
    try:
        document = json.loads(payload.decode(), object_pairs_hook=_unique, parse_int=_integer)
        _count_keys(document, 0)
        orjson.dumps(document)  # a lone surrogate has no UTF-8 form
    except (ValueError, TypeError, RecursionError) as error:
        raise Refused(Reason.UNDECODABLE, f"not valid JSON: {str(error)[:200]}") from None
    return document


# --- CBOR -----------------------------------------------------------------------------------------------------------

_END: Final = secrets.token_bytes(16)
_END_BYTES: Final = cbor2.dumps(_END)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _tagged(tag: cbor2.CBORTag, _immutable: bool) -> TypedArray:
    if FIRST_ARRAY_TAG <= tag.tag <= LAST_ARRAY_TAG:
        return TypedArray(tag.tag, tag.value)
    raise Refused(Reason.UNDECODABLE, f"tag {tag.tag} has no meaning here; see docs/mqtt.md for those that have one")


def _text_time(value: Any, _immutable: bool) -> str:
    if not isinstance(value, str):
        raise Refused(Reason.SCHEMA, "tag 0 must hold an RFC 3339 text")
    return value


def _epoch_time(value: Any, _immutable: bool) -> str:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise Refused(Reason.SCHEMA, "tag 1 must hold a number of seconds since 1970-01-01T00:00:00Z")
    try:
        return (_EPOCH + dt.timedelta(microseconds=round(value * 1_000_000))).isoformat()
    except OverflowError:
        raise Refused(Reason.SCHEMA, f"tag 1 holds {value} s, which is no time in the years 1 to 9999") from None


def _no(tag: int) -> Callable[[Any, bool], NoReturn]:
    def refuse(_value: Any, _immutable: bool) -> NoReturn:
        raise Refused(Reason.UNDECODABLE, f"tag {tag} has no meaning here; see docs/mqtt.md for the tags that have one")

    return refuse


_OTHER_TAGS: Final = (*range(2, FIRST_ARRAY_TAG), 100, 256, 257, 258, 260, 261, 1004, 43000, 55799)
_TAGS: Final[dict[int, Callable[..., Any]]] = {0: _text_time, 1: _epoch_time, **{tag: _no(tag) for tag in _OTHER_TAGS}}


def _cbor(payload: bytes) -> Any:
    if payload.startswith(SELF_DESCRIBED):
        payload = payload[3:]
    try:
        # The decoder stops at the end of the first item without a word about what follows. Put into a list with a
        # byte string that no sender can know, anything that follows shows; also a tag put before it, for none that is
        # accepted leaves a byte string as it was.
        both = cbor2.loads(
            b"\x82" + payload + _END_BYTES,
            tag_hook=_tagged,
            semantic_decoders=_TAGS,
            max_depth=MAX_DEPTH + 2,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except cbor2.CBORError as error:
        raise _cause(error) from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Refused(Reason.UNDECODABLE, f"not valid CBOR: {error}") from None
    document, end = both
    if end != _END:
        raise Refused(Reason.UNDECODABLE, "bytes follow after the end of the CBOR map; send one map in one message")
    _check_types(document)
    return document


def _cause(error: BaseException) -> Refused:
    """What a hook of ours refused, found among the causes, or the decoder's own complaint."""
    cause: BaseException | None = error
    texts = []
    for _ in range(2 * MAX_DEPTH):
        if cause is None:
            break
        if isinstance(cause, Refused):
            return cause
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, cbor2.CBORDecodeEOF):
        return Refused(Reason.UNDECODABLE, "the CBOR is cut short: a length says more than there is")
    return Refused(Reason.UNDECODABLE, f"not valid CBOR: {': '.join(dict.fromkeys(texts))[:200]}")


_SIMPLE: Final = frozenset((str, int, float, bool, type(None), bytes, TypedArray))


def _check_types(value: Any) -> None:
    kind = type(value)
    if kind in _SIMPLE:
        return
    if kind is dict:
        for key, inner in value.items():
            if type(key) is not str:
                raise Refused(Reason.UNDECODABLE, "a map key is a byte string; keys are texts")
            if type(inner) not in _SIMPLE:
                _check_types(inner)
    elif kind is list:
        for inner in value:
            if type(inner) not in _SIMPLE:
                _check_types(inner)
    else:
        raise Refused(Reason.UNDECODABLE, f"a CBOR {kind.__name__} has no meaning here")
