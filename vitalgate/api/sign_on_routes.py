"""Log-in at the organisation's own issuer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Cookie, Query, Request
from starlette.responses import RedirectResponse, Response

from vitalgate.api.accounts_routes import Tokens, tokens
from vitalgate.api.entry import Anybody
from vitalgate.api.openapi import problem_responses
from vitalgate.api.problems import Problem
from vitalgate.api.sign_on_cookie import COOKIE, COOKIE_S
from vitalgate.storage import records_login

if TYPE_CHECKING:
    from vitalgate.api.oidc import SignOn

_PATH = "/v1/auth/issuer"
_NO_ZERO = r"^[^\x00]*$"
_ERRORS = problem_responses(403, 404, 422)
_TOKENS: dict[int | str, dict[str, Any]] = {200: {"model": Tokens, "description": "Logged in."}}


def router() -> APIRouter:
    """Routes below /v1/auth/issuer."""
    made = APIRouter(prefix=_PATH, tags=["Accounts"], responses=_ERRORS)

    @made.get("", operation_id="sign_on", status_code=302, response_class=Response)
    def begin(anybody: Anybody, request: Request) -> Response:
        """Send the browser to the issuer."""
        anybody.limit_anonymous()
        url, cookie = _sign_on(anybody, request).begin()
        answer = RedirectResponse(url, 302)
        secure = anybody.services.base_url.startswith("https://")
        answer.set_cookie(
            COOKIE, cookie, max_age=COOKIE_S, path=_PATH, httponly=True, samesite="lax", secure=secure
        )  # fmt: skip
        return answer

    @made.get("/back", operation_id="sign_on_back", responses=_TOKENS)
    def back(
        anybody: Anybody, request: Request,
        state: Annotated[str, Query(max_length=500, pattern=_NO_ZERO)],
        code: Annotated[str, Query(max_length=4000, pattern=_NO_ZERO)] = "",
        error: Annotated[str, Query(max_length=200, pattern=_NO_ZERO)] = "",
        cookie: Annotated[str, Cookie(alias=COOKIE, max_length=8000)] = "",
    ) -> Response:  # fmt: skip
        """Where the issuer sends the browser back to: the answer holds the session's tokens."""
        anybody.limit_anonymous()
        sign_on = _sign_on(anybody, request)
        if error or not code:
            raise Problem(401, "sign-on-refused", "The issuer did not log the user in.")
        somebody = sign_on.finish(code, state, cookie)
        found = records_login.log_in_with_issuer(
            anybody.services.database, somebody.issuer, somebody.subject, somebody.email,
            application="single sign-on", place=anybody.place,
        )  # fmt: skip
        answer = tokens(found)
        answer.delete_cookie(COOKIE, path=_PATH)
        return answer

    return made


def _sign_on(anybody: Any, request: Request) -> SignOn:
    services = anybody.services
    if not services.settings.api.oidc_issuer:
        raise Problem(404, "not-found", "No issuer is set (api.oidc_issuer): log in with a password.")
    from vitalgate.api.oidc import SignOn  # slow to load, and many deployments have no issuer

    state = request.app.state
    if not hasattr(state, "sign_on"):
        state.sign_on = SignOn(services.settings.api, services.ring, f"{services.base_url}{_PATH}/back")
    found: SignOn = state.sign_on
    return found
