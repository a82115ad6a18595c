"""Single sign-on at a small real issuer: discovery, PKCE, ID token; and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.api.conftest import Api

CLIENT = "vitalgate-test"


class Issuer:
    """An OpenID Connect provider with one user, who is always logged in there."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k1"})
        self.codes: dict[str, dict[str, str]] = {}
        self.claims: dict[str, Any] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path == "/.well-known/openid-configuration":
                    self._json({
                        "issuer": issuer.url, "authorization_endpoint": f"{issuer.url}/authorize",
                        "token_endpoint": f"{issuer.url}/token", "jwks_uri": f"{issuer.url}/keys",
                    })  # fmt: skip
                elif parts.path == "/keys":
                    self._json({"keys": [issuer.key.as_dict(private=False)]})
                elif parts.path == "/authorize":
                    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                    code = secrets.token_urlsafe(12)
                    issuer.codes[code] = asked
                    query = urlencode({"code": code, "state": asked["state"]})
                    self.send_response(302)
                    self.send_header("location", f"{asked['redirect_uri']}?{query}")
                    self.end_headers()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                given = {name: values[0] for name, values in parse_qs(body).items()}
                asked = issuer.codes.pop(given.get("code", ""), None)
                proof = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
                challenge = base64.urlsafe_b64encode(proof).rstrip(b"=").decode()
                if asked is None or asked["code_challenge"] != challenge:
                    self._json({"error": "invalid_grant"}, 400)
                    return
                now = int(time.time())
                claims = {
                    "iss": issuer.url, "aud": CLIENT, "sub": "subject-1", "iat": now, "exp": now + 300,
                    "nonce": asked["nonce"], "email_verified": True, **issuer.claims,
                }  # fmt: skip
                token = jwt.encode({"alg": "RS256", "kid": "k1"}, claims, issuer.key)
                self._json({"access_token": "x", "token_type": "Bearer", "id_token": token})

            def _json(self, document: Any, status: int = 200) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()


@pytest.fixture
def signing_on(api: Api, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A browser at an API that knows the issuer."""
    from vitalgate.api import sign_on_routes
    from vitalgate.api.oidc import SignOn

    settings = api.services.settings
    update = {"oidc_issuer": issuer.url, "oidc_client_id": CLIENT}
    changed = settings.model_copy(update={"api": settings.api.model_copy(update=update)})
    monkeypatch.setattr(api.services, "settings", changed)
    made = SignOn(changed.api, api.services.ring, f"{api.url}/v1/auth/issuer/back")
    monkeypatch.setattr(sign_on_routes, "_sign_on", lambda _anybody, _request: made)
    issuer.claims = {"email": api.people["carla"].email}
    with httpx.Client(base_url=api.url, timeout=30) as client:
        yield client


def _back(client: httpx.Client) -> str:
    """Through the issuer; the address that it sends the browser to."""
    begun = client.get("/v1/auth/issuer")
    assert begun.status_code == 302, begun.text
    assert "code_challenge_method=S256" in begun.headers["location"]
    return str(httpx.get(begun.headers["location"]).headers["location"])


def test_a_user_of_the_issuer_logs_in(api: Api, signing_on: httpx.Client, issuer: Issuer) -> None:
    back = _back(signing_on)
    answer = signing_on.get(back)
    assert answer.status_code == 200, answer.text
    assert answer.json()["user"] == api.people["carla"].user
    headers = {"authorization": f"Bearer {answer.json()['accessToken']}"}
    assert signing_on.get("/v1/auth/me", headers=headers).json()["clinician"] == "c-carla"
    # Linked by its subject now, whatever the address becomes; a code is good once.
    issuer.claims = {"email": "other@example.org"}
    assert signing_on.get(_back(signing_on)).json()["user"] == api.people["carla"].user
    assert signing_on.get(back).status_code in (400, 401)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"}, {"iss": "https://evil.example.org"}, {"exp": 1}, {"nonce": "replayed"},
        {"email_verified": False, "sub": "unknown"}, {"email": "nobody@example.org", "sub": "unknown"},
    ],
)  # fmt: skip
def test_a_token_that_is_not_good_logs_nobody_in(
    api: Api, signing_on: httpx.Client, issuer: Issuer, claims: dict[str, Any]
) -> None:
    issuer.claims = {"email": api.people["carla"].email, **claims}
    answer = signing_on.get(_back(signing_on))
    assert answer.status_code == 401 and "accessToken" not in answer.text


def test_another_browser_cannot_finish(api: Api, signing_on: httpx.Client) -> None:
    back = _back(signing_on)
    with httpx.Client(timeout=30) as other:
        assert other.get(back).status_code == 400
    assert signing_on.get(back.replace("state=", "state=x")).status_code == 400


def test_a_forged_signature_is_refused(signing_on: httpx.Client, issuer: Issuer) -> None:
    good, issuer.key = issuer.key, RSAKey.generate_key(2048, {"kid": "k1"})
    keys = good.as_dict(private=False)
    forged = issuer.key
    forged_dict = forged.as_dict
    try:
        object.__setattr__(forged, "as_dict", lambda **_more: keys)
        assert signing_on.get(_back(signing_on)).status_code == 401
    finally:
        object.__setattr__(forged, "as_dict", forged_dict)
        issuer.key = good


def test_without_an_issuer_it_says_so(api: Api) -> None:
    with api.client() as client:
        answer = client.get("/v1/auth/issuer")
        assert answer.status_code == 404 and "api.oidc_issuer" in answer.json()["detail"]
