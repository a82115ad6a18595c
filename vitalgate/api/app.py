"""The application: routes, middleware, and what lives as long as the process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

from vitalgate import __version__
from vitalgate.api import (
    accounts_routes,
    care_routes,
    files_routes,
    live_routes,
    notification_routes,
    openapi,
    orphans,
    plan_limits,
    problems,
    readings_routes,
    records_routes,
    sign_on_routes,
)
from vitalgate.api.edge import Edge
from vitalgate.api.file_store import FileStore, StoreAway, open_store
from vitalgate.api.graphql_gate import GraphQLGate
from vitalgate.api.hub import Hub
from vitalgate.api.notifier import Notifier
from vitalgate.api.quick import Quick
from vitalgate.api.replies import reply
from vitalgate.api.services import Services, limiters
from vitalgate.config.settings import Settings
from vitalgate.pki import keyring
from vitalgate.pki.keyring import KeyRing
from vitalgate.storage.errors import StorageError
from vitalgate.storage.records_database import RecordsDatabase

log = logging.getLogger(__name__)

#: Requests worked on at once; more wait their turn.
_THREADS = 40
_GZIP_LEAST = 1024


def make_services(settings: Settings, ring: KeyRing | None = None) -> Services:
    """The parts of a process, by its settings.

    Raises
    ------
    SettingsError, BadKeyRing, RuleError
        When a file store, a key ring or the alert rules cannot be used.
    """
    api = settings.api
    ring = ring or keyring.read(settings.security.keys_file)
    settings = _with_files(settings)
    users, anonymous = limiters(settings)
    return Services(
        settings=settings,
        database=RecordsDatabase(
            settings.database,
            ring,
            most=api.connections,
            further=plan_limits.checks(settings.alerting.rules),
            flush_reads=api.flush_reads,
        ),
        ring=ring,
        files=open_files(settings, ring),
        users=users,
        anonymous=anonymous,
        base_url=(api.public_url or f"http://{api.host}:{api.port}").rstrip("/"),
        later=ThreadPoolExecutor(1, thread_name_prefix="letters"),
    )


def open_files(settings: Settings, ring: KeyRing) -> FileStore:
    """Where uploaded files lie. Raises SettingsError when it cannot be used."""
    api = _with_files(settings).api
    return FileStore(open_store(api), ring, api.upload_max_mb * 1024 * 1024)


def _with_files(settings: Settings) -> Settings:
    if settings.api.files:
        return settings
    folder = str(Path(settings.stack.data) / "files")
    return settings.model_copy(update={"api": settings.api.model_copy(update={"files": folder})})


async def _tidy_files(services: Services) -> None:
    """Now and then, as long as the process lives; nothing waits for it."""
    while True:
        await asyncio.sleep(orphans.EVERY_S)
        try:
            removed = await orphans.tidy(services.database, services.files)
        except (StorageError, StoreAway) as error:
            log.warning("files are tidied later", extra={"detail": str(error)})
        else:
            log.info("files", extra={"unnamed": removed.unnamed, "strays": removed.strays, "bytes": removed.size})


def make_app(services: Services, *, playground: str = "") -> FastAPI:
    """The application around its parts; they are opened and closed with it.

    Parameters
    ----------
    playground
        A page (HTML) that is served at `/`, with sample data only.
    """

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        services: Services = app.state.services
        services.database.open()
        hub = app.state.hub = Hub(services.database, services.settings)
        working = asyncio.create_task(hub.run())
        tidying = asyncio.create_task(_tidy_files(services))
        teller = app.state.notifier = Notifier(services.database, services.settings)
        hub.on_wake = teller.wake
        teller.start()
        try:
            yield
        finally:
            hub.stop()
            for task in (working, tidying):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(teller.stop)
            services.later.shutdown(wait=False, cancel_futures=True)
            services.database.close()

    app = bare_app(services.settings)
    app.router.lifespan_context = life
    app.state.services = services
    if playground:
        _serve_page(app, playground)
    return app


def _serve_page(app: FastAPI, page: str) -> None:
    # The page is one file without anything from elsewhere; its own script and style may run.
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"

    @app.get("/", include_in_schema=False)
    def front() -> Response:
        return Response(page, media_type="text/html", headers={"content-security-policy": policy})


def bare_app(settings: Settings) -> FastAPI:
    """The application without its parts: enough to describe it."""
    app = FastAPI(
        title="Vitalgate", version=__version__, openapi_url=None, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    problems.install(app)
    app.include_router(accounts_routes.router())
    app.include_router(sign_on_routes.router())
    app.include_router(notification_routes.router())
    app.include_router(care_routes.router())
    app.include_router(readings_routes.router())
    app.include_router(files_routes.router())
    app.include_router(live_routes.router())
    app.include_router(records_routes.router())
    described: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not described:
            described.update(openapi.document(app))
        return described

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's way to give one's own

    @app.get("/v1/openapi.json", include_in_schema=False)
    def openapi_document() -> Response:
        return reply(app.openapi())

    app.add_middleware(Quick, state=app.state, threads=settings.api.connections)
    app.add_middleware(GraphQLGate, state=app.state, settings=settings.api)
    app.add_middleware(GZipMiddleware, minimum_size=_GZIP_LEAST, compresslevel=5)
    if settings.api.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=[one.strip() for one in settings.api.cors_origins.split(",")],
            allow_methods=["GET", "POST", "PATCH"],
            allow_headers=["authorization", "content-type", "if-match", "if-none-match", "idempotency-key",
                           "last-event-id", "x-role", "range", "traceparent"],
            expose_headers=["etag", "link", "location", "retry-after", "x-request-id"],
        )  # fmt: skip
    app.add_middleware(Edge, body_max=settings.api.body_max_kb * 1024)
    return app
