"""/graphql: queries and changes by POST, subscriptions over the same path as a websocket (graphql-transport-ws)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from starlette.requests import HTTPConnection
from strawberry import Schema
from strawberry.exceptions import ConnectionRejectionError
from strawberry.fastapi import GraphQLRouter
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from vitalgate.api.edge import HEADERS
from vitalgate.api.entry import ROLE_HEADER, Entry, address, services_of
from vitalgate.api.graphql_context import Asking


def _entry(connection: HTTPConnection, token: str, role: str) -> Entry:
    return Entry(services_of(connection), token, role, address(connection), "graphql", connection.scope[HEADERS])


async def _context(connection: HTTPConnection) -> dict[str, Any]:
    token = connection.headers.get("authorization", "").removeprefix("Bearer ").strip()
    role = connection.headers.get(ROLE_HEADER, "")
    return {"asking": Asking(_entry(connection, token, role)), "connection": connection}


class _Router(GraphQLRouter[dict[str, Any], None]):
    async def on_ws_connect(self, context: dict[str, Any]) -> Any:
        """Take the token of the first message: a browser cannot send it as a header."""
        given = context.get("connection_params") or {}
        if not isinstance(given, dict):
            raise ConnectionRejectionError
        token, role = given.get("token", ""), given.get("role", "")
        if token:
            if not isinstance(token, str) or not isinstance(role, str):
                raise ConnectionRejectionError
            context["asking"] = Asking(_entry(context["connection"], token, role))
        return await super().on_ws_connect(context)


def router(schema: Schema) -> GraphQLRouter[dict[str, Any], None]:
    """Routes at /graphql."""

    async def context(connection: HTTPConnection) -> dict[str, Any]:
        return await _context(connection)

    return _Router(
        schema, path="/graphql", graphql_ide=None, allow_queries_via_get=False, context_getter=context,
        subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL], connection_init_wait_timeout=timedelta(seconds=10),
        max_subscriptions_per_connection=20, include_in_schema=False,
    )  # fmt: skip
