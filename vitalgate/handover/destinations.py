"""Where alerts are handed over to, as data: the models of the file of destinations. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vitalgate.alerts.days import quiet_until
from vitalgate.alerts.roster import Who
from vitalgate.alerts.rule import ORDER, Priority
from vitalgate.handover.secret import Secret

#: none: that there is an alert, and its reference. patient: of whom, too. clinical: what it is, with the values.
Detail = Literal["none", "patient", "clinical"]
Kind = Literal["webhook", "email", "apprise"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Team = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class DestinationsError(Exception):
    """The file of destinations cannot be used; the text says where and why, and the remedy."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Destination(_Part):
    """One place, and what it is told. Exactly one of webhook, email and apprise says how it is reached."""

    webhook: str | Secret | None = Field(
        None, description="URL that is posted to, signed; a URL that is a secret itself: { file } or { env }."
    )
    secret: Secret | None = Field(
        None, description="The webhook's signing secrets, one a line: the first is the present one."
    )
    ca_file: str = Field("", description="Certificates by which the webhook's own is checked, when not the system's.")
    allow_http: bool = Field(False, description="True: a webhook or mail server without TLS that is not this machine.")
    email: str = Field(
        "", description="One address; for several people give each a destination, so that each delivery is known.",
        pattern=r"^([^@\s<>,;:\"]+@[^@\s<>,;:\"]+)?$", max_length=254,
    )  # fmt: skip
    apprise: Secret | None = Field(None, description="Where an Apprise URL is; such URLs are secrets.")

    teams: tuple[Team, ...] = Field((), description="Care teams whose alerts go here; none given: all.")
    clinician: Who | None = Field(
        None, description="It is this person's: told only when the roster names them, or their whole team is told."
    )
    priority: Priority = Field("low", description="Lowest priority that is told.")
    detail: Detail = Field("none", description="How much is told: none, patient (the opaque id), clinical.")
    technical: bool = Field(True, description="False: not the alerts of equipment, but those of its hand-over.")
    quiet_hours: str = Field(
        "", description="HH:MM-HH:MM: low and medium wait until they are over. High priority keeps none.",
        pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$",
    )  # fmt: skip
    time_zone: str = Field("UTC", description="Time zone of the quiet hours, such as Europe/Berlin.")
    per_minute: int = Field(30, description="Most notifications a minute; high priority has as many again.", ge=1)
    at_once: int = Field(4, description="Most notifications under way at the same time.", ge=1, le=32)

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no time zone of the IANA database, such as Europe/Berlin") from error
        return value

    @model_validator(mode="after")
    def _whole(self) -> Destination:
        ways = [name for name in ("webhook", "email", "apprise") if getattr(self, name)]
        if len(ways) != 1:
            raise ValueError(f"give exactly one of webhook, email and apprise, not {', '.join(ways) or 'none'}")
        if self.kind == "webhook" and self.secret is None:
            raise ValueError("a webhook is signed: give secret = { file = … } or { env = … }")
        if self.kind != "webhook" and (self.secret is not None or self.ca_file):
            raise ValueError("secret and ca_file belong to a webhook")
        if isinstance(self.webhook, str):
            check_url(self.webhook, self.allow_http)
        if self.quiet_hours and self.quiet_hours[:5] == self.quiet_hours[6:]:
            raise ValueError(f"quiet_hours {self.quiet_hours} last no time; give another end, or leave them out")
        return self

    @property
    def kind(self) -> Kind:
        """How it is reached."""
        return "webhook" if self.webhook else "email" if self.email else "apprise"

    def quiet(self, now_us: int) -> int | None:
        """End of the quiet hours that a time lies in, us; None when it does not."""
        if not self.quiet_hours:
            return None
        return quiet_until(((0, self.time_zone),), self.quiet_hours, now_us)

    def wants(self, event: Mapping[str, Any], teams_of: Mapping[str, frozenset[str] | None]) -> bool:
        """Whether an alert event that people are to be told of is told here.

        Parameters
        ----------
        teams_of
            Teams of the clinicians that the registry knows; None for one whose access was revoked.
        """
        if ORDER[event["priority"]] < ORDER[self.priority] or (self.teams and event["team"] not in self.teams):
            return False
        if not self.technical and event.get("kind") == "technical" and event["rule"] != FAILED_RULE:
            return False
        if self.clinician is None:
            return True
        known = teams_of.get(self.clinician, frozenset[str]())
        if self.clinician in teams_of and (known is None or event["team"] not in known):
            return False  # they would not see it on a screen either
        recipients = event.get("recipients") or ()
        return self.clinician in recipients if recipients else self.clinician in teams_of


#: The alert rule that tells of a hand-over that failed.
FAILED_RULE = "handover-failed"


def check_url(url: str, allow_http: bool) -> None:
    """Refuse a URL that cannot be posted to safely. Raises ValueError, which does not quote it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"the webhook's URL cannot be read ({error})") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("the webhook's URL must begin with https:// and name a host")
    if parts.username or parts.password:
        raise ValueError("the webhook's URL holds a user or password; put the URL into a file: webhook = { file = … }")
    if parts.scheme == "http" and host not in _LOOPBACK and not allow_http:
        raise ValueError(f"http:// to {host} would go unencrypted; use https://, or say allow_http = true")


class MailServer(_Part):
    """How e-mail is sent."""

    host: str = Field(min_length=1, description="Mail server.")
    port: int = Field(0, ge=0, le=65535, description="Its port; 0: 465 for tls, 587 for starttls, 25 for none.")
    security: Literal["starttls", "tls", "none"] = Field("starttls", description="starttls and tls check certificates.")
    ca_file: str = Field("", description="Certificates by which the server's own is checked, when not the system's.")
    username: str = Field("", description="User, when the server wants one.")
    password: Secret | None = Field(None, description="Where the password is.")
    sender: str = Field(description="Address that mails are from.", pattern=r"^[^@\s<>,;:\"]+@[^@\s<>,;:\"]+$")
    allow_plain: bool = Field(False, description="True: security = none to a server that is not this machine.")

    @model_validator(mode="after")
    def _sound(self) -> MailServer:
        if self.security == "none" and self.host not in _LOOPBACK and not self.allow_plain:
            raise ValueError(f"mails to {self.host} would go unencrypted; use starttls or tls, or allow_plain = true")
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password go together")
        if self.security == "none" and self.username and self.host not in _LOOPBACK:
            raise ValueError("a password is not sent without TLS; use starttls or tls")
        return self

    @property
    def at(self) -> int:
        """The port."""
        return self.port or {"tls": 465, "starttls": 587, "none": 25}[self.security]


class Destinations(_Part):
    """The whole file."""

    link: str = Field("", description="Put into every notification; {alert_id} is filled in.", max_length=500)
    smtp: MailServer | None = Field(None, description="Needed for e-mail.")
    destination: dict[Name, Destination] = Field({}, description="By name.")

    @model_validator(mode="after")
    def _consistent(self) -> Destinations:
        mails = [name for name, one in self.destination.items() if one.kind == "email"]
        if mails and self.smtp is None:
            raise ValueError(f"{mails[0]} is e-mail, and there is no [smtp] that says how mail is sent")
        try:
            self.link.format(alert_id="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"link names {error}; only {{alert_id}} can be filled in") from error
        if self.link and urlsplit(self.link).scheme not in ("http", "https"):
            raise ValueError("link must begin with https://")
        return self


def parse(text: str) -> Destinations:
    """The destinations of a file.

    Raises
    ------
    DestinationsError
        When it is no TOML or no such file; the text quotes no value, which may be a secret in the wrong place.
    """
    try:
        return Destinations.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DestinationsError(f"no TOML: {error}") from error
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_input=False, include_context=False):
            where = ".".join(str(part) for part in fault["loc"] if part not in ("str", "Secret"))
            faults.append(f"{where}: {fault['msg'].removeprefix('Value error, ')}".removeprefix(": "))
        raise DestinationsError("; ".join(dict.fromkeys(faults))) from error
