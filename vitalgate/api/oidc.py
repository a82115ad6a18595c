"""Single sign-on by OpenID Connect: authorization code with PKCE at any issuer, ID token checked by its keys."""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from vitalgate.api.problems import Problem
from vitalgate.api.sign_on_cookie import COOKIE_S
from vitalgate.config.loading import read_secret
from vitalgate.config.settings import ApiSettings
from vitalgate.pki import sealing
from vitalgate.pki.keyring import KeyRing

_CONTEXT = "sign-on"
_ALGORITHMS = ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
_TIMEOUT_S = 10.0
_LEEWAY_S = 30


@dataclass(frozen=True)
class Somebody:
    """Whom the issuer vouches for."""

    issuer: str
    subject: str
    email: str
    """Empty unless the issuer has verified it."""


class SignOn:
    """One issuer. Blocking: call from worker threads."""

    def __init__(self, settings: ApiSettings, ring: KeyRing, redirect: str) -> None:
        self._settings = settings
        self._ring = ring
        self._redirect = redirect
        self._about: dict[str, Any] = {}
        self._about_until = 0.0

    def begin(self) -> tuple[str, str]:
        """(address to send the browser to, value of the cookie that goes with it)."""
        verifier = secrets.token_urlsafe(48)
        nonce = secrets.token_urlsafe(24)
        with self._client() as client:
            url, state = client.create_authorization_url(
                self._discovered()["authorization_endpoint"], nonce=nonce, code_challenge_method="S256",
                code_challenge=create_s256_code_challenge(verifier),
            )  # fmt: skip
        kept = orjson.dumps({"state": state, "nonce": nonce, "verifier": verifier, "until": time.time() + COOKIE_S})
        sealed = sealing.seal(self._ring, kept, _CONTEXT)
        return str(url), base64.urlsafe_b64encode(sealed).decode()

    def finish(self, code: str, state: str, cookie: str) -> Somebody:
        """Who came back from the issuer.

        Raises
        ------
        Problem
            400 when state or cookie do not fit, 401 when the ID token is not good, 503 when the issuer is away.
        """
        try:
            kept = orjson.loads(sealing.unseal(self._ring, base64.urlsafe_b64decode(cookie), _CONTEXT))
        except (ValueError, sealing.SealError) as error:
            raise _bad("The cookie of the sign-on is missing or was changed; begin again.") from error
        if not hmac.compare_digest(str(kept["state"]).encode(), state.encode()) or time.time() > kept["until"]:
            raise _bad("The sign-on is over or belongs to another browser; begin again.")
        about = self._discovered()
        try:
            with self._client() as client:
                token = client.fetch_token(about["token_endpoint"], code=code, code_verifier=kept["verifier"])
        except httpx.HTTPError as error:
            raise _away(error) from error
        except Exception as error:  # the library has a class for each answer of the issuer
            raise Problem(401, "sign-on-refused", "The issuer does not take the code.") from error
        claims = self._claims(str(token.get("id_token", "")), str(kept["nonce"]))
        verified = claims.get("email_verified") in (True, "true")
        return Somebody(str(claims["iss"]), str(claims["sub"]), str(claims.get("email", "")) if verified else "")

    def _claims(self, id_token: str, nonce: str) -> dict[str, Any]:
        try:
            keys = KeySet.import_key_set(self._get(self._discovered()["jwks_uri"]))  # type: ignore[arg-type]  # checked there
            claims = jwt.decode(id_token, keys, algorithms=_ALGORITHMS).claims
            jwt.JWTClaimsRegistry(
                leeway=_LEEWAY_S,
                iss={"essential": True, "value": self._discovered()["issuer"]},
                aud={"essential": True, "value": self._settings.oidc_client_id},
                sub={"essential": True}, exp={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)  # fmt: skip
        except (JoseError, ValueError, KeyError) as error:
            said = f"The issuer's ID token is not good: {type(error).__name__}."
            raise Problem(401, "sign-on-refused", said) from error
        return dict(claims)

    def _discovered(self) -> dict[str, Any]:
        if time.monotonic() > self._about_until:
            issuer = self._settings.oidc_issuer.rstrip("/")
            found = self._get(f"{issuer}/.well-known/openid-configuration")
            if str(found.get("issuer", "")).rstrip("/") != issuer:
                raise Problem(503, "issuer-wrong", "The issuer's configuration names another issuer.")
            self._about, self._about_until = found, time.monotonic() + 300
        return self._about

    def _get(self, url: str) -> dict[str, Any]:
        try:
            answer = httpx.get(url, timeout=_TIMEOUT_S, follow_redirects=False)
            answer.raise_for_status()
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise _away(error) from error
        return found if isinstance(found, dict) else {}

    def _client(self) -> OAuth2Client:
        secret = None
        if self._settings.oidc_client_secret_file:
            secret = read_secret(self._settings.oidc_client_secret_file, "OpenID Connect client secret")
        return OAuth2Client(
            self._settings.oidc_client_id, secret, scope="openid email profile", redirect_uri=self._redirect,
            token_endpoint_auth_method="client_secret_basic" if secret else "none", timeout=_TIMEOUT_S,
        )  # fmt: skip


def _bad(text: str) -> Problem:
    return Problem(400, "sign-on-broken", text)


def _away(error: Exception) -> Problem:
    return Problem(
        503, "issuer-away", f"The issuer does not answer as it should: {type(error).__name__}.",
        headers={"Retry-After": "5"},
    )  # fmt: skip
