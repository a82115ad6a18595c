"""A receiver of webhooks on this machine that fails in every way a test asks for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="


@dataclass
class Got:
    """One request."""

    headers: dict[str, str]
    body: bytes
    at: float
    status: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """Answers with `status`, or what `script` says first, one entry a request: a status or (status, headers)."""

    url: str = ""
    status: int = 200
    hang_s: float = 0.0
    script: list[Any] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)

    @property
    def taken(self) -> list[Got]:
        """What it has accepted, each id once: as a receiver has to."""
        return list({one.id: one for one in reversed(self.got) if one.status < 300}.values())[::-1]


@contextmanager
def receiver(port: int = 0, **options: Any) -> Iterator[Receiver]:
    made = Receiver(**options)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            body = self.rfile.read(length)
            if len(body) < length:  # whoever sent it has given up meanwhile
                self.close_connection = True
                return
            entry = made.script.pop(0) if made.script else made.status
            status, headers = entry if isinstance(entry, tuple) else (entry, {})
            made.got.append(Got({k.lower(): v for k, v in self.headers.items()}, body, time.time(), status))
            over.wait(made.hang_s)
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()
            except OSError:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
