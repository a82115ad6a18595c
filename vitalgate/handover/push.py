"""Whatever the Apprise library reaches: phones, chats, pagers."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apprise

from vitalgate.handover.destinations import Destination
from vitalgate.handover.notice import Notice
from vitalgate.handover.outcome import DELIVERED, Outcome
from vitalgate.handover.secret import SecretError

# Its log may quote URLs, which hold tokens.
logging.getLogger("apprise").setLevel(logging.CRITICAL)
logging.getLogger("apprise").propagate = False


class Push:
    """Sends to one Apprise URL. It says only whether it was taken, so every fault may pass."""

    def __init__(self, destination: Destination, timeout_s: float) -> None:
        assert destination.apprise is not None
        self._url = destination.apprise
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(destination.at_once, "push")

    async def send(self, notice: Notice) -> Outcome:
        """One attempt."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._send, notice)

    async def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(self, notice: Notice) -> Outcome:
        try:
            service = instance(self._url.read("the Apprise URL"))
        except (SecretError, ValueError) as error:
            return Outcome("retry", str(error))
        service.socket_connect_timeout = service.socket_read_timeout = self._timeout_s
        if isinstance(getattr(service, "headers", None), dict):  # those that post to a URL of one's own
            service.headers["Idempotency-Key"] = notice.id
        kind = apprise.NotifyType.WARNING if notice.urgent else apprise.NotifyType.INFO
        try:
            taken = service.notify(title=notice.subject, body=notice.text, notify_type=kind)
        except Exception as error:  # whatever one of a hundred plugins raises
            return Outcome("retry", f"the notification was not taken ({type(error).__name__})")
        return DELIVERED if taken else Outcome("retry", "the notification was not taken")


def instance(url: str) -> Any:
    """The service of an Apprise URL. Raises ValueError, which does not quote it."""
    try:
        made = apprise.Apprise.instantiate(url, suppress_exceptions=False)
    except Exception as error:  # whatever one of a hundred plugins raises
        raise ValueError(f"Apprise cannot use the URL ({type(error).__name__})") from None
    if made is None:
        raise ValueError("Apprise does not know the URL; its schemes are listed by `apprise --details`")
    return made
