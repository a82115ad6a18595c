"""Letters: accounts and notifications by e-mail, through the organisation's own server; never with clinical detail."""

from __future__ import annotations

import logging
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from vitalgate.api.services import Services
from vitalgate.config.settings import ApiSettings

log = logging.getLogger(__name__)
_TIMEOUT_S = 10


@dataclass(frozen=True)
class Letter:
    """One e-mail."""

    to: str
    subject: str
    text: str


class NotSentError(Exception):
    """The mail server did not take a letter."""


def send(settings: ApiSettings, letter: Letter) -> bool:
    """Hand a letter to the mail server; False when none is set. Blocking.

    Raises
    ------
    NotSentError
        When the server does not take it.
    """
    if not settings.mail_server:
        log.warning("no mail server is set (api.mail_server): a letter was not sent", extra={"subject": letter.subject})
        return False
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = letter.to
    message["Subject"] = letter.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=settings.mail_from.rpartition("@")[2])
    message.set_content(letter.text)
    host, _, port = settings.mail_server.partition(":")
    try:
        with smtplib.SMTP(host, int(port or 587), timeout=_TIMEOUT_S) as server:
            if settings.mail_tls:
                server.starttls(context=ssl.create_default_context())
            if settings.mail_user:
                password = Path(settings.mail_password_file).read_text(encoding="utf-8").strip()
                server.login(settings.mail_user, password)
            server.send_message(message)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise NotSentError(f"the mail server {settings.mail_server} did not take a letter: {error}") from error
    return True


def send_later(services: Services, letter: Letter) -> None:
    """Send a letter without the caller waiting for it; that it was not sent is logged."""
    services.later.submit(_try, services.settings.api, letter)


def _try(settings: ApiSettings, letter: Letter) -> None:
    try:
        send(settings, letter)
    except NotSentError as error:
        log.error("letter not sent", extra={"subject": letter.subject, "detail": str(error)})
