"""Tells users what happened: notifications in the application at once, letters and posts outside when they are due.

Every API process runs one; a lock in the database lets one of them work. What was told up to which change is written in
the transaction of the notifications, so that a process that dies tells nobody twice and nothing to nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import orjson
import psycopg

from vitalgate.api.mail import Letter, NotSentError, send
from vitalgate.api.notices import KINDS, MOST_ATTEMPTS, TITLES, Wishes, backoff, due
from vitalgate.config.settings import Settings
from vitalgate.pki import sealing
from vitalgate.records.permissions import Role
from vitalgate.storage import records_changes, records_read
from vitalgate.storage.connect import connect
from vitalgate.storage.errors import StorageError
from vitalgate.storage.records_changes import Change
from vitalgate.storage.records_database import Actor, RecordsDatabase, Transaction

log = logging.getLogger(__name__)
CHANNEL = "notifications"
"""NOTIFY channel; the payload is schema:user."""
_SERVICE = "service:notifier"
_PAUSE_S = 1.0
#: Changes come with each batch of readings that is stored, dozens a second: those of so long are worked off at once.
_GAP_S = 0.2
_BATCH = 1000
_AT_ONCE = 20
_TIDY_EVERY_S = 3600.0
_TIMEOUT_S = 10.0
#: An advisory lock; the second number is of the deployment.
_LOCK = 0x7669_7461

_CONCERNED = """
    SELECT r.patient_id, r.user_id, r.role FROM relations r
    WHERE r.patient_id = ANY(%s) AND r.relation IN ('own', 'assigned')
"""
_AUTHORS = """
    SELECT v.record, v.id, v.version, v.by FROM record_versions v
    JOIN unnest(%s::text[], %s::text[], %s::integer[]) AS w (record, id, version)
      ON v.record = w.record AND v.id = w.id AND v.version = w.version
"""
_WISHES = """
    SELECT user_id, email, coalesce(webhook_url, ''), muted, quiet_from, quiet_to, zone FROM notification_settings
    WHERE user_id = ANY(%s)
"""
_TELL = """
    INSERT INTO notifications (user_id, position, kind, record, record_id, patient_id) VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (user_id, position) DO NOTHING RETURNING id
"""
_DUE = """
    SELECT p.notification_id, p.channel, p.attempts, n.user_id, n.kind, n.record, n.record_id, n.created_at
    FROM notification_posts p JOIN notifications n ON n.id = p.notification_id
    WHERE p.sent_at IS NULL AND p.failed_at IS NULL AND p.due_at <= now()
    ORDER BY p.due_at LIMIT %s
"""


@dataclass(frozen=True)
class _Post:
    notification: int
    channel: str
    attempts: int
    user: str
    kind: str
    record: str
    record_id: str
    created_at: datetime


class NotAllowedError(Exception):
    """A webhook's address is not one that the organisation allows."""


class Notifier:
    """Works in a thread of its own until it is stopped."""

    def __init__(self, database: RecordsDatabase, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is in hand."""
        self._stop.set()
        self._wake.set()
        self._thread.join(15)

    def wake(self) -> None:
        """Something has changed."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with connect(self._settings.database, "notifier", autocommit=True) as lock:
                    self._work_under(lock)
            except (StorageError, psycopg.Error, OSError) as error:
                log.warning("notifications wait", extra={"detail": f"{type(error).__name__}: {error}"})
                self._stop.wait(_PAUSE_S)

    def _work_under(self, lock: psycopg.Connection[tuple[object, ...]]) -> None:
        schema = self._settings.database.db_schema
        while not self._stop.is_set():
            row = lock.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_LOCK, schema)).fetchone()
            if row and row[0]:
                break
            self._stop.wait(_PAUSE_S)
        tidied = -_TIDY_EVERY_S
        while not self._stop.is_set():
            if time.monotonic() - tidied > _TIDY_EVERY_S:
                self.tidy()
                tidied = time.monotonic()
            lock.execute("SELECT 1")  # raises when the connection, and with it the lock, is gone
            while self.tell() and not self._stop.is_set():
                pass
            while self.post() and not self._stop.is_set():
                pass
            self._stop.wait(_GAP_S)
            self._wake.wait(_PAUSE_S)
            self._wake.clear()

    def tidy(self) -> None:
        """Forget what nobody asks for any more: answers kept for idempotency keys, notifications of long ago."""
        with self._database.service(_SERVICE) as tx:
            tx.connection.execute("DELETE FROM api_requests WHERE created_at < now() - interval '2 days'")
            tx.connection.execute("DELETE FROM notifications WHERE created_at < now() - interval '1 year'")

    # --- telling ----------------------------------------------------------------------------------------------------

    def tell(self) -> int:
        """Work off changes that nobody has been told of; returns how many."""
        records_changes.number(self._database)
        with self._database.service(_SERVICE) as tx:
            tx.connection.execute(
                "INSERT INTO notified (position) SELECT coalesce(max(position), 0) FROM changes ON CONFLICT DO NOTHING"
            )
            row = tx.connection.execute("SELECT position FROM notified").fetchone()
        assert row is not None
        position = int(row[0])
        changes = records_changes.read(self._database, position, _BATCH)
        if not changes:
            return 0
        worth = [change for change in changes if (change.record, change.verb) in KINDS and change.patient]
        told = self._whom(worth) if worth else {}
        with self._database.service(_SERVICE) as tx:
            # Nobody else has told them meanwhile: the position is still what it was.
            moved = tx.connection.execute(
                "UPDATE notified SET position = %s WHERE position = %s", (changes[-1].position, position)
            ).rowcount
            if moved:
                self._write(tx, worth, told)
        return len(changes)

    def _whom(self, changes: Sequence[Change]) -> dict[int, list[str]]:
        """Users to tell of each change, by its position: who is concerned, may see it, and did not do it."""
        with self._database.service(_SERVICE) as tx:
            concerned = tx.connection.execute(_CONCERNED, ([change.patient for change in changes],)).fetchall()
            found = tx.connection.execute(
                _AUTHORS,
                ([c.record for c in changes], [c.id for c in changes], [c.version for c in changes]),
            ).fetchall()
        authors: dict[tuple[str, str, int], str] = {(record, one, version): by for record, one, version, by in found}
        of_patient: dict[str, set[tuple[str, str]]] = {}
        for patient, user, role in concerned:
            of_patient.setdefault(patient, set()).add((user, role))
        watchers = sorted({pair for pairs in of_patient.values() for pair in pairs})
        seen = records_changes.deliver(
            self._database, changes, [Actor(user, Role(role)) for user, role in watchers]
        )  # fmt: skip
        told: dict[int, list[str]] = {}
        for change in changes:
            near = of_patient.get(change.patient or "", set())
            by = authors.get((change.record, change.id, change.version), "")
            users = {watchers[index][0] for index in seen.get(change.position, []) if watchers[index] in near}
            told[change.position] = sorted(users - {by})
        return told

    def _write(self, tx: Transaction, changes: Sequence[Change], told: dict[int, list[str]]) -> None:
        users = sorted({user for those in told.values() for user in those})
        wishes = {row[0]: Wishes(*row[1:]) for row in tx.connection.execute(_WISHES, (users,))}
        now = datetime.now(UTC)
        for change in changes:
            kind = KINDS[change.record, change.verb]
            for user in told.get(change.position, []):
                wish = wishes.get(user, Wishes())
                if kind in wish.muted:
                    continue
                row = tx.connection.execute(
                    _TELL, (user, change.position, kind, change.record, change.id, change.patient)
                ).fetchone()
                if row is None:
                    continue
                for channel in wish.channels():
                    tx.connection.execute(
                        "INSERT INTO notification_posts (notification_id, channel, due_at) VALUES (%s, %s, %s)",
                        (row[0], channel, due(now, wish, kind)),
                    )
                tx.connection.execute(
                    "SELECT pg_notify(%s, %s)", (CHANNEL, f"{self._settings.database.db_schema}:{user}")
                )

    # --- outside ----------------------------------------------------------------------------------------------------

    def post(self) -> int:
        """Send what is due; returns how many were tried."""
        with self._database.service(_SERVICE) as tx:
            posts = [_Post(*row) for row in tx.connection.execute(_DUE, (_AT_ONCE,))]
        for one in posts:
            error = self._try(one)
            attempts = one.attempts + 1
            failed = error is not None and attempts >= MOST_ATTEMPTS
            with self._database.service(_SERVICE) as tx:
                tx.connection.execute(
                    "UPDATE notification_posts SET attempts = %s, error = %s, due_at = now() + %s,"
                    " sent_at = CASE WHEN %s THEN now() END, failed_at = CASE WHEN %s THEN now() END"
                    " WHERE notification_id = %s AND channel = %s",
                    (attempts, error, backoff(attempts), error is None, failed, one.notification, one.channel),
                )
        return len(posts)

    def _try(self, one: _Post) -> str | None:
        """Send one; None when it is done, else what was wrong."""
        import httpx  # slow to load, and most deployments post nothing

        try:
            with self._database.service(_SERVICE) as tx:
                user = records_read.get(tx, "user", one.user)
                row = tx.connection.execute(
                    "SELECT webhook_url, webhook_secret FROM notification_settings WHERE user_id = %s", (one.user,)
                ).fetchone()
                secret = sealing.unseal(tx.keys, row[1], f"webhook/{one.user}") if row and row[1] else b""
            if user.values.get("status") != "active":
                return None
            if one.channel == "email":
                text = f"{TITLES[one.kind]}.\n\nOpen the application to see it.\n"
                sent = send(self._settings.api, Letter(str(user.values["email"]), TITLES[one.kind], text))
                return None if sent else "no mail server is set (api.mail_server)"
            if not row or not row[0]:
                return None
            return self._call(one, row[0], secret)
        except (NotSentError, NotAllowedError, httpx.HTTPError, sealing.SealError) as error:
            return f"{type(error).__name__}: {error}"[:300]

    def _call(self, one: _Post, url: str, secret: bytes) -> str | None:
        import httpx

        check_webhook(url, self._settings.api.webhook_hosts)
        body = orjson.dumps({
            "id": one.notification, "kind": one.kind, "title": TITLES[one.kind], "record": one.record,
            "recordId": one.record_id, "createdAt": one.created_at,
        }, option=orjson.OPT_UTC_Z)  # fmt: skip
        stamp = str(int(datetime.now(UTC).timestamp()))
        signature = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        answer = httpx.post(
            url, content=body, timeout=_TIMEOUT_S, follow_redirects=False,
            headers={"content-type": "application/json", "x-vitalgate-signature": f"t={stamp},v1={signature}"},
        )  # fmt: skip
        return None if answer.is_success else f"the webhook answered {answer.status_code}"


def check_webhook(url: str, hosts: str) -> None:
    """Refuse an address that the organisation does not allow: an open choice would let users reach inside.

    Raises
    ------
    NotAllowedError
        Naming what is allowed.
    """
    allowed = {one.strip().lower() for one in hosts.split(",") if one.strip()}
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or (parts.hostname or "").lower() not in allowed:
        raise NotAllowedError(f"webhooks may go to {', '.join(sorted(allowed)) or 'nowhere'} (api.webhook_hosts)")
