"""Transactions on the patient's record, each in somebody's name: a user, a trusted program, or the log-in.

A connection of the pool is the owner's; for the length of a transaction it takes on the application's role and the
user, and gives both up with it. What may be seen and done is then up to the database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from vitalgate.config.settings import DatabaseSettings
from vitalgate.config.transport import conninfo
from vitalgate.pki.keyring import KeyRing
from vitalgate.records.errors import Conflict, Invalid, NotAllowed, NotFound, NotLoggedIn, RecordError
from vitalgate.records.permissions import Role
from vitalgate.records.record_type import Values
from vitalgate.storage.connect import Connection, Names, names
from vitalgate.storage.errors import StorageError, TransientDatabaseError, transient

_SET = "SELECT set_config('vitalgate.' || name, value, true) FROM unnest(%s::text[], %s::text[]) AS given (name, value)"
#: Proves the access token, and acts as the user from here to the end of the transaction.
_ENTER = "SELECT enter(%s::bytea, %s::text[], %s, %s, %s, %s, %s)"
#: The commit does not wait for the disk: of a transaction that writes nothing but that something was read.
_SOON = "set_config('synchronous_commit', 'off', true)"
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


Further = Callable[[str, Values, Values], None]
"""A pre-condition from outside of the records: (verb, the record as it would become, what is given); raises Invalid."""


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
class Proof:
    """What an actor was taken from, to be proven anew in the transaction: nothing is done by a session that has ended.

    Attributes
    ----------
    mark
        SHA-256 of the access token.
    roles
        All roles that the user is taken to have.
    """

    mark: bytes
    roles: tuple[Role, ...]


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
    further: Mapping[str, Further] = field(default_factory=dict)
    """Further pre-conditions, by kind of record."""

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
    further
        Pre-conditions of changes that the records cannot know of, by kind of record: of an active plan's alert limits.
    flush_reads
        Whether `reading` waits until its audit events are on the disk; changes always do.
    """

    def __init__(
        self, settings: DatabaseSettings, keys: KeyRing, *, most: int = 8, team: str = "care", application: str = "api",
        further: Mapping[str, Further] | None = None, flush_reads: bool = True,
    ) -> None:  # fmt: skip
        if not settings.dsn:
            raise StorageError("database.dsn is empty: name a PostgreSQL (VITALGATE_DATABASE_DSN) or `vitalgate up`")
        self.names = names(settings)
        self.keys = keys
        self._team = team
        self._further = further or {}
        self._begin_reading = _ENTER if flush_reads else f"{_ENTER}, {_SOON}"
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
    def acting(self, actor: Actor, proof: Proof | None = None) -> Iterator[Transaction]:
        """One transaction of a user, in one role. What is refused in it is an audit event, written after roll-back.

        Parameters
        ----------
        proof
            Proven at its beginning; None when the caller has just done so.

        Raises
        ------
        RecordError
            For whatever the rules refuse; NotLoggedIn when the proof does not hold.
        TransientDatabaseError
            When the database is away.
        """
        try:
            with self._transaction(_ENTER, self._entering(actor, proof)) as connection:
                yield Transaction(connection, actor, self.keys, self.names, actor.user_id, self._further)
        except NotAllowed as error:
            self._tell_refused(actor, error)
            raise

    @contextmanager
    def reading(self, actor: Actor, proof: Proof | None = None) -> Iterator[Transaction]:
        """A user's transaction that only reads (and is audited), with all that is asked sent at once.

        A statement's result is there when it is fetched, and so are its errors, those of the beginning among them.
        What nobody fetches (an audit event) goes with the end.

        Raises
        ------
        RecordError, TransientDatabaseError
            As `acting`; the first that fails of all that was sent.
        """
        try:
            with self._connected() as connection, connection.pipeline():
                # One transaction from here to the end of the pipeline: no statement of it commits.
                connection.execute(self._begin_reading.encode(), self._entering(actor, proof))
                yield Transaction(connection, actor, self.keys, self.names, actor.user_id)
        except NotAllowed as error:
            self._tell_refused(actor, error)
            raise

    @contextmanager
    def service(self, name: str) -> Iterator[Transaction]:
        """One transaction of a trusted program or operator (service:NAME, user:NAME): sees all, by the same verbs."""
        settings = {"user": "", "role": "", "session": "", "place": "", "who": name, "verb": "", "team": self._team}
        with self._transaction(_SET, (list(settings), list(settings.values()))) as connection:
            yield Transaction(connection, None, self.keys, self.names, name, self._further)

    @contextmanager
    def accounts(self, place: str = "") -> Iterator[Transaction]:
        """One transaction of the log-in: accounts and sessions, and no patient's record."""
        settings = {"user": "", "role": "", "session": "", "place": place, "who": "log-in", "verb": "", "team": ""}
        text = f"{_SET}; SET LOCAL ROLE {self.names.auth_role}"
        with self._transaction(text, (list(settings), list(settings.values()))) as connection:
            yield Transaction(connection, None, self.keys, self.names, "log-in")

    def _entering(self, actor: Actor, proof: Proof | None) -> tuple[Any, ...]:
        mark, roles = (None, []) if proof is None else (proof.mark, sorted(proof.roles))
        return (mark, roles, actor.user_id, str(actor.role), actor.session_id, actor.place, self._team)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            with transient(), self._pool.connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise TransientDatabaseError(f"no connection to the database: {error}") from error
        except psycopg.Error as error:
            raise refusal(error) from error

    @contextmanager
    def _transaction(self, beginning: str, values: tuple[Any, ...]) -> Iterator[Connection]:
        """A transaction whose beginning goes to the database with its BEGIN, as one message."""
        with self._connected() as connection:
            try:
                psycopg.ClientCursor(connection).execute(f"BEGIN; {beginning}".encode(), values)
                yield connection
            except BaseException:
                with suppress(psycopg.Error):  # a broken connection has nothing to roll back
                    connection.rollback()
                raise
            connection.commit()

    def _tell_refused(self, actor: Actor, error: NotAllowed) -> None:
        with self._transaction(_ENTER, self._entering(actor, None)) as connection:
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
    if state == "VG401":
        return NotLoggedIn("the access token is over; refresh it, or log in again")
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


__all__ = ["Actor", "Proof", "RecordError", "RecordsDatabase", "Transaction", "refusal"]
