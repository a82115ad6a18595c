"""What every handler needs, made once a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from vitalgate.api.file_store import FileStore
from vitalgate.api.limits import Limiter
from vitalgate.api.tokens import Tokens
from vitalgate.config.settings import Settings
from vitalgate.pki.keyring import KeyRing
from vitalgate.storage.errors import StorageError
from vitalgate.storage.records_database import RecordsDatabase


@dataclass
class Services:
    """The parts behind the handlers.

    Attributes
    ----------
    users, anonymous
        Rate limits: by user, and by address for who has not logged in.
    later
        What nobody waits for: letters.
    clock
        Seconds since 1970, for links.
    tokens
        Whose the recent access tokens are.
    """

    settings: Settings
    database: RecordsDatabase
    ring: KeyRing
    files: FileStore
    users: Limiter
    anonymous: Limiter
    base_url: str
    later: ThreadPoolExecutor
    clock: Callable[[], float] = field(default=time.time)
    tokens: Tokens = field(default_factory=Tokens)

    def reachable(self) -> str | None:
        """None while the database answers, else a sentence; for /readyz."""
        try:
            with self.database.accounts() as tx:
                tx.connection.execute("SELECT 1")
        except StorageError as error:
            return f"the database does not answer: {error}"
        return None


def limiters(settings: Settings) -> tuple[Limiter, Limiter]:
    """(by user, by address)."""
    api = settings.api
    return (
        Limiter(api.requests_per_s, api.requests_burst),
        Limiter(api.anonymous_per_s, api.anonymous_burst, most=20_000),
    )
