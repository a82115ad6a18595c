"""What a process knows of an access token saves a question and decides nothing; the short way is as the long one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.api.conftest import Api
from tests.api.people import Person, log_in, sign_up
from vitalgate.api.tokens import Tokens
from vitalgate.pki.keyring import KeyRing
from vitalgate.records.permissions import Role
from vitalgate.storage.records_database import Actor, RecordsDatabase
from vitalgate.storage.records_login import Identity

DAY = {"metric": "spo2", "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
PATHS = ("/v1/patients/p-anna/readings/latest", "/v1/messages", "/v1/messages/none", "/v1/auth/me")


@pytest.fixture
def anna(api: Api) -> dict[str, str]:
    """Headers of a further session of anna."""
    person = Person("anna", api.people["anna"].email, "patient")
    with api.client() as client:
        log_in(client, person)
    return person.headers


def _status(client: httpx.Client, headers: dict[str, str]) -> list[int]:
    return [client.get(path, headers=headers).status_code for path in PATHS]


def test_a_session_that_ended_is_over_at_the_next_request(api: Api, anna: dict[str, str]) -> None:
    with api.client() as client:
        assert _status(client, anna) == [200, 200, 404, 200]  # known from now on
        assert client.post("/v1/auth/log-out", headers=anna).status_code == 204
        assert _status(client, anna) == [401, 401, 401, 401]
        refused = client.post("/v1/messages", headers=anna, json={"patient": "p-anna", "body": "x"})
        assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"


def test_an_account_is_disabled_and_its_token_over_its_time_at_once(api: Api) -> None:
    who = sign_up(api.services.database, f"short-{datetime.now(UTC).timestamp():.0f}", "device_manager")
    with api.client() as client, api.client("ada") as ada:
        log_in(client, who)
        assert client.get("/v1/devices", headers=who.headers).status_code == 200
        assert ada.post(f"/v1/users/{who.user}/disable").status_code == 204
        assert client.get("/v1/devices", headers=who.headers).status_code == 401
        assert ada.post(f"/v1/users/{who.user}/enable").status_code == 204
        log_in(client, who)
        assert client.get("/v1/devices", headers=who.headers).status_code == 200
        with api.services.database.service("service:test") as tx:
            tx.execute("UPDATE session_tokens SET expires_at = now() WHERE session_id = %s", (who.tokens["session"],))
        assert client.get("/v1/devices", headers=who.headers).status_code == 401


def test_a_role_counts_from_the_next_request(api: Api) -> None:
    who = sign_up(api.services.database, f"roles-{datetime.now(UTC).timestamp():.0f}", "device_manager")
    with api.client() as client, api.client("ada") as ada:
        log_in(client, who)
        asked = who.headers | {"x-role": "administrator"}
        assert client.get("/v1/devices", headers=who.headers).status_code == 200
        assert client.get("/v1/users", headers=asked).status_code == 403
        assert ada.post(f"/v1/users/{who.user}/grant", json={"role": "administrator"}).status_code == 204
        assert client.get("/v1/users", headers=asked).status_code == 200
        with api.services.database.service("service:test") as tx:
            tx.execute("DELETE FROM user_roles WHERE user_id = %s AND role = 'administrator'", (who.user,))
        assert client.get("/v1/users", headers=asked).status_code == 403
        assert client.post("/v1/users/x/enable", headers=asked).status_code == 403


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("readings/latest", {}),
        ("readings/aggregates", DAY),
        ("readings/aggregates", {**DAY, "width": "hour", "format": "cbor"}),
        ("waveforms", {"channel": "ecg.II", "from": DAY["from"], "to": "2026-01-01T00:00:10+00:00"}),
        ("waveforms", {"channel": "ecg.II", "from": DAY["from"], "to": "2026-01-03T00:00:00Z"}),
        ("readings/aggregates", {**DAY, "from": "2026-13-01T00:00:00Z"}),
        ("readings/aggregates", {**DAY, "width": "week"}),
        ("readings/aggregates", {"metric": "spo2"}),
    ],
)
@pytest.mark.parametrize("name", ["anna", "dora", ""])
def test_the_short_way_answers_as_the_long_one(api: Api, name: str, path: str, given: dict[str, Any]) -> None:
    url = f"/v1/patients/p-anna/{path}"
    with api.client(name) as client:
        short = client.get(url, params=given)
        # A parameter that nobody knows is left to the router.
        long = client.get(url, params={**given, "unknown": "1"})
    assert short.status_code == long.status_code and short.status_code != 500
    skipped = {"date", "x-request-id", "ratelimit-remaining"}
    heads = [{k: v for k, v in answer.headers.items() if k not in skipped} for answer in (short, long)]
    if short.is_success:
        assert short.content == long.content and heads[0] == heads[1]
    else:
        documents = [{k: v for k, v in answer.json().items() if k != "instance"} for answer in (short, long)]
        assert documents[0] == documents[1]
        assert short.headers["content-type"] == long.headers["content-type"]


@pytest.mark.parametrize("flush", [True, False])
def test_only_a_read_may_commit_before_the_disk_has_it(api: Api, ring: KeyRing, flush: bool) -> None:
    settings = api.services.settings.database
    actor = Actor(api.people["anna"].user, Role.PATIENT)
    asked = "SELECT current_setting('synchronous_commit')"
    with RecordsDatabase(settings, ring, most=1, flush_reads=flush) as database:
        with database.reading(actor) as tx:
            assert tx.execute(asked).fetchone() == ("on" if flush else "off",)
        with database.acting(actor) as tx:
            assert tx.execute(asked).fetchone() == ("on",)
        with database.service("service:test") as tx:
            assert tx.execute(asked).fetchone() == ("on",)


def test_what_is_known_is_bounded_and_ends_with_the_token() -> None:
    now = datetime.now(UTC)
    known = Tokens(most=2)
    one = Identity("u", "s", (Role.PATIENT,), now + timedelta(minutes=1))
    for mark in (b"a", b"b", b"c"):
        known.put(mark, one)
    assert (known.get(b"a"), known.get(b"b"), known.get(b"c")) == (None, one, one)
    known.put(b"d", Identity("u", "s", (), now - timedelta(seconds=1)))
    assert known.get(b"d") is None and known.get(b"b") is None
    known.drop(b"c")
    known.drop(b"c")
    assert known.get(b"c") is None
