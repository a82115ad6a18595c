"""What happens to every request before and after its handler: ids, sizes, headers, metrics, one line in the log."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitalgate.api.problems import Problem, answer
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
#: Sent unless the answer has its own.
_FIXED: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
#: Set in the scope by handlers: further headers of the answer.
HEADERS = "vitalgate.headers"
REQUEST_ID = "vitalgate.request_id"
TRACE = "vitalgate.trace"


class _TooLong(Exception):
    pass


class Edge:
    """ASGI middleware around the whole application.

    Parameters
    ----------
    body_max
        Longest body in bytes; paths that take files look after themselves.
    """

    def __init__(self, app: ASGIApp, body_max: int, files_prefix: str = "/v1/files") -> None:
        self._app = app
        self._body_max = body_max
        self._files = files_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        match = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        scope[REQUEST_ID] = request_id
        scope[TRACE] = match[1] if match else secrets.token_hex(16)
        scope[HEADERS] = {}
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        await self._http(scope, receive, send, headers)

    async def _http(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        began = time.perf_counter()
        status = 500
        started = False
        limit = None if scope["path"].startswith(self._files) else self._body_max
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            if limit is not None and message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > limit:
                    raise _TooLong
            return message

        async def finish(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                started = True
                status = message["status"]
                there = message.get("headers", [])
                own = [(b"x-request-id", scope[REQUEST_ID].encode("latin-1"))]
                own += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in scope[HEADERS].items()]
                names = {name for name, _ in own}
                out = [*own, *(header for header in there if header[0] not in names)]
                names.update(name for name, _ in there)
                out += [header for header in _FIXED if header[0] not in names]
                message["headers"] = out
            await send(message)

        try:
            length = headers.get("content-length", "")
            if limit is not None and length.isdigit() and int(length) > limit:
                raise _TooLong
            await self._app(scope, bounded, finish)
        except _TooLong:
            if not started:
                problem = Problem(
                    413, "too-large", f"The body is longer than {limit} bytes; files go to {self._files}."
                )
                await answer(problem, scope[REQUEST_ID])(scope, receive, finish)
        except Exception:
            # Answered by the innermost handler already; what comes here is logged there, and the client has its 500.
            if not started:
                raise
        finally:
            took = time.perf_counter() - began
            # The route as it is declared, so that no id becomes a label.
            route = getattr(scope.get("route"), "path", "none")
            metrics.API_REQUESTS.labels(scope["method"], route, str(status)).inc()
            metrics.API_SECONDS.labels(route).observe(took)
            log.info(
                "request",
                extra={
                    "request": scope[REQUEST_ID], "trace": scope[TRACE], "method": scope["method"], "route": route,
                    "status": status, "ms": round(took * 1000, 1),
                },
            )  # fmt: skip
