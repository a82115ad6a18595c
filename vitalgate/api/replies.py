"""Answers: documents, ETags, conditions on versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from vitalgate.api.problems import Problem, bad
from vitalgate.storage.records_read import Record

_ETAG = re.compile(r'(?:W/)?"?(\d{1,9})"?')


def reply(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document as JSON."""
    body = orjson.dumps(document, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS, default=str)
    return Response(body, status, headers, "application/json")


def record_reply(record: Record, status: int = 200, only: list[str] | None = None, location: str = "") -> Response:
    """One record with its ETag."""
    headers = {"etag": record.etag}
    if location:
        headers["location"] = location
    return reply(record.document(only=only), status, headers)


def if_match(request: Request) -> int | None:
    """The version that the caller changes, by If-Match; None for any.

    Raises
    ------
    Problem
        400 when it is no ETag of ours.
    """
    given = request.headers.get("if-match", "").strip()
    if not given or given == "*":
        return None
    match = _ETAG.fullmatch(given)
    if match is None:
        raise bad('If-Match must be the ETag of a record, such as "7".', "bad-etag")
    return int(match[1])


def unchanged(request: Request, record: Record) -> bool:
    """Whether the caller has this version already (If-None-Match)."""
    given = request.headers.get("if-none-match", "")
    return bool(given) and record.etag in {part.strip().removeprefix("W/") for part in given.split(",")}


def not_modified(record: Record) -> Response:
    """304."""
    return Response(status_code=304, headers={"etag": record.etag})


def whole_number(text: str, name: str, least: int, most: int) -> int:
    """A whole number in a query. Raises Problem 400 outside of its limits."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise Problem(400, "bad-parameter", f"{name} is {text[:20]!r}; it must be from {least} to {most}.")
    return value
