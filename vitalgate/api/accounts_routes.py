"""Accounts: sign-up, log-in, second factor, sessions, passwords; and what administrators do with accounts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from starlette.responses import Response

from vitalgate.api.entry import Anybody, Caller, actor_of
from vitalgate.api.mail import Letter, send_later
from vitalgate.api.openapi import problem_responses
from vitalgate.api.replies import reply
from vitalgate.records.errors import Conflict
from vitalgate.records.permissions import Role
from vitalgate.storage import records_accounts, records_login, records_read
from vitalgate.storage.records_login import LoggedIn

_Text = StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")
Word = Annotated[str, _Text]
Email = Annotated[str, StringConstraints(min_length=3, max_length=320, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]
Optional = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class LogIn(_Body):
    """Credentials."""

    email: Email
    password: Secret = Field(json_schema_extra={"format": "password"})
    code: Optional = Field("", description="TOTP code, where a second factor is set up.")
    application: Optional = Field("", description="What the user logs in with; shown in the list of sessions.")


class Tokens(_Body):
    """A session's tokens."""

    user: str = Field(description="Id of the user.")
    session: str = Field(description="Id of the session.")
    roles: list[str]
    access_token: str = Field(description="Goes into `Authorization: Bearer`.")
    access_expires: Any = Field(description="Until when it is good.")
    refresh_token: str = Field(description="Good once, for new tokens.")
    refresh_expires: Any = Field(description="Until when it is good.")
    second_factor_needed: bool = False


class Refresh(_Body):
    """A refresh token."""

    refresh_token: Secret


class SignUp(_Body):
    """A new account."""

    email: Email
    password: Secret = Field(json_schema_extra={"format": "password"})
    name: Word
    role: Literal["patient", "clinician"] = "patient"
    invitation: Optional = Field("", description="The code of an invitation, which saves the approval.")


class Token(_Body):
    """A token that came by e-mail."""

    token: Secret


class Code(_Body):
    """A TOTP code."""

    code: Annotated[str, StringConstraints(pattern=r"^\d{6,8}$")]


class Password(_Body):
    """The password, to be sure."""

    password: Secret


class NewPassword(_Body):
    """A change of password."""

    old: Secret
    new: Secret


class Address(_Body):
    """An e-mail address."""

    email: Email


class Reset(_Body):
    """A new password with the token that came by e-mail."""

    token: Secret
    new: Secret


class Everywhere(_Body):
    """Which sessions end."""

    keep_this: bool = Field(False, description="Leave the session of this request.")


class Invite(_Body):
    """An invitation."""

    email: Email
    role: Role
    patient: Optional | None = Field(None, description="The patient that the user will be.")
    clinician: Optional | None = Field(None, description="The clinician that the user will be.")


class Approve(_Body):
    """Who an account is."""

    patient: Optional | None = None
    clinician: Optional | None = None


class Grant(_Body):
    """A further role."""

    role: Role


_ERRORS = problem_responses(403, 404, 409, 413, 422)
_TOKENS: dict[int | str, dict[str, Any]] = {200: {"model": Tokens, "description": "Logged in."}, **_ERRORS}


def tokens(found: LoggedIn) -> Response:
    """The tokens of a log-in; without any when the second factor is still to be shown."""
    return reply({
        "user": found.user_id, "session": found.session_id, "roles": [str(role) for role in found.roles],
        "accessToken": found.access_token, "accessExpires": found.access_expires,
        "refreshToken": found.refresh_token, "refreshExpires": found.refresh_expires,
        "secondFactorNeeded": found.second_factor_needed,
    })  # fmt: skip


def _nothing() -> Response:
    return Response(status_code=204)


def router() -> APIRouter:
    """Routes below /v1/auth, and the verbs of users and sessions."""
    made = APIRouter(prefix="/v1", responses=_ERRORS)

    @made.post("/auth/sign-up", status_code=201, tags=["Accounts"], operation_id="sign_up")
    def sign_up(body: SignUp, anybody: Anybody) -> Response:
        """Make an account. A letter with a token goes to the address; a clinician is approved or was invited."""
        anybody.limit_anonymous()
        try:
            made = records_accounts.sign_up(
                anybody.services.database, body.email, body.password, body.name, Role(body.role),
                invitation=body.invitation, place=anybody.place,
            )  # fmt: skip
        except Conflict:
            # The answer does not tell whether an address has an account; the owner of the address is told.
            send_later(anybody.services, Letter(body.email, "You have an account", _KNOWN_TEXT))
            return reply({"status": "pending"}, 201)
        if made.email_token:
            link = f"{anybody.services.base_url}/v1/auth/verify-email"
            text = _verify_text(made.email_token, link)
            send_later(anybody.services, Letter(body.email, "Confirm your address", text))
        return reply({"status": made.status}, 201)

    @made.post("/auth/verify-email", tags=["Accounts"], operation_id="verify_email")
    def verify_email(body: Token, anybody: Anybody) -> Response:
        """Prove the address with the token of the letter."""
        anybody.limit_anonymous()
        return reply({"user": records_accounts.verify_email(anybody.services.database, body.token)})

    @made.post("/auth/log-in", tags=["Accounts"], operation_id="log_in", responses=_TOKENS)
    def log_in(body: LogIn, anybody: Anybody) -> Response:
        """Log in with address and password, and the TOTP code where a second factor is set up."""
        anybody.limit_anonymous()
        found = records_login.log_in(
            anybody.services.database, body.email, body.password, code=body.code, application=body.application,
            place=anybody.place,
        )  # fmt: skip
        return tokens(found)

    @made.post("/auth/refresh", tags=["Accounts"], operation_id="refresh", responses=_TOKENS)
    def refresh(body: Refresh, anybody: Anybody) -> Response:
        """New tokens for a refresh token, which is used up; one that is used twice ends the session."""
        anybody.limit_anonymous()
        return tokens(records_login.refresh(anybody.services.database, body.refresh_token, place=anybody.place))

    @made.post("/auth/log-out", status_code=204, tags=["Accounts"], operation_id="log_out")
    def log_out(caller: Caller) -> Response:
        """End this session."""
        identity = caller.identity()
        records_login.log_out(caller.services.database, identity.session_id, identity.user_id)
        return _nothing()

    @made.post("/auth/log-out-everywhere", status_code=204, tags=["Accounts"], operation_id="log_out_everywhere")
    def log_out_everywhere(caller: Caller, body: Everywhere | None = None) -> Response:
        """End all sessions of the user."""
        identity = caller.identity()
        but = identity.session_id if body and body.keep_this else None
        records_login.log_out_everywhere(caller.services.database, identity.user_id, but=but)
        return _nothing()

    @made.get("/auth/me", tags=["Accounts"], operation_id="me")
    def me(caller: Caller) -> Response:
        """Who is logged in, and in which role this request acts."""
        with caller.acting() as tx:
            document = records_accounts.me(tx).document()
            role = actor_of(tx).role.value
        return reply({**document, "role": role})

    @made.post("/auth/second-factor", tags=["Accounts"], operation_id="begin_second_factor")
    def begin_second_factor(caller: Caller) -> Response:
        """Begin to set up TOTP; the answer is what an authenticator application scans."""
        return reply({
            "uri": records_login.begin_second_factor(caller.services.database, caller.identity().user_id)
        })  # fmt: skip

    @made.post("/auth/second-factor/confirm", status_code=204, tags=["Accounts"], operation_id="confirm_second_factor")
    def confirm_second_factor(body: Code, caller: Caller) -> Response:
        """Show that the authenticator works; from now on it is asked for."""
        records_login.confirm_second_factor(caller.services.database, caller.identity().user_id, body.code)
        return _nothing()

    @made.post("/auth/second-factor/drop", status_code=204, tags=["Accounts"], operation_id="drop_second_factor")
    def drop_second_factor(body: Password, caller: Caller) -> Response:
        """Go back to the password alone."""
        records_login.drop_second_factor(caller.services.database, caller.identity().user_id, body.password)
        return _nothing()

    @made.post("/auth/password", status_code=204, tags=["Accounts"], operation_id="change_password")
    def change_password(body: NewPassword, caller: Caller) -> Response:
        """Change the password."""
        records_login.change_password(caller.services.database, caller.identity().user_id, body.old, body.new)
        return _nothing()

    @made.post("/auth/password/forgotten", status_code=204, tags=["Accounts"], operation_id="ask_reset")
    def ask_reset(body: Address, anybody: Anybody) -> Response:
        """Ask for a letter with a token; the answer is the same whether there is such an account or not."""
        anybody.limit_anonymous()
        token = records_login.ask_reset(anybody.services.database, body.email)
        if token is not None:
            send_later(anybody.services, Letter(body.email, "A new password", _reset_text(token)))
        return _nothing()

    @made.post("/auth/password/reset", status_code=204, tags=["Accounts"], operation_id="reset_password")
    def reset_password(body: Reset, anybody: Anybody) -> Response:
        """Set a new password with the token of the letter; all sessions end."""
        anybody.limit_anonymous()
        records_login.reset_password(anybody.services.database, body.token, body.new)
        return _nothing()

    @made.post("/sessions/{id}/end", status_code=204, tags=["Session"], operation_id="end_session")
    def end_session(id: str, caller: Caller) -> Response:
        """Log a session out: one's own, or as an administrator anybody's."""
        with caller.acting() as tx:
            session = records_read.get(tx, "session", id)
        records_login.log_out(caller.services.database, session.id, session.values["user"])
        return _nothing()

    @made.post("/users/invite", status_code=201, tags=["User"], operation_id="invite_user")
    def invite(body: Invite, caller: Caller) -> Response:
        """Invite somebody; the code goes to the address, and signs up without a further approval."""
        with caller.acting() as tx:
            token = records_accounts.invite(
                tx, body.email, body.role, patient=body.patient, clinician=body.clinician
            )  # fmt: skip
        send_later(caller.services, Letter(body.email, "You are invited", _invite_text(token)))
        return reply({"invitation": token}, 201)

    @made.post("/users/{id}/approve", status_code=204, tags=["User"], operation_id="approve_user")
    def approve(id: str, body: Approve, caller: Caller) -> Response:
        """Let an account act, and say which patient or clinician it is."""
        with caller.acting() as tx:
            records_accounts.approve(tx, id, patient=body.patient, clinician=body.clinician)
        return _nothing()

    @made.post("/users/{id}/disable", status_code=204, tags=["User"], operation_id="disable_user")
    def disable(id: str, caller: Caller) -> Response:
        """Shut an account out at once; its sessions end."""
        with caller.acting() as tx:
            records_accounts.disable(tx, id)
        return _nothing()

    @made.post("/users/{id}/enable", status_code=204, tags=["User"], operation_id="enable_user")
    def enable(id: str, caller: Caller) -> Response:
        """Let an account in again."""
        with caller.acting() as tx:
            records_accounts.enable(tx, id)
        return _nothing()

    @made.post("/users/{id}/grant", status_code=204, tags=["User"], operation_id="grant_role")
    def grant(id: str, body: Grant, caller: Caller) -> Response:
        """Give an account a further role."""
        with caller.acting() as tx:
            records_accounts.grant(tx, id, body.role)
        return _nothing()

    return made


_KNOWN_TEXT = (
    "Somebody, probably you, wanted to make an account with this address, which has one already. Log in with it, or "
    "ask for a new password.\n\nIf it was not you, ignore this letter."
)


def _verify_text(token: str, link: str) -> str:
    return (
        "Somebody, probably you, made an account with this address. To confirm it, give this code to the application "
        f"(it sends it to {link}):\n\n{token}\n\nIf it was not you, ignore this letter."
    )


def _reset_text(token: str) -> str:
    return (
        "Somebody, probably you, asked for a new password. Give this code to the application:\n\n"
        f"{token}\n\nIf it was not you, ignore this letter; your password stays as it is."
    )


def _invite_text(token: str) -> str:
    return f"You are invited. Sign up with this address and this invitation:\n\n{token}\n"
