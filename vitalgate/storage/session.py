"""A connection that is opened when it is needed, and opened again after it broke."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.connect import Connection, connect
from vitalgate.storage.errors import transient


class Session:
    """Autocommit outside `transaction`; for one thread at a time.

    Parameters
    ----------
    prepare
        Called with each new connection.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        application: str,
        timeout_s: float | None = None,
        *,
        views: bool = False,
        prepare: Callable[[Connection], None] | None = None,
    ) -> None:
        self._settings = settings
        self._application = application
        self._timeout_s = timeout_s
        self._views = views
        self._prepare = prepare
        self._connection: Connection | None = None

    def open(self) -> Connection:
        """The open connection. Raises TransientDatabaseError when the database is away."""
        if self._connection is not None and not self._connection.closed and not self._connection.broken:
            return self._connection
        self.close()
        connection = connect(
            self._settings, self._application, autocommit=True, timeout_s=self._timeout_s, views=self._views
        )
        if self._prepare is not None:
            with transient():
                self._prepare(connection)
        self._connection = connection
        return connection

    def close(self) -> None:
        """Disconnect, if connected."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction; passing faults come out as TransientDatabaseError."""
        with transient():
            connection = self.open()
            with connection.transaction():
                yield connection
