"""Leads /graphql to an application of its own, which is made at its first request: its libraries start slowly."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send

from vitalgate.api import problems
from vitalgate.config.settings import ApiSettings

PATH = "/graphql"


class GraphQLGate:
    """ASGI middleware.

    Parameters
    ----------
    state
        That of the application around it: the parts behind the handlers, and the hub.
    """

    def __init__(self, app: ASGIApp, state: State, settings: ApiSettings) -> None:
        self._app = app
        self._state = state
        self._settings = settings
        self._made: FastAPI | None = None
        self._making = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket") or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        if self._made is None:
            await run_in_threadpool(self._make)
        assert self._made is not None
        await self._made(scope, receive, send)

    def _make(self) -> None:
        from vitalgate.api import graphql_routes, graphql_schema

        with self._making:
            if self._made is None:
                made = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
                problems.install(made)
                made.state = self._state
                made.include_router(graphql_routes.router(graphql_schema.build(self._settings, self._hub)))
                self._made = made

    def _hub(self) -> Any:
        return self._state.hub
