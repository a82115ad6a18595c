"""REST for every kind of record, made from its declaration: list, read, versions, and its verbs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from vitalgate.api import openapi
from vitalgate.api.entry import Caller, RawBody, json_object
from vitalgate.api.idempotency import once
from vitalgate.api.questions import question
from vitalgate.api.replies import if_match, not_modified, record_reply, reply, unchanged
from vitalgate.records.catalogue import RECORDS
from vitalgate.records.record_type import RecordType, Transition
from vitalgate.storage import records_read, records_write


def router() -> APIRouter:
    """Routes below /v1 for all kinds."""
    made = APIRouter(prefix="/v1")
    for kind in RECORDS.values():
        _reading(made, kind)
        for verb in kind.transitions.values():
            _changing(made, kind, verb)
    return made


def _id_path(kind: RecordType) -> str:
    # The id of a value is made of its identity, with slashes.
    return "{id:path}" if kind.name == "device_data" else "{id}"


def _reading(made: APIRouter, kind: RecordType) -> None:
    def list_them(request: Request, caller: Caller) -> Response:
        asked, only = question(kind, request.query_params)
        page = caller.read(lambda tx: records_read.find(tx, kind, asked))
        body = {"data": [record.document(only=only) for record in page.records], "next": page.next}
        headers = {}
        if page.next:
            query = [(k, v) for k, v in request.query_params.multi_items() if k != "after"] + [("after", page.next)]
            headers["link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
        return reply(body, headers=headers)

    def read_one(id: str, request: Request, caller: Caller) -> Response:
        _, only = question(kind, request.query_params)
        record = caller.read(lambda tx: records_read.get(tx, kind, id))
        if unchanged(request, record):
            return not_modified(record)
        return record_reply(record, only=only)

    def read_versions(id: str, caller: Caller) -> Response:
        found = caller.read(lambda tx: records_read.versions(tx, kind, id))
        return reply({"data": [record.document() for record in found]})

    _add(made, kind, "GET", "", list_them, openapi.list_operation(kind))
    if kind.table or kind.name == "device_data":
        _add(made, kind, "GET", f"/{_id_path(kind)}/versions", read_versions, openapi.versions_operation(kind))
    _add(made, kind, "GET", f"/{_id_path(kind)}", read_one, openapi.read_operation(kind))


def _changing(made: APIRouter, kind: RecordType, verb: Transition) -> None:
    spelt = verb.verb.replace("_", "-")

    def create(request: Request, caller: Caller, raw: RawBody) -> Response:
        given = json_object(raw)

        with caller.acting() as tx:

            def work() -> Response:
                record = records_write.create(tx, kind, given, verb=verb.verb)
                return record_reply(record, 201, location=f"/v1/{kind.path}/{quote(record.id)}")

            return once(request, raw, tx, work)

    def change(id: str, request: Request, caller: Caller, raw: RawBody) -> Response:
        given, version = json_object(raw), if_match(request)

        with caller.acting() as tx:

            def work() -> Response:
                return record_reply(records_write.transition(tx, kind, id, verb.verb, given, version=version))

            return once(request, raw, tx, work)

    operation = openapi.verb_operation(kind, verb)
    if verb.creates:
        _add(made, kind, "POST", "" if verb.verb == "create" else f"/{spelt}", create, operation, 201)
    elif verb.verb == "change":
        _add(made, kind, "PATCH", "/{id}", change, operation)
    else:
        _add(made, kind, "POST", f"/{{id}}/{spelt}", change, operation)


def paths(kind: RecordType) -> list[str]:
    """Where a kind is served: its path, and those of its other titles (`user-messages`)."""
    return [kind.path, *(re.sub(r"(?<!^)(?=[A-Z])", "-", title).lower() + "s" for title in kind.also)]


def _add(
    made: APIRouter, kind: RecordType, method: str, below: str, handler: Callable[..., Response],
    operation: dict[str, Any], status: int = 200,
) -> None:  # fmt: skip
    schema = operation.pop("x-schema")
    own = {name: operation.pop(name, None) for name in ("operationId", "summary", "tags", "description")}
    for path in paths(kind):
        first = path == kind.path
        made.add_api_route(
            f"/{path}{below}", handler, methods=[method], status_code=status, response_class=Response,
            response_model=None, operation_id=own["operationId"] if first else None, summary=own["summary"],
            tags=own["tags"], description=own["description"] or "", openapi_extra=operation,
            responses=openapi.responses(schema, status), include_in_schema=first,
        )  # fmt: skip
