"""When users are told outside, and in which words; letters and posts that are sent, signed and tried again."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.conftest import Api
from vitalgate.api.notices import KINDS, TITLES, URGENT, Wishes, backoff, due
from vitalgate.api.notifier import NotAllowedError, check_webhook

QUIET = Wishes(quiet_from=clock(22), quiet_to=clock(7), zone="Europe/Berlin")


def test_quiet_hours_are_the_users_own() -> None:
    evening = datetime(2026, 1, 10, 22, 30, tzinfo=UTC)  # 23:30 in Berlin
    assert due(evening, QUIET, "new-message") == datetime(2026, 1, 11, 6, 0, tzinfo=UTC)
    assert due(evening, QUIET, "alert") == evening
    noon = datetime(2026, 1, 10, 12, 0, tzinfo=UTC)
    assert due(noon, QUIET, "new-message") == noon
    assert due(evening, Wishes(), "new-message") == evening


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)), st.times(), st.times())
def test_nothing_is_told_in_quiet_hours_nor_a_day_late(moment: datetime, start: clock, stop: clock) -> None:
    now = moment.replace(tzinfo=UTC)
    wishes = Wishes(quiet_from=start.replace(tzinfo=None), quiet_to=stop.replace(tzinfo=None), zone="Europe/Berlin")
    told = due(now, wishes, "new-message")
    assert now - timedelta(hours=1) <= told <= now + timedelta(hours=25)
    if start != stop:
        assert due(told, wishes, "new-message") - told <= timedelta(hours=1)  # a clock that is put back, at most


def test_every_kind_has_words_without_a_value() -> None:
    assert set(KINDS.values()) == set(TITLES) and set(TITLES) >= URGENT
    assert backoff(1) == timedelta(seconds=15) and backoff(40) == timedelta(hours=1)


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "https://elsewhere.org/", "file:///etc/passwd", "https://"])
def test_webhooks_go_only_where_the_organisation_allows(url: str) -> None:
    with pytest.raises(NotAllowedError):
        check_webhook(url, "hooks.example.org")
    check_webhook("https://hooks.example.org/in", "other.org, hooks.example.org")


@pytest.fixture
def receiver() -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    """A webhook that fails once."""
    taken: list[tuple[str, bytes]] = []
    failed: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if not failed:
                failed.append(1)
                self.send_response(500)
            else:
                taken.append((self.headers["x-vitalgate-signature"], body))
                self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], taken
    server.shutdown()


def test_a_post_is_signed_tried_again_and_says_nothing_clinical(
    api: Api, receiver: tuple[int, list[tuple[str, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, taken = receiver
    settings = api.services.settings
    allowed = settings.model_copy(update={"api": settings.api.model_copy(update={"webhook_hosts": "127.0.0.1"})})
    monkeypatch.setattr(api.services, "settings", allowed)
    monkeypatch.setattr("vitalgate.api.notifier.check_webhook", lambda _url, _hosts: None)
    monkeypatch.setattr("vitalgate.api.notifier.backoff", lambda _attempts: timedelta(seconds=0))
    with api.client("bert") as bert, api.client("ada") as ada:
        made = bert.put("/v1/notifications/settings", json={
            "webhookUrl": f"http://127.0.0.1:{port}/hook", "muted": ["new-plan"],
        })  # fmt: skip
        assert made.status_code == 200, made.text
        secret = made.json()["webhookSecret"]
        assert bert.get("/v1/notifications/settings").json()["muted"] == ["new-plan"]
        assert ada.get("/v1/notifications/settings").json()["webhookUrl"] is None
        from tests.api.people import begin_care, end_care

        begin_care(api.services.database, api.people["carla"], "p-bert")
        with api.client("carla") as carla:
            sent = carla.post("/v1/messages", json={"patient": "p-bert", "body": "secret words"}).json()
        until = time.monotonic() + 30
        while not taken and time.monotonic() < until:
            time.sleep(0.1)
        end_care(api.services.database, api.people["carla"], "p-bert")
    ((signature, body),) = taken
    stamp, _, value = signature.partition(",v1=")
    expected = hmac.new(secret.encode(), stamp[2:].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(value, expected)
    told = json.loads(body)
    assert told["recordId"] == sent["id"] and b"secret" not in body
