"""Notifications of the user: the list, the live stream, and how to be told outside."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import time
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from vitalgate.api.entry import Caller, Entry, actor_of
from vitalgate.api.hub import Hub
from vitalgate.api.live_routes import frame, hub_of
from vitalgate.api.notices import TITLES
from vitalgate.api.notifier import NotAllowedError, check_webhook
from vitalgate.api.openapi import problem_responses
from vitalgate.api.problems import Problem, not_found
from vitalgate.api.replies import reply
from vitalgate.pki import sealing
from vitalgate.storage.records_database import Transaction

_ERRORS = problem_responses(403, 404, 422)
_LIST = """
    SELECT id, kind, record, record_id, patient_id, created_at, read_at FROM notifications
    WHERE user_id = %s AND id > %s AND (NOT %s OR read_at IS NULL) ORDER BY id LIMIT %s
"""
_NEWEST = """
    SELECT id, kind, record, record_id, patient_id, created_at, read_at FROM notifications
    WHERE user_id = %s AND id < %s AND (NOT %s OR read_at IS NULL) ORDER BY id DESC LIMIT %s
"""
_SETTINGS = """
    SELECT email, webhook_url, muted, quiet_from, quiet_to, zone FROM notification_settings WHERE user_id = %s
"""
_SET = """
    INSERT INTO notification_settings (user_id, email, webhook_url, webhook_secret, muted, quiet_from, quiet_to, zone)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (user_id) DO UPDATE SET email = excluded.email, webhook_url = excluded.webhook_url,
        webhook_secret = excluded.webhook_secret, muted = excluded.muted, quiet_from = excluded.quiet_from,
        quiet_to = excluded.quiet_to, zone = excluded.zone, changed_at = now()
"""
_TOP = 2**62
_BATCH = 200


class Settings(BaseModel):
    """How the user wants to be told, beside the application."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    email: bool = Field(False, description="By letter to the account's address; without any clinical word.")
    webhook_url: str | None = Field(
        None, max_length=500, pattern=r"^https?://[^\x00\s]*$",
        description="A post to this address, signed; hosts are allowed by the organisation (api.webhook_hosts).",
    )  # fmt: skip
    muted: list[str] = Field(default_factory=list, max_length=len(TITLES), description="Kinds not to be told of.")
    quiet_from: time | None = Field(None, description="Begin of the quiet hours; only what is urgent is told outside.")
    quiet_to: time | None = Field(None, description="Their end.")
    zone: str = Field("UTC", max_length=64, description="IANA time zone of the quiet hours.")

    @field_validator("muted")
    @classmethod
    def _known(cls, kinds: list[str]) -> list[str]:
        if unknown := sorted(set(kinds) - set(TITLES)):
            raise ValueError(f"no kind of notification is called {unknown[0][:40]!r}; there are {', '.join(TITLES)}")
        return sorted(set(kinds))

    @field_validator("quiet_from", "quiet_to")
    @classmethod
    def _local(cls, at: time | None) -> time | None:
        if at is not None and at.tzinfo is not None:
            raise ValueError("quiet hours are local times such as 22:00; the time zone is given by zone")
        return at

    @field_validator("zone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{name[:64]!r} is no IANA time zone such as Europe/Berlin") from error
        return name

    @model_validator(mode="after")
    def _both(self) -> Settings:
        if (self.quiet_from is None) != (self.quiet_to is None):
            raise ValueError("give both quietFrom and quietTo, or neither")
        return self


def router() -> APIRouter:
    """Routes below /v1/notifications."""
    made = APIRouter(prefix="/v1/notifications", tags=["Notifications"], responses=_ERRORS)

    @made.get("", operation_id="notifications")
    def notifications(
        caller: Caller, before: Annotated[int, Query(ge=0, le=_TOP)] = _TOP, unread: bool = False,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Response:  # fmt: skip
        """The user's notifications, newest first; `next` goes into `before`."""
        with caller.acting() as tx:
            found = _rows(tx, _NEWEST, before, unread, limit)
        return reply({"data": found, "next": found[-1]["id"] if len(found) == limit else None})

    @made.post("/{id}/read", status_code=204, operation_id="read_notification")
    def read(id: int, caller: Caller) -> Response:
        """Seen."""
        with caller.acting() as tx:
            if (
                not 0 <= id <= _TOP
                or not tx.connection.execute(
                    "UPDATE notifications SET read_at = coalesce(read_at, now()) WHERE id = %s", (id,)
                ).rowcount
            ):
                raise not_found("such notification")
        return Response(status_code=204)

    @made.get("/settings", operation_id="notification_settings", response_model=Settings)
    def settings(caller: Caller) -> Response:
        """How the user is told outside."""
        with caller.acting() as tx:
            return reply(_settings(tx).model_dump(mode="json", by_alias=True))

    @made.put("/settings", operation_id="set_notification_settings")
    def set_settings(body: Settings, caller: Caller) -> Response:
        """Change it. The answer holds the secret that signs the posts of a webhook, this once."""
        if body.webhook_url:
            try:
                check_webhook(body.webhook_url, caller.services.settings.api.webhook_hosts)
            except NotAllowedError as error:
                raise Problem(422, "invalid", f"webhookUrl: {error}.") from error
        secret = secrets.token_urlsafe(32) if body.webhook_url else None
        with caller.acting() as tx:
            user = actor_of(tx).user_id
            sealed = sealing.seal(tx.keys, secret, f"webhook/{user}") if secret else None
            quiet = (body.quiet_from, body.quiet_to, body.zone)
            tx.connection.execute(_SET, (user, body.email, body.webhook_url, sealed, body.muted, *quiet))
        return reply({**body.model_dump(mode="json", by_alias=True), "webhookSecret": secret})

    @made.get("/live", operation_id="live_notifications", response_class=Response,
              responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}})  # fmt: skip
    async def live(
        request: Request, caller: Caller, after: Annotated[int | None, Query(ge=0, le=_TOP)] = None,
        last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    ) -> Response:  # fmt: skip
        """Notifications as they come, as server-sent events; an event's id resumes after it."""
        if after is None and last_event_id and last_event_id.isdigit():
            after = min(int(last_event_id), _TOP)
        await run_in_threadpool(caller.identity)
        if after is None:
            after = await run_in_threadpool(_last, caller)
        body = _stream(caller, hub_of(request), after)
        return StreamingResponse(body, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    return made


def _rows(tx: Transaction, statement: str, bound: int, unread: bool, limit: int) -> list[dict[str, Any]]:
    rows = tx.connection.execute(statement.encode(), (actor_of(tx).user_id, bound, unread, limit)).fetchall()
    return [
        {"id": n, "kind": kind, "title": TITLES.get(kind, kind), "record": record, "recordId": one or None,
         "patient": patient, "createdAt": at, "readAt": read}
        for n, kind, record, one, patient, at, read in rows
    ]  # fmt: skip


def _settings(tx: Transaction) -> Settings:
    row = tx.connection.execute(_SETTINGS, (actor_of(tx).user_id,)).fetchone()
    if row is None:
        return Settings()
    email, url, muted, start, stop, zone = row
    return Settings(email=email, webhook_url=url, muted=muted, quiet_from=start, quiet_to=stop, zone=zone)


def _last(caller: Entry) -> int:
    with caller.acting() as tx:
        row = tx.connection.execute("SELECT coalesce(max(id), 0) FROM notifications").fetchone()
    return int(row[0]) if row else 0


def _after(caller: Entry, after: int) -> list[dict[str, Any]]:
    # The session may have ended: who is logged out is told nothing more.
    caller.forget()
    with caller.acting() as tx:
        return _rows(tx, _LIST, after, False, _BATCH)


async def _stream(caller: Entry, hub: Hub, after: int) -> AsyncIterator[bytes]:
    user = caller.identity().user_id
    heartbeat = caller.services.settings.api.live_heartbeat_s
    with hub.bell.hear(user) as heard:
        yield b"retry: 1000\n" + frame("ready", after, {"position": after})
        while not hub.stopping:
            heard.clear()
            try:
                found = await run_in_threadpool(_after, caller, after)
            except Exception:
                yield frame("ended", after, {"why": "logged out, or the database is away"})
                return
            for one in found:
                after = one["id"]
                yield frame("notification", after, one)
            if len(found) == _BATCH:
                continue
            try:
                await asyncio.wait_for(heard.wait(), heartbeat)
            except TimeoutError:
                yield b": still there\n\n"
