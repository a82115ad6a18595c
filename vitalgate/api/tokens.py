"""Who an access token belongs to, as it was at last: proven anew by the database in each transaction (`Proof`)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import UTC, datetime

from vitalgate.storage.records_login import Identity

_MOST = 20_000


class Tokens:
    """The identities behind recent access tokens, by the token's hash; for any number of threads.

    It saves the question, and decides nothing: a transaction in the name of such an identity begins with the proof that
    token, session, account and roles still are what they were.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._known: OrderedDict[bytes, Identity] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, mark: bytes) -> Identity | None:
        """Whose it was, unless its time is over."""
        with self._lock:
            found = self._known.get(mark)
            if found is None:
                return None
            if found.expires <= datetime.now(UTC):
                del self._known[mark]
                return None
            self._known.move_to_end(mark)
            return found

    def put(self, mark: bytes, identity: Identity) -> None:
        """The database has just said so."""
        with self._lock:
            self._known[mark] = identity
            self._known.move_to_end(mark)
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def drop(self, mark: bytes) -> None:
        """It is not so any more."""
        with self._lock:
            self._known.pop(mark, None)
