"""Idempotency keys: a request that is sent again is answered as the first time, and done once.

The key is claimed, and the answer stored, in the transaction of the change itself: either both are there or neither. A
second request with the same key waits for the first, then gets its answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from fastapi import Request
from starlette.responses import Response

from vitalgate.api.entry import actor_of
from vitalgate.api.problems import Problem, bad
from vitalgate.storage.records_database import Transaction

HEADER = "idempotency-key"
_LONGEST = 100

_CLAIM = """
    INSERT INTO api_requests (user_id, key, fingerprint) VALUES (%s, %s, %s)
    ON CONFLICT (user_id, key) DO NOTHING
"""
_FOUND = "SELECT fingerprint, status, body, etag, location FROM api_requests WHERE user_id = %s AND key = %s"
_KEEP = """
    UPDATE api_requests SET status = %s, body = %s, etag = %s, location = %s WHERE user_id = %s AND key = %s
"""


def once(request: Request, body: bytes, transaction: Transaction, work: Callable[[], Response]) -> Response:
    """Do the work, unless the caller's key says that it has been done: then answer as then.

    Raises
    ------
    Problem
        400 for an unusable key, 422 when the key was used for another request.
    """
    key = request.headers.get(HEADER, "")
    if not key:
        return work()
    if len(key) > _LONGEST or not key.isprintable():
        raise bad(f"Idempotency-Key must have 1 to {_LONGEST} printable characters; a UUID is best.", "bad-key")
    user = actor_of(transaction).user_id
    role = actor_of(transaction).role.value
    place = f"{request.method} {request.url.path} {role} {request.headers.get('if-match', '')}"
    fingerprint = hashlib.sha256(place.encode() + b"\x00" + body).digest()
    if not transaction.connection.execute(_CLAIM, (user, key, fingerprint)).rowcount:
        row = transaction.connection.execute(_FOUND, (user, key)).fetchone()
        if row is None:
            raise Problem(409, "conflict", "The same request is under way; try again.", headers={"Retry-After": "1"})
        before, status, stored, etag, location = row
        if bytes(before) != fingerprint:
            raise Problem(422, "key-reused", "This Idempotency-Key was used for another request; take a new one.")
        headers = {"idempotent-replay": "true"}
        headers |= {"etag": etag} if etag else {}
        headers |= {"location": location} if location else {}
        return Response(bytes(stored), status, headers, "application/json")
    answer = work()
    transaction.connection.execute(
        _KEEP, (answer.status_code, bytes(answer.body), answer.headers.get("etag"), answer.headers.get("location"),
                user, key),
    )  # fmt: skip
    return answer
