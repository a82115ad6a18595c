"""/metrics, /healthz and /readyz of one process, on a small threaded HTTP server."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from vitalgate.config.settings import HealthSettings

Check = Callable[[], "str | None"]
"""Returns None when all is well, else a sentence that says what is not."""


class Health:
    """Named checks; `ready` ones must pass before traffic, `alive` ones as long as the process makes sense."""

    def __init__(self) -> None:
        self.alive: dict[str, Check] = {}
        self.ready: dict[str, Check] = {}

    def failing(self, which: dict[str, Check]) -> dict[str, str]:
        """The failing checks of one kind, with what they say."""
        return {name: text for name, check in list(which.items()) if (text := check()) is not None}


def serve_health(health: Health, settings: HealthSettings) -> ThreadingHTTPServer:
    """Serve in a daemon thread; `.server_address[1]` is the port in use. Raises OSError when the port is taken."""

    class Handler(BaseHTTPRequestHandler):
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

    server = ThreadingHTTPServer((settings.host, settings.port), Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    logging.getLogger(__name__).info("health endpoints", extra={"port": server.server_address[1]})
    return server
