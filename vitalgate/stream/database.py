"""Blocking database work of a worker, in one thread of its own, so that Kafka's heartbeats go on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import psycopg

from vitalgate.storage.errors import TransientDatabaseError
from vitalgate.stream.errors import TransientError
from vitalgate.telemetry import metrics

P = ParamSpec("P")
T = TypeVar("T")

#: SQLSTATE class 42: a table or column is not there, a right is missing. A migration or a grant cures it, and no
#: record is to blame.
_SCHEMA_CLASS = "42"


class DatabaseThread:
    """Calls run one after the other, also when the one who waited for an earlier one has gone."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in the thread.

        Raises
        ------
        TransientError
            The database is away, busy or not migrated yet.
        """
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))
        except TransientDatabaseError as error:
            metrics.DATABASE_UP.set(0)
            raise TransientError(str(error)) from error
        except psycopg.Error as error:
            if (error.sqlstate or "").startswith(_SCHEMA_CLASS):
                metrics.DATABASE_UP.set(0)
                raise TransientError(
                    f"the database is not as it should be ({error.diag.message_primary}); run `vitalgate migrate`"
                ) from error
            raise
        metrics.DATABASE_UP.set(1)
        return result

    def close(self) -> None:
        """Take no more calls; does not wait for the one under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)
