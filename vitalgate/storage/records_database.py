"""Transactions on the patient's record, each in somebody's name: a user, a trusted program, or the log-in.

A connection of the pool is the owner's; for the length of a transaction it takes on the application's role and the
user, and gives both up with it. What may be seen and done is then up to the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from vitalgate.config.settings import DatabaseSettings
from vitalgate.config.transport import conninfo
from vitalgate.pki.keyring import KeyRing
from vitalgate.records.errors import Conflict, Invalid, NotAllowed, NotFound, RecordError
from vitalgate.records.permissions import Role
from vitalgate.storage.connect import Connection, Names, names
from vitalgate.storage.errors import StorageError, TransientDatabaseError, transient

_SET = "SELECT set_config('vitalgate.' || name, value, true) FROM unnest(%s::text[], %s::text[]) AS given (name, value)"
#: What a constraint that is in the way means to a person, by a part of its name.
_STANDS_AGAINST = {
    "appointments_provider_once": "the clinician has another appointment at that time",
    "appointments_patient_once": "the patient has another appointment at that time",
    "treatment_plans_one_active": "another plan of this kind is active; complete or suspend it first",
    "care_team_patient": "the clinician is on this patient's care team already",
    "medical_record_number": "another patient has this medicalRecordNumber",
    "patient_profiles_pkey": "this patient has a profile already",
    "patient_profiles_patient_id_key": "this patient has a profile already",
    "users_email_index_key": "there is an account with this e-mail address",
    "users_patient_id_key": "another user is this patient",
    "users_clinician_id_key": "another user is this clinician",
}
_CANNOT_BE = {
    "break_glass_short": "a record is opened for at most 24 hours",
    "break_glass_reason": "the reason has 5 to 500 characters",
    "messages_one_patient": "that thread is about another patient",
}
_REFERS = re.compile(r"(\w+)_fkey")


@dataclass(frozen=True)
class Actor:
    """Who acts, and in which role: one transaction, one role."""

    user_id: str
    role: Role
    session_id: str = ""
    place: str = ""
    """Address that the request came from."""
    via: str = ""
    """rest, graphql, live, …."""


@dataclass(frozen=True)
class Transaction:
    """One open transaction.

    Attributes
    ----------
    connection
        Plain names mean records (and, for a trusted program, tables of the pipeline too).
    actor
        None for a trusted program and for the log-in.
    keys
        Seal identity fields.
    """

    connection: Connection
    actor: Actor | None
    keys: KeyRing
    names: Names
    who: str
    """As `changed_by` has it: a user's id, or service:NAME."""

    def execute(self, text: str, values: Any = None) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run a statement."""
        return self.connection.execute(text.encode(), values)


class RecordsDatabase:
    """A pool of connections; for any number of threads.

    Parameters
    ----------
    keys
        The ring that seals what identifies a person.
    most
        Connections at most; a transaction beyond that waits.
    team
        Alert team of patients who are registered by their profile.
    """

    def __init__(
        self, settings: DatabaseSettings, keys: KeyRing, *, most: int = 8, team: str = "care", application: str = "api"
    ) -> None:
        if not settings.dsn:
            raise StorageError("database.dsn is empty: name a PostgreSQL (VITALGATE_DATABASE_DSN) or `vitalgate up`")
        self.names = names(settings)
        self.keys = keys
        self._team = team
        where = self.names
        options = (
            f"-c search_path={where.records},{where.data},public -c timezone=UTC -c datestyle=ISO -c jit=off"
            " -c client_min_messages=warning -c statement_timeout=30000 -c lock_timeout=10000"
        )
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            conninfo(settings), min_size=min(2, most), max_size=most, open=False, timeout=10.0,
            kwargs={"options": options, "application_name": f"vitalgate {application}", "autocommit": True},
        )  # fmt: skip

    def open(self) -> None:
        """Connect."""
        self._pool.open()

    def close(self) -> None:
        """Disconnect."""
        self._pool.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def acting(self, actor: Actor) -> Iterator[Transaction]:
        """One transaction of a user, in one role. What is refused in it is an audit event, written after roll-back.

        Raises
        ------
        RecordError
            For whatever the rules refuse.
        TransientDatabaseError
            When the database is away.
        """
        settings = {
            "user": actor.user_id, "role": str(actor.role), "session": actor.session_id, "place": actor.place,
            "who": f"user:{actor.user_id}", "verb": "", "team": self._team,
        }  # fmt: skip
        try:
            with self._transaction(settings, self.names.app_role) as connection:
                yield Transaction(connection, actor, self.keys, self.names, actor.user_id)
        except NotAllowed as error:
            self._tell_refused(settings, error)
            raise

    @contextmanager
    def service(self, name: str) -> Iterator[Transaction]:
        """One transaction of a trusted program or operator (service:NAME, user:NAME): sees all, by the same verbs."""
        settings = {"user": "", "role": "", "session": "", "place": "", "who": name, "verb": "", "team": self._team}
        with self._transaction(settings, None) as connection:
            yield Transaction(connection, None, self.keys, self.names, name)

    @contextmanager
    def accounts(self, place: str = "") -> Iterator[Transaction]:
        """One transaction of the log-in: accounts and sessions, and no patient's record."""
        settings = {"user": "", "role": "", "session": "", "place": place, "who": "log-in", "verb": "", "team": ""}
        with self._transaction(settings, self.names.auth_role) as connection:
            yield Transaction(connection, None, self.keys, self.names, "log-in")

    @contextmanager
    def _transaction(self, settings: dict[str, str], role: str | None) -> Iterator[Connection]:
        try:
            with transient(), self._pool.connection() as connection, connection.transaction():
                connection.execute(_SET, (list(settings), list(settings.values())))
                if role is not None:
                    connection.execute(f"SET LOCAL ROLE {role}".encode())
                yield connection
        except PoolTimeout as error:
            raise TransientDatabaseError(f"no connection to the database: {error}") from error
        except psycopg.Error as error:
            raise refusal(error) from error

    def _tell_refused(self, settings: dict[str, str], error: NotAllowed) -> None:
        with self._transaction(settings, self.names.app_role) as connection:
            connection.execute(
                "SELECT audit(%s, %s, %s, %s, 'refused', '{}')",
                (error.action or "records.refused", error.record or "record", error.entity or "", error.patient),
            )


def refusal(error: psycopg.Error) -> Exception:
    """What an error of the database means to whoever asked; the error itself when it means nothing to them."""
    state = error.sqlstate or ""
    said = error.diag.message_primary or str(error)
    constraint = error.diag.constraint_name or ""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return NotAllowed(said)
    if state == "VG409":
        return Conflict(said)
    if state == "VG404":
        return NotFound(said)
    if state == "VG422":
        return Invalid(said)
    if isinstance(error, (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation)):
        for name, text in _STANDS_AGAINST.items():
            if name in constraint:
                return Conflict(text)
        return Conflict(f"another record stands against it ({constraint})")
    if isinstance(error, psycopg.errors.ForeignKeyViolation):
        # The constraint's name, since the detail is kept from those who may not read the other table.
        found = _REFERS.fullmatch(constraint.removeprefix(f"{error.diag.table_name}_"))
        what = found[1].removesuffix("_id") if found else "reference"
        return Invalid(f"there is no such {what}", [(what, "does not exist")])
    if isinstance(error, psycopg.errors.CheckViolation):
        for name, text in _CANNOT_BE.items():
            if name in constraint:
                return Invalid(text)
        return Invalid(f"the value is refused by {constraint}")
    if isinstance(error, psycopg.DataError):
        return Invalid(f"a value cannot be stored: {said}")
    return error


__all__ = ["Actor", "RecordError", "RecordsDatabase", "Transaction", "refusal"]
