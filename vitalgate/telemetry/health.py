"""/metrics, /healthz and /readyz of one process, on a small HTTP server with threads of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from vitalgate.config.settings import HealthSettings

Check = Callable[[], "str | None"]
"""Returns None when all is well, else a sentence that says what is not."""

_THREADS = 3
#: Connections that wait for one of them; more are closed.
_WAITING = 32
#: How long a client may be silent.
_SILENT_S = 5.0


class Health:
    """Named checks; `ready` ones must pass before traffic, `alive` ones as long as the process makes sense."""

    def __init__(self) -> None:
        self.alive: dict[str, Check] = {}
        self.ready: dict[str, Check] = {}

    def failing(self, which: dict[str, Check]) -> dict[str, str]:
        """The failing checks of one kind, with what they say."""
        return {name: text for name, check in list(which.items()) if (text := check()) is not None}


class HealthServer(HTTPServer):
    """Answers on threads that are there from the begin.

    None is started for a request: a thread that finds no memory at its start makes whoever starts it wait for good, and
    the endpoints would be silent long after there is memory again.
    """

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._waiting: queue.Queue[tuple[Any, Any] | None] = queue.Queue(_WAITING)
        self._closed = False
        for number in range(_THREADS):
            threading.Thread(target=self._answer, name=f"health-{number}", daemon=True).start()
        threading.Thread(target=self._listen, name="health", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to the threads; with too many waiting it is closed."""
        try:
            self._waiting.put_nowait((request, client_address))
        except queue.Full:
            self.shutdown_request(request)

    def shutdown(self) -> None:
        """Take no more connections."""
        self._closed = True
        super().shutdown()

    def server_close(self) -> None:
        """Close the port and end the threads."""
        super().server_close()
        for _ in range(_THREADS):
            self._waiting.put(None)

    def _listen(self) -> None:
        while not self._closed:
            try:
                self.serve_forever()
            except Exception:  # such as for want of memory; the next round may have it
                time.sleep(0.1)

    def _answer(self) -> None:
        while True:
            # A client that went away, or want of memory: the next one is to be answered.
            with contextlib.suppress(Exception):
                given = self._waiting.get()
                if given is None:
                    return
                try:
                    self.finish_request(*given)
                finally:
                    self.shutdown_request(given[0])


def serve_health(health: Health, settings: HealthSettings) -> HealthServer:
    """Serve in daemon threads; `.server_address[1]` is the port in use. Raises OSError when the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _SILENT_S

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(), CONTENT_TYPE_LATEST)
            elif self.path in ("/healthz", "/readyz"):
                bad = health.failing(health.alive)
                if self.path == "/readyz":
                    bad |= health.failing(health.ready)
                body = json.dumps({"status": "failing" if bad else "ok", "failing": bad}).encode()
                self._answer(503 if bad else 200, body, "application/json")
            else:
                self._answer(404, b'{"status":"no such page; try /metrics, /healthz or /readyz"}', "application/json")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    server = HealthServer((settings.host, settings.port), Handler)
    logging.getLogger(__name__).info("health endpoints", extra={"port": server.server_address[1]})
    return server
