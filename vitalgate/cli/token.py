"""Tokens of the API: log in, refresh, log out, list sessions, from a command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings

if TYPE_CHECKING:
    import httpx

_URL = click.option("--url", metavar="URL", help="Address of the API; that of the settings otherwise.")
_TOKEN = click.option(
    "--token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, metavar="FILE",
    help="File with an access token.",
)  # fmt: skip


@click.group(epilog="Example: vitalgate token get anna@example.org --password-file pw > token")
def command() -> None:
    """Tokens for scripts that use the API; passwords and tokens come from files, never from the command line."""


@command.command()
@click.argument("email")
@click.option(
    "--password-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, metavar="FILE",
    help="File with the password.",
)  # fmt: skip
@click.option("--code", default="", help="TOTP code, where a second factor is set up.")
@_URL
@json_option
def get(email: str, password_file: Path, code: str, url: str | None, as_json: bool) -> None:
    """Log in as EMAIL and print the access token (with --json, all of the session)."""
    body = {
        "email": email, "password": password_file.read_text(encoding="utf-8").strip(), "code": code,
        "application": "vitalgate token",
    }  # fmt: skip
    found = _ask(url, "POST", "/v1/auth/log-in", body=body)
    if found["secondFactorNeeded"]:
        raise Failure("the account has a second factor: give its code with --code")
    if as_json:
        print_json(found)
    else:
        click.echo(found["accessToken"])


@command.command()
@click.option(
    "--refresh-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, metavar="FILE",
    help="File with a refresh token, which is used up.",
)  # fmt: skip
@_URL
def refresh(refresh_file: Path, url: str | None) -> None:
    """New tokens for a refresh token, as JSON."""
    print_json(_ask(url, "POST", "/v1/auth/refresh", body={"refreshToken": refresh_file.read_text().strip()}))


@command.command(name="list")
@_TOKEN
@_URL
@json_option
def list_sessions(token_file: Path, url: str | None, as_json: bool) -> None:
    """Where the user is logged in."""
    found = _ask(url, "GET", "/v1/sessions", token=token_file.read_text().strip())["data"]
    if as_json:
        print_json(found)
        return
    for one in found:
        ended = f"ended {one['endedAt']}" if one["endedAt"] else f"until {one['expiresAt']}"
        click.echo(f"{one['id']}  {one['createdAt']}  {ended}  {one['application'] or '-'}  {one['place'] or '-'}")


@command.command()
@_TOKEN
@click.option("--everywhere", is_flag=True, help="All sessions of the user.")
@_URL
def end(token_file: Path, everywhere: bool, url: str | None) -> None:
    """Log out: this session, or all."""
    path = "/v1/auth/log-out-everywhere" if everywhere else "/v1/auth/log-out"
    _ask(url, "POST", path, token=token_file.read_text().strip())
    click.echo("Logged out.")


def _ask(url: str | None, method: str, path: str, *, body: Any = None, token: str = "") -> Any:
    import httpx

    api = settings().settings.api
    base = url or api.public_url or f"http://{api.host}:{api.port}"
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.request(method, base + path, json=body, headers=headers, timeout=30)
    except httpx.HTTPError as error:
        raise Failure(f"the API at {base} does not answer ({type(error).__name__}); --url names another") from error
    if answer.is_error:
        raise Failure(_said(answer))
    return answer.json() if answer.content else None


def _said(answer: httpx.Response) -> str:
    try:
        return f"the API refused ({answer.status_code}): {answer.json()['detail']}"
    except (ValueError, KeyError):
        return f"the API refused with status {answer.status_code}"
