"""Accounts over HTTP: sign-up by letter, second factor, refresh, theft, log-out everywhere, lock-out, limits."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

import httpx
import pyotp
import pytest
from aiosmtpd.controller import Controller

from tests.api.conftest import Api
from tests.api.people import PASSWORD
from vitalgate.api.serve import listen


class _Letters:
    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        body = message_from_bytes(envelope.content).get_payload(decode=True)
        assert isinstance(body, bytes)
        self.taken.append((envelope.rcpt_tos[0], body.decode().replace("\r\n", "\n")))
        return "250 OK"


@pytest.fixture
def letters(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Letters]:
    """A mail server, and the API sending to it."""
    handler = _Letters()
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    settings = api.services.settings
    api_settings = settings.api.model_copy(update={"mail_server": f"127.0.0.1:{port}", "mail_tls": False})
    monkeypatch.setattr(api.services, "settings", settings.model_copy(update={"api": api_settings}))
    yield handler
    controller.stop()


def _wait_for(api: Api) -> None:
    api.services.later.submit(lambda: None).result(20)


def test_a_patient_signs_up_is_approved_and_logs_in(api: Api, letters: _Letters) -> None:
    email = f"{uuid.uuid4().hex}@example.org"
    with api.client() as nobody, api.client("ada") as ada:
        body = {"email": email, "password": PASSWORD, "name": "New", "role": "patient"}
        first = nobody.post("/v1/auth/sign-up", json=body)
        assert first.status_code == 201, first.text
        _wait_for(api)
        ((to, text),) = letters.taken
        assert to == email
        token = text.split("\n\n")[1].strip()
        assert nobody.post("/v1/auth/log-in", json={"email": email, "password": PASSWORD}).status_code == 401
        assert nobody.post("/v1/auth/verify-email", json={"token": token}).status_code == 200
        assert nobody.post("/v1/auth/log-in", json={"email": email, "password": PASSWORD}).status_code == 401
        # An address that has an account gets the same answer, and its owner a letter.
        again = nobody.post("/v1/auth/sign-up", json=body)
        assert (again.status_code, again.json()["status"]) == (201, first.json()["status"])
        _wait_for(api)
        assert "has one already" in letters.taken[-1][1]
        (user,) = ada.get("/v1/users", params={"email": email}).json()["data"]
        with api.client("anna") as anna:
            assert anna.post(f"/v1/users/{user['id']}/approve", json={"patient": "p-new"}).status_code in (403, 404)
        created = ada.post("/v1/patients", json={
            "patient": f"p-{user['id'][:8]}", "medicalRecordNumber": user["id"], "displayName": "New",
            "dateOfBirth": "1970-01-01",
        })  # fmt: skip
        assert created.status_code == 201, created.text
        approved = ada.post(f"/v1/users/{user['id']}/approve", json={"patient": created.json()["id"]})
        assert approved.status_code == 204, approved.text
        logged_in = nobody.post("/v1/auth/log-in", json={"email": email, "password": PASSWORD})
        assert logged_in.status_code == 200
        headers = {"authorization": f"Bearer {logged_in.json()['accessToken']}"}
        assert nobody.get("/v1/auth/me", headers=headers).json()["role"] == "patient"
        assert ada.post(f"/v1/users/{user['id']}/disable").status_code == 204
        assert nobody.get("/v1/auth/me", headers=headers).status_code == 401


def test_a_second_factor_is_asked_for(api: Api) -> None:
    person = api.people["bert"]
    with api.client("bert") as bert, api.client() as nobody:
        uri = bert.post("/v1/auth/second-factor").json()["uri"]
        totp = pyotp.parse_uri(uri)
        assert isinstance(totp, pyotp.TOTP)
        assert bert.post("/v1/auth/second-factor/confirm", json={"code": totp.now()}).status_code == 204
        body = {"email": person.email, "password": PASSWORD}
        half = nobody.post("/v1/auth/log-in", json=body).json()
        assert half["secondFactorNeeded"] and not half["accessToken"]
        assert nobody.post("/v1/auth/log-in", json={**body, "code": "000000"}).status_code == 401
        assert bert.post("/v1/auth/second-factor/drop", json={"password": PASSWORD}).status_code == 204
        assert nobody.post("/v1/auth/log-in", json=body).json()["accessToken"]


def _log_in(client: httpx.Client, api: Api, name: str) -> dict[str, Any]:
    found: dict[str, Any] = client.post(
        "/v1/auth/log-in", json={"email": api.people[name].email, "password": PASSWORD, "application": "test"}
    ).json()
    return found


def test_a_refresh_token_is_good_once_and_a_stolen_one_ends_the_session(api: Api) -> None:
    with api.client() as client:
        tokens = _log_in(client, api, "mick")
        second = client.post("/v1/auth/refresh", json={"refreshToken": tokens["refreshToken"]})
        assert second.status_code == 200
        assert client.post("/v1/auth/refresh", json={"refreshToken": tokens["refreshToken"]}).status_code == 401
        headers = {"authorization": f"Bearer {second.json()['accessToken']}"}
        assert client.get("/v1/auth/me", headers=headers).status_code == 401


def test_sessions_are_listed_and_ended(api: Api) -> None:
    with api.client() as client:
        one, two, three = (_log_in(client, api, "mick") for _ in range(3))
        headers = {"authorization": f"Bearer {one['accessToken']}"}
        listed = client.get("/v1/sessions", headers=headers).json()["data"]
        assert {one["session"], two["session"], three["session"]} <= {session["id"] for session in listed}
        assert client.post(f"/v1/sessions/{two['session']}/end", headers=headers).status_code == 204
        assert client.get("/v1/auth/me", headers={"authorization": f"Bearer {two['accessToken']}"}).status_code == 401
        with api.client("anna") as anna:
            assert anna.post(f"/v1/sessions/{three['session']}/end").status_code == 404
        keep = client.post("/v1/auth/log-out-everywhere", json={"keepThis": True}, headers=headers)
        assert keep.status_code == 204
        assert client.get("/v1/auth/me", headers={"authorization": f"Bearer {three['accessToken']}"}).status_code == 401
        assert client.get("/v1/auth/me", headers=headers).status_code == 200
        assert client.post("/v1/auth/log-out", headers=headers).status_code == 204
        assert client.get("/v1/auth/me", headers=headers).status_code == 401
        log = _log_in(client, api, "mick")
        api.people["mick"].tokens = log


def test_guessing_locks_an_account_out_for_a_while(api: Api) -> None:
    person = api.people["dora"]
    with api.client() as client:
        answers = [
            client.post("/v1/auth/log-in", json={"email": person.email, "password": f"guess-{n}"}) for n in range(12)
        ]
        locked = answers[-1]
        assert locked.status_code == 429 and int(locked.headers["retry-after"]) > 0
        right = client.post("/v1/auth/log-in", json={"email": person.email, "password": PASSWORD})
        assert right.status_code == 429
        # Who is logged in stays so.
        with api.client("dora") as dora:
            assert dora.get("/v1/auth/me").status_code == 200
            assert dora.post(f"/v1/users/{person.user}/enable").status_code in (403, 404)
        with api.client("ada") as ada:
            assert ada.post(f"/v1/users/{person.user}/enable").status_code == 204
            log = ada.get("/v1/audit-log", params={"action": "user.enable", "limit": 1, "sort": "-createdAt"}).json()
            assert log["data"][0]["entityId"] == person.user and log["data"][0]["payload"]["lifted"] is True
            again = ada.post(f"/v1/users/{person.user}/enable")
            assert again.status_code == 409 and "not locked" in again.json()["detail"]
        assert client.post("/v1/auth/log-in", json={"email": person.email, "password": PASSWORD}).status_code == 200


def test_a_forgotten_password_is_set_anew_by_letter(api: Api, letters: _Letters) -> None:
    person = api.people["mick"]
    with api.client() as client:
        for email in (person.email, "nobody@example.org"):
            assert client.post("/v1/auth/password/forgotten", json={"email": email}).status_code == 204
        _wait_for(api)
        ((_, text),) = letters.taken
        token = text.split("\n\n")[1].strip()
        new = f"{PASSWORD}-anew"
        assert client.post("/v1/auth/password/reset", json={"token": token, "new": new}).status_code == 204
        assert client.get("/v1/auth/me", headers=person.headers).status_code == 401
        tokens = client.post("/v1/auth/log-in", json={"email": person.email, "password": new}).json()
        headers = {"authorization": f"Bearer {tokens['accessToken']}"}
        changed = client.post("/v1/auth/password", json={"old": new, "new": PASSWORD}, headers=headers)
        assert changed.status_code == 204, changed.text
        api.people["mick"].tokens = _log_in(client, api, "mick")


def test_logging_in_is_rate_limited_by_address(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitalgate.api.limits import Limiter

    monkeypatch.setattr(api.services, "anonymous", Limiter(0.01, 2))
    with api.client() as client:
        answers = [client.post("/v1/auth/verify-email", json={"token": "x"}).status_code for _ in range(3)]
        assert answers == [422, 422, 429]
        bad = {"authorization": "Bearer guessed"}
        assert client.get("/v1/messages", headers=bad).status_code == 429


def test_a_user_is_rate_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitalgate.api.limits import Limiter

    monkeypatch.setattr(api.services, "users", Limiter(0.01, 2))
    with api.client("anna") as anna:
        answers = [anna.get("/v1/auth/me") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[1].headers["ratelimit-remaining"] == "0" and int(answers[2].headers["retry-after"]) > 1
