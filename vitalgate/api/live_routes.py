"""Live queries over server-sent events and a websocket; both resume from a cursor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from vitalgate.api.edge import HEADERS
from vitalgate.api.entry import ROLE_HEADER, Caller, Entry, address, services_of
from vitalgate.api.hub import Hub
from vitalgate.api.openapi import problem_responses
from vitalgate.api.problems import Problem, of_record
from vitalgate.api.subscribers import CursorGone, Ended, Wanted
from vitalgate.records.catalogue import record_type
from vitalgate.records.errors import Invalid, RecordError
from vitalgate.storage.records_changes import Change
from vitalgate.telemetry import metrics

_NO_ZERO = r"^[^\x00]*$"
_Words = Annotated[list[str], Query(max_length=40)]
_AUTH_S = 10.0
#: Close codes of the websocket: 4000 + the HTTP status that fits.
_CODE = 4000


def hub_of(connection: Request | WebSocket) -> Hub:
    """The hub of the application that answers."""
    found: Hub = connection.app.state.hub
    return found


def event(change: Change) -> dict[str, Any]:
    """A change as it is delivered."""
    return {
        "position": change.position, "record": change.record, "id": change.id, "patient": change.patient,
        "verb": change.verb, "version": change.version, "status": change.status, "at": change.at,
        "detail": change.detail,
    }  # fmt: skip


def wanted(records: list[str], patient: str, statuses: list[str], verbs: list[str]) -> Wanted:
    """What is asked for; kinds of records by any of their names. Raises Problem 400."""
    try:
        names = frozenset(record_type(name).name for name in records)
    except Invalid as error:
        raise Problem(400, "bad-parameter", str(error)) from error
    return Wanted(names, patient, frozenset(statuses), frozenset(verb.replace("-", "_") for verb in verbs))


class Subscribe(BaseModel):
    """The first message on the websocket."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field("subscribe", pattern="^subscribe$")
    token: str = Field("", max_length=500)
    role: str = Field("", max_length=40)
    record: list[str] = Field(default_factory=list, max_length=40)
    patient: str = Field("", max_length=64)
    status: list[str] = Field(default_factory=list, max_length=40)
    verb: list[str] = Field(default_factory=list, max_length=40)
    after: int | None = Field(None, ge=0, le=2**62)


def router() -> APIRouter:
    """Routes below /v1/live."""
    made = APIRouter(prefix="/v1/live", tags=["Live"])
    answers: dict[int | str, dict[str, Any]] = {
        200: {"description": "A stream of changes.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **problem_responses(403, 410, 422),
    }

    @made.get("", operation_id="live", responses=answers, response_class=Response)
    async def live(
        request: Request, caller: Caller, record: _Words = [], status: _Words = [], verb: _Words = [],  # noqa: B006
        patient: Annotated[str, Query(max_length=64, pattern=_NO_ZERO)] = "",
        after: Annotated[int | None, Query(ge=0, le=2**62)] = None,
        last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    ) -> Response:  # fmt: skip
        """Changes as server-sent events, from now or after a position.

        Each event's id is its position: give the last one back, as `Last-Event-ID` or `after`, and nothing is lost and
        nothing comes twice. The first event, `ready`, tells the position from which it begins. `resync` means that the
        position is too old: read the records anew. `ended` tells why a live query is over.
        """
        if last_event_id and last_event_id.isdigit() and after is None:
            after = min(int(last_event_id), 2**62)
        asked = wanted(record, patient, status, verb)
        actor = await run_in_threadpool(caller.actor)
        stream = hub_of(request).stream(actor, asked, after)
        first = await _first(stream)
        return StreamingResponse(
            _sse(hub_of(request), first, stream), media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )  # fmt: skip

    @made.websocket("/socket")
    async def socket(ws: WebSocket) -> None:
        await ws.accept()
        metrics.LIVE_SUBSCRIBERS.labels("websocket").inc()
        try:
            await _serve_socket(ws)
        except WebSocketDisconnect:
            return
        finally:
            metrics.LIVE_SUBSCRIBERS.labels("websocket").dec()

    return made


async def _first(stream: AsyncIterator[Change | int]) -> int:
    """The position that a live query begins at. Raises Problem 410 for a cursor that is no longer kept."""
    try:
        first = await anext(stream)
    except CursorGone as error:
        raise Problem(410, "cursor-gone", "Changes after this position are no longer kept; read the records anew, then "
                      "begin without it.") from error  # fmt: skip
    except Ended as error:
        raise Problem(503, "stopping", "This process stops; come back.", headers={"Retry-After": "1"}) from error
    assert isinstance(first, int)
    return first


def frame(name: str, position: int, data: Any) -> bytes:
    """One server-sent event."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (position, name.encode(), orjson.dumps(data, option=orjson.OPT_UTC_Z))


def _changed(change: Change) -> bytes:
    return frame("change", change.position, event(change))


def _told(change: Change) -> str:
    return orjson.dumps({"type": "change", **event(change)}, option=orjson.OPT_UTC_Z).decode()


async def _sse(hub: Hub, first: int, stream: AsyncIterator[Change | int]) -> AsyncIterator[bytes]:
    metrics.LIVE_SUBSCRIBERS.labels("sse").inc()
    last = first
    try:
        yield b"retry: 1000\n" + frame("ready", first, {"position": first})
        async for item in stream:
            if isinstance(item, int):
                last = max(last, item)
                yield b"id: %d\n: still there\n\n" % last
            else:
                last = item.position
                yield hub.once(item, "event", _changed)
    except Ended as error:
        yield frame("ended", last, {"why": str(error)})
    finally:
        metrics.LIVE_SUBSCRIBERS.labels("sse").dec()
        with contextlib.suppress(Exception):
            await stream.aclose()  # type: ignore[attr-defined]  # it is a generator


async def _serve_socket(ws: WebSocket) -> None:
    try:
        async with asyncio.timeout(_AUTH_S):
            asked = Subscribe.model_validate_json(await ws.receive_text())
        header = ws.headers.get("authorization", "")
        token = asked.token or header.removeprefix("Bearer ")
        role = asked.role or ws.headers.get(ROLE_HEADER, "")
        entry = Entry(services_of(ws), token, role, address(ws), "live", ws.scope[HEADERS])
        actor = await run_in_threadpool(entry.actor)
        stream = hub_of(ws).stream(
            actor, wanted(asked.record, asked.patient, asked.status, asked.verb), asked.after
        )  # fmt: skip
        first = await _first(stream)
    except TimeoutError:
        await _close(ws, 408, "say what you subscribe to within 10 s")
        return
    except (ValidationError, KeyError):
        await _close(ws, 400, 'the first message must be {"type": "subscribe", "token": …}')
        return
    except Problem as problem:
        await _close(ws, problem.status, problem.detail)
        return
    except RecordError as error:
        await _close(ws, of_record(error).status, str(error))
        return
    hearing = asyncio.create_task(_hear(ws))
    sending = asyncio.create_task(_send(ws, hub_of(ws), first, stream))
    done, left = await asyncio.wait({hearing, sending}, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, Exception):
            await task
    for task in done:
        with contextlib.suppress(WebSocketDisconnect):
            task.result()


async def _hear(ws: WebSocket) -> None:
    """Until the client leaves; a ping is answered."""
    while True:
        text = await ws.receive_text()
        if text.strip() == '{"type":"ping"}' or '"ping"' in text[:40]:
            await ws.send_text('{"type":"pong"}')


async def _send(ws: WebSocket, hub: Hub, first: int, stream: AsyncIterator[Change | int]) -> None:
    await ws.send_text(orjson.dumps({"type": "ready", "position": first}).decode())
    try:
        async for item in stream:
            if isinstance(item, int):
                await ws.send_text(orjson.dumps({"type": "heartbeat", "position": item}).decode())
            else:
                await ws.send_text(hub.once(item, "message", _told))
    except Ended as error:
        await _close(ws, 401 if str(error) == "logged out" else 503, str(error))
    finally:
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator


async def _close(ws: WebSocket, status: int, reason: str) -> None:
    with contextlib.suppress(RuntimeError):
        await ws.close(_CODE + status, reason.encode()[:120].decode("utf-8", "ignore"))
