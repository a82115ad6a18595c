"""RFC 9457 problem details: every error of the API is one document that says what was wrong, and the remedy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from vitalgate.records.errors import Invalid, LockedOut, NotLoggedIn, RecordError
from vitalgate.storage.errors import StorageError, TransientDatabaseError

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
_TYPES = "urn:vitalgate:problem:"


class ProblemDocument(BaseModel):
    """What an error answer holds (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="What kind of problem, as a URN.", examples=["urn:vitalgate:problem:not-found"])
    title: str = Field(description="The kind in words.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What was wrong here: the value, the limit, the remedy.")
    instance: str = Field("", description="Id of the request; the log has the rest under it.")
    errors: list[dict[str, Any]] | None = Field(None, description="Each field that was wrong, with its place.")


class Problem(Exception):
    """An answer that is an error.

    Parameters
    ----------
    status
        HTTP status.
    kind
        The last part of the problem type, in kebab case.
    detail
        One or two sentences for the caller.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = errors


def not_found(what: str) -> Problem:
    """404: nothing there, or nothing that the caller may see; the two are not told apart."""
    return Problem(404, "not-found", f"There is no {what}, or it is not yours to see.")


def bad(detail: str, kind: str = "bad-request") -> Problem:
    """400: the request cannot be understood."""
    return Problem(400, kind, detail)


def answer(problem: Problem, request_id: str = "") -> Response:
    """The problem as a response."""
    body: dict[str, Any] = {
        "type": _TYPES + problem.kind,
        "title": problem.kind.replace("-", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
        "instance": f"urn:vitalgate:request:{request_id}" if request_id else "",
    }
    if problem.errors is not None:
        body["errors"] = [dict(error) for error in problem.errors]
    return Response(orjson.dumps(body, default=str), problem.status, problem.headers, MEDIA_TYPE)


def of_database(error: psycopg.Error) -> Problem | None:
    """What a database error means to a caller; None for one that is our own mistake."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return Problem(403, "forbidden", _said(error, "Your role does not allow this."))
    if isinstance(error, psycopg.errors.ExclusionViolation):
        return Problem(409, "conflict", "It overlaps with another one at the same time; choose another time.")
    if isinstance(error, psycopg.errors.UniqueViolation):
        return Problem(409, "conflict", "There is one with this identity already.")
    if isinstance(error, (psycopg.errors.ForeignKeyViolation,)):
        return Problem(422, "invalid", "It names something that does not exist, or is not yours to see.")
    if isinstance(error, (psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)):
        return Problem(422, "invalid", _said(error, "A value is outside what is allowed."))
    if isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected):
        return Problem(503, "busy", "Another change got in between; try again.", headers={"Retry-After": "1"})
    if isinstance(error, psycopg.errors.QueryCanceled):
        return Problem(503, "too-slow", "The question took too long; ask for a shorter time range.")
    if isinstance(error, psycopg.errors.DataError):
        return Problem(422, "invalid", "A value cannot be stored as it is: a number, date or text is out of range.")
    if isinstance(error, psycopg.OperationalError):
        return unavailable()
    return None


def unavailable() -> Problem:
    """503: the database is away."""
    return Problem(503, "unavailable", "The database cannot be reached; try again.", headers={"Retry-After": "2"})


def of_record(error: RecordError) -> Problem:
    """A refusal of the record rules as a problem."""
    headers: dict[str, str] = {}
    errors = None
    if isinstance(error, LockedOut):
        headers["Retry-After"] = str(error.retry_s)
    elif isinstance(error, NotLoggedIn):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Invalid) and error.fields:
        errors = [{"at": "/" + place.replace(".", "/"), "says": what} for place, what in error.fields]
    return Problem(error.status, error.code.replace("_", "-"), str(error), headers=headers, errors=errors)


def _said(error: psycopg.Error, otherwise: str) -> str:
    """The database's sentence where one of our functions raised it; a bare engine message names tables."""
    message = error.diag.message_primary or ""
    ours = error.diag.context is not None and "RAISE" in error.diag.context
    return message if ours and message else otherwise


def install(app: FastAPI) -> None:
    """Answer every exception of an application with a problem document."""

    def request_id(request: Request) -> str:
        return str(request.scope.get("vitalgate.request_id", ""))

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(error, request_id(request))

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RecordError)
        return answer(of_record(error), request_id(request))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        detail = str(error.detail)
        if error.status_code == HTTPStatus.NOT_FOUND:
            kind, detail = "not-found", f"There is nothing at {request.url.path}; /v1/openapi.json lists what there is."
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"{request.method} is not for {request.url.path}."
        return answer(Problem(error.status_code, kind, detail, headers=error.headers), request_id(request))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(of_validation(error.errors()), request_id(request))

    async def database(request: Request, error: Exception) -> Response:
        assert isinstance(error, psycopg.Error)
        found = of_database(error)
        if found is None:
            return await unexpected(request, error)
        return answer(found, request_id(request))

    async def away(request: Request, error: Exception) -> Response:
        return answer(unavailable(), request_id(request))

    async def unexpected(request: Request, error: Exception) -> Response:
        # No value of the request is logged: a body is clinical.
        log.error(
            "request failed", exc_info=error, extra={"request": request_id(request), "path": request.scope.get("path")}
        )
        told = Problem(500, "internal", "Something went wrong on our side; the log has it under the request's id.")
        return answer(told, request_id(request))

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RecordError, refused)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(psycopg.Error, database)
    app.add_exception_handler(PoolTimeout, away)
    app.add_exception_handler(TransientDatabaseError, away)
    app.add_exception_handler(StorageError, unexpected)
    app.add_exception_handler(Exception, unexpected)


def of_validation(errors: Sequence[Any]) -> Problem:
    """422 with each field that was wrong; the values given are not repeated, they may be clinical."""
    found = [
        {"at": "/" + "/".join(str(part) for part in error.get("loc", ())), "says": str(error.get("msg", ""))}
        for error in errors
    ]
    places = ", ".join(error["at"] for error in found[:5])
    return Problem(422, "invalid", f"{len(found)} fields are not as they must be: {places}.", errors=found)
