"""What can go wrong with the database, told apart by what the caller should do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg


class StorageError(Exception):
    """Something that a person has to look at; the text names the value, the limit and the remedy."""


class TransientDatabaseError(StorageError):
    """The database is away or busy: nothing was committed, try the same call again after a pause."""


#: SQLSTATE classes and codes after which the same transaction may succeed when it is tried again.
#: 08 connection, 40 rollback (serialization, deadlock), 53 resources (disk full, memory, connections),
#: 55006/55P03 object in use and lock not available, 57 operator (shutdown, cancelled by timeout), 58 system (I/O).
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
_TRANSIENT_CODES = frozenset({"55006", "55P03", "25006", "25P03", "25P02"})
#: 22 data exception, 23 integrity: this content will be refused for ever.
_DATA_CLASSES = ("22", "23")


def is_transient(error: psycopg.Error) -> bool:
    """Whether trying again may help. Errors without an SQLSTATE are those of a broken connection."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return state.startswith(_TRANSIENT_CLASSES) or state in _TRANSIENT_CODES


def is_data(error: psycopg.Error) -> bool:
    """Whether the content of a row was refused, so that the row and not the moment is to blame."""
    if isinstance(error, psycopg.DataError):
        return True
    return error.sqlstate is not None and error.sqlstate.startswith(_DATA_CLASSES)


@contextmanager
def transient() -> Iterator[None]:
    """Turn every passing fault of the database into `TransientDatabaseError`; let the others through."""
    try:
        yield
    except psycopg.Error as error:
        if is_transient(error):
            # The primary message only: what follows it may quote values.
            said = error.diag.message_primary or str(error).strip()
            raise TransientDatabaseError(f"{type(error).__name__}: {said}") from error
        raise
