"""The process `vitalgate api`: uvicorn around the application, with health endpoints and an end that is not awaited."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
import uvloop
from starlette.types import ASGIApp

from vitalgate.config.settings import Settings
from vitalgate.telemetry import collector
from vitalgate.telemetry.health import Health, serve_health
from vitalgate.telemetry.logs import start_logging
from vitalgate.telemetry.out_of_memory import end_when_out_of_memory

log = logging.getLogger(__name__)
#: Seconds that running requests have to finish after SIGTERM.
GRACE_S = 8
#: How long a thread keeps the interpreter while another wants it; Python's own is five times that.
_SWITCH_S = 0.001


class Server(uvicorn.Server):
    """Uvicorn that ends open live queries first: they would never end by themselves.

    Parameters
    ----------
    stopping
        Called once, in the event loop, when the server has been asked to stop.
    """

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End live queries, then everything else."""
        self._stopping()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # signals are handled by `run`
        """Leave signals alone."""
        yield


def configuration(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    """How uvicorn runs the application."""
    return uvicorn.Config(
        app, host, port, log_config=None, access_log=False, server_header=False, lifespan="on",
        ws="websockets-sansio", ws_max_size=262_144, timeout_graceful_shutdown=GRACE_S, timeout_keep_alive=30,
        proxy_headers=False, backlog=2048,
    )  # fmt: skip


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def run(settings: Settings, health: Health, app: ASGIApp, stopping: Callable[[], None]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    start_logging("api", settings.log)
    end_when_out_of_memory()
    collector.settle()
    # Requests that compute (samples, documents) give way to the event loop before others wait long for it.
    sys.setswitchinterval(_SWITCH_S)
    for noisy in ("uvicorn.error", "uvicorn.access", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    listener = listen(settings.api.host, settings.api.port)
    server = Server(configuration(app, settings.api.host, settings.api.port), stopping)
    health.ready["api"] = lambda: None if server.started else "the API does not listen yet"
    pages = serve_health(health, settings.health)

    async def serve() -> None:
        loop = asyncio.get_running_loop()

        def asked() -> None:
            log.info("asked to stop")
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked)
        log.info("api", extra={"port": listener.getsockname()[1]})
        await server.serve(sockets=[listener])

    uvloop.run(serve())
    pages.shutdown()
    return 0
