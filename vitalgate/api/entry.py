"""Who calls: a bearer token becomes a user in a role, and one transaction of the database in that user's name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from vitalgate.api.edge import HEADERS
from vitalgate.api.problems import Problem, bad
from vitalgate.api.services import Services
from vitalgate.records.errors import NotLoggedIn
from vitalgate.records.permissions import Role
from vitalgate.storage.records_database import Actor, Proof, Transaction
from vitalgate.storage.records_login import Identity, authenticate, token_hash

T = TypeVar("T")

ROLE_HEADER = "x-role"
_BEARER = HTTPBearer(auto_error=False, description="An access token of `POST /v1/auth/log-in`.", bearerFormat="opaque")
#: The role of a user who has several and names none.
_FIRST = (Role.CLINICIAN, Role.PATIENT, Role.DEVICE_MANAGER, Role.ADMINISTRATOR)


def services_of(connection: HTTPConnection) -> Services:
    """The parts of the application that answers."""
    found: Services = connection.app.state.services
    return found


def address(connection: HTTPConnection) -> str:
    """Where the caller is."""
    return connection.client.host if connection.client else "unknown"


class Entry:
    """One caller of one request; nothing is asked of the database before it is needed.

    Parameters
    ----------
    via
        The interface, for the audit trail: rest, graphql, live.
    """

    def __init__(self, services: Services, token: str, role: str, place: str, via: str, out: dict[str, str]) -> None:
        self.services = services
        self._role = role
        self._place = place
        self._via = via
        self._out = out
        self._mark = token_hash(token) if token else b""
        self._identity: Identity | None = None
        self._counted = False

    @property
    def place(self) -> str:
        """The caller's address."""
        return self._place

    def identity(self) -> Identity:
        """The user behind the token; blocking.

        Raises
        ------
        Problem
            401 without a token or with one that is over, 429 above the rate limit.
        """
        if self._identity is None:
            if not self._mark:
                raise _who("Log in first: send `Authorization: Bearer TOKEN`.")
            try:
                self._identity = authenticate(self.services.database, self._mark)
            except Exception:
                self.services.tokens.drop(self._mark)
                self.limit_anonymous()  # guessing tokens is paid for by the address
                raise
            self.services.tokens.put(self._mark, self._identity)
            self._count(self._identity)
        return self._identity

    def _count(self, identity: Identity) -> None:
        """Count the request against the user's limit, once."""
        if self._counted:
            return
        verdict = self.services.users.take(identity.user_id, time.monotonic())
        self._counted = True
        self._out["ratelimit-limit"] = str(self.services.users.burst)
        self._out["ratelimit-remaining"] = str(verdict.remaining)
        if not verdict.allowed:
            raise _too_many(verdict.retry_after_s)

    def forget(self) -> None:
        """Ask the database anew who this is: for what goes on longer than a request."""
        self._identity = None
        self._counted = False

    def limit_anonymous(self, cost: float = 1.0) -> None:
        """Count a request against the caller's address.

        Raises
        ------
        Problem
            429 above the limit.
        """
        verdict = self.services.anonymous.take(self._place, time.monotonic(), cost)
        if not verdict.allowed:
            raise _too_many(verdict.retry_after_s)

    def actor(self) -> Actor:
        """The user in the role that was asked for; blocking. Raises Problem 403 for a role that the user has not."""
        return self._as_actor(self.identity())

    @contextmanager
    def acting(self) -> Iterator[Transaction]:
        """One transaction in the caller's name; blocking."""
        with ExitStack() as stack:
            try:
                transaction = stack.enter_context(self.services.database.acting(*self._presumed()))
            except NotLoggedIn:
                self.forget_presumed()
                transaction = stack.enter_context(self.services.database.acting(*self._presumed()))
            yield transaction

    def read(self, work: Callable[[Transaction], T]) -> T:
        """What `work` reads in one transaction in the caller's name; blocking.

        All is sent to the database at once, so `work` may be done a second time when what was known of the
        caller is not so any more.
        """
        try:
            with self.services.database.reading(*self._presumed()) as transaction:
                return work(transaction)
        except NotLoggedIn:
            self.forget_presumed()
        with self.services.database.reading(*self._presumed()) as transaction:
            return work(transaction)

    def forget_presumed(self) -> None:
        """What was known of the token does not hold: ask."""
        self._identity = None
        self.services.tokens.drop(self._mark)

    def _presumed(self) -> tuple[Actor, Proof]:
        """Who it is by what is known of the token, to be proven by the transaction."""
        if self._identity is None and self._mark:
            known = self.services.tokens.get(self._mark)
            if known is not None:
                try:
                    actor = self._as_actor(known)
                except Problem:  # a role may have been given since
                    return self._presumed_anew()
                self._count(known)
                return actor, Proof(self._mark, known.roles)
        return self._presumed_anew()

    def _presumed_anew(self) -> tuple[Actor, Proof]:
        identity = self.identity()
        return self._as_actor(identity), Proof(self._mark, identity.roles)

    def _as_actor(self, identity: Identity) -> Actor:
        return Actor(identity.user_id, choose_role(identity, self._role), identity.session_id, self._place, self._via)


def actor_of(transaction: Transaction) -> Actor:
    """The user in whose name a transaction is; there is one in all that `acting` gives."""
    assert transaction.actor is not None
    return transaction.actor


def choose_role(identity: Identity, asked: str) -> Role:
    """The role asked for, or the first of the user's."""
    have = {Role(role) for role in identity.roles}
    if asked:
        name = asked.replace("-", "_")
        if name not in {str(role) for role in have}:
            names = ", ".join(sorted(role.value for role in have)) or "none yet"
            raise Problem(403, "forbidden", f"You do not have the role {asked[:30]!r}; you have {names}.")
        return Role(name)
    for role in _FIRST:
        if role in have:
            return role
    raise Problem(403, "forbidden", "Your account has no role yet; it has to be approved first.")


def _who(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _too_many(after_s: int) -> Problem:
    return Problem(
        429, "too-many-requests", f"Too many requests; try again in {after_s} s.",
        headers={"Retry-After": str(after_s)},
    )  # fmt: skip


async def _entry(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)] = None
) -> Entry:
    token = given.credentials if given else ""
    role = request.headers.get(ROLE_HEADER, "")
    return Entry(services_of(request), token, role, address(request), "rest", request.scope[HEADERS])


async def _anonymous(request: Request) -> Entry:
    return Entry(services_of(request), "", "", address(request), "rest", request.scope[HEADERS])


async def _body(request: Request) -> bytes:
    return await request.body()


Caller = Annotated[Entry, Depends(_entry)]
Anybody = Annotated[Entry, Depends(_anonymous)]
RawBody = Annotated[bytes, Depends(_body)]


def json_object(raw: bytes) -> dict[str, Any]:
    """A request body that is a JSON object; nothing at all is an empty one.

    Raises
    ------
    Problem
        400 when it is something else.
    """
    if not raw.strip():
        return {}
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad(f"The body is not JSON: {error}.", "bad-json") from error
    if not isinstance(document, dict):
        raise bad("The body must be a JSON object.", "bad-json")
    if has_zero(document):
        raise Problem(422, "invalid", "A text holds a zero byte (\\u0000), which cannot be stored; leave it out.")
    return document


def has_zero(value: Any) -> bool:
    """Whether a text in it holds a zero byte, which PostgreSQL cannot store."""
    match value:
        case str():
            return "\x00" in value
        case dict():
            return any(has_zero(key) or has_zero(one) for key, one in value.items())
        case list():
            return any(map(has_zero, value))
        case _:
            return False
