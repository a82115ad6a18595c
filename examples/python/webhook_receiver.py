"""Takes alert notifications of Vitalgate: verifies them, drops repeats, keeps them, and only then says yes.

    export VG_WEBHOOK_SECRET="whsec_…"          # the same as the destination's
    python webhook_receiver.py 8090 seen.sqlite

`vitalgate.handover.signature` needs the standard library only; copy the file when Vitalgate is not installed here.
Behind a proxy that ends TLS, this is all there is to it; docs/handover.md has the rules.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from vitalgate.handover.signature import SignatureError, keys_of, verify

#: Notifications are of a few kilobytes.
MOST_BYTES = 256 * 1024
#: A repeat comes within a day; an older message is refused by its timestamp anyhow.
KEEP_S = 2 * 86400


class Seen:
    """Notifications that were taken, on disk: a restart forgets none."""

    def __init__(self, file: str) -> None:
        self._file = file
        with self._open() as database:
            database.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at REAL, body TEXT)")

    def take(self, identity: str, body: bytes) -> bool:
        """Keep one; False when it was there already."""
        with self._open() as database:
            database.execute("DELETE FROM seen WHERE at < ?", (time.time() - KEEP_S,))
            done = database.execute(
                "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (identity, time.time(), body.decode())
            )
            return done.rowcount == 1

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=5)


def serve(port: int, file: str, secrets: str) -> ThreadingHTTPServer:
    """A server that is ready to run."""
    keys, seen = keys_of(secrets), Seen(file)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("content-length", "")
            if not length.isdigit() or int(length) > MOST_BYTES:
                self.answer(413)
                return
            body = self.rfile.read(int(length))
            try:
                identity = verify(keys, dict(self.headers.items()), body, time.time())
            except SignatureError as error:
                print(f"refused: {error}", file=sys.stderr)
                self.answer(401)
                return
            if seen.take(identity, body):
                notification = json.loads(body)
                print(f"{notification['data']['priority']:<7} {notification['text'].splitlines()[0]}", flush=True)
            self.answer(204)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing of requests: what was told is printed above."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    if len(sys.argv) != 3 or "VG_WEBHOOK_SECRET" not in os.environ:
        sys.exit("usage: VG_WEBHOOK_SECRET=whsec_… python webhook_receiver.py PORT FILE")
    with serve(int(sys.argv[1]), sys.argv[2], os.environ["VG_WEBHOOK_SECRET"]) as server:
        print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()
