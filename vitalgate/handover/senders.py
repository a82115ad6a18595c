"""The sender of a destination; the libraries are imported where one is used."""

from __future__ import annotations

import logging
from typing import Protocol

from vitalgate.handover.destinations import Destination, Destinations, DestinationsError
from vitalgate.handover.notice import Notice
from vitalgate.handover.outcome import Outcome
from vitalgate.handover.secret import Secret, SecretError
from vitalgate.handover.signature import SignatureError, keys_of


class Sender(Protocol):
    """Hands notifications over to one destination."""

    async def send(self, notice: Notice) -> Outcome:
        """One attempt; says what came of it and raises nothing."""

    async def close(self) -> None:
        """Free what it holds."""


def sender(name: str, destination: Destination, book: Destinations, timeout_s: float) -> Sender:
    """The sender of a destination.

    Raises
    ------
    DestinationsError
        When its library is not installed, or a file of certificates cannot be read.
    """
    try:
        if destination.kind == "webhook":
            from vitalgate.handover.webhook import Webhook

            # It logs every URL, and a URL may be a secret.
            logging.getLogger("httpx").setLevel(logging.WARNING)
            return Webhook(destination, timeout_s)
        if destination.kind == "email":
            from vitalgate.handover.mail import Mail

            assert book.smtp is not None
            return Mail(destination, book.smtp, timeout_s)
        from vitalgate.handover.push import Push

        return Push(destination, timeout_s)
    except ImportError as error:
        raise DestinationsError(
            f"destination {name}: {destination.kind} needs {error.name}; install vitalgate[handover]"
        ) from error
    except OSError as error:
        raise DestinationsError(
            f"destination {name}: certificates of {destination.ca_file} cannot be read: {error.strerror}"
        ) from error


def secret_faults(name: str, destination: Destination, book: Destinations) -> list[str]:
    """What is wrong with the secrets of a destination, a sentence each; they are read, and never told."""
    found: list[str] = []

    def read(secret: Secret, what: str) -> str | None:
        try:
            return secret.read(f"destination {name}: {what}")
        except SecretError as error:
            found.append(str(error))
            return None

    if isinstance(destination.webhook, Secret):
        read(destination.webhook, "the webhook's URL")
    if destination.secret is not None:
        secrets = read(destination.secret, "the signing secret")
        try:
            if secrets is not None:
                keys_of(secrets)
        except SignatureError as error:
            found.append(f"destination {name}: {error}")
    if destination.kind == "email" and book.smtp is not None and book.smtp.password is not None:
        read(book.smtp.password, "the mail server's password")
    if destination.apprise is not None:
        url = read(destination.apprise, "the Apprise URL")
        if url is not None:
            try:
                from vitalgate.handover.push import instance

                instance(url)
            except ValueError as error:
                found.append(f"destination {name}: {error}")
            except ImportError as error:
                found.append(f"destination {name}: apprise needs {error.name}; install vitalgate[handover]")
    return found
