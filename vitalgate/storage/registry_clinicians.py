"""Clinicians and their teams, in the registry: a change and its outbox row are one transaction, as for devices.

A clinician's teams are lines of the care team: who gets the alerts of a team's patients sees their records too. Being
taken from a team ends the line; that it was there stays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vitalgate.storage import outbox
from vitalgate.storage.connect import Connection
from vitalgate.storage.errors import StorageError
from vitalgate.storage.registry import Registry
from vitalgate.storage.registry_names import check_name_free
from vitalgate.storage.registry_records import Change

TEAM_MOST = 40
_LEAVE = (
    "UPDATE care_team SET status = 'ended', to_time = clock_timestamp(), changed_at = now(), version = version + 1"
    " WHERE clinician_id = %s AND status = 'active' AND team IS NOT NULL"
)


@dataclass(frozen=True)
class Clinician:
    """A clinician as the registry knows them."""

    clinician_id: str
    """User name on the broker."""
    name: str
    state: str
    teams: list[str]
    credential_hash: str
    created_at: datetime
    updated_at: datetime
    revoked_at: datetime | None

    def document(self) -> dict[str, Any]:
        """For `--json`; without the credential."""
        return {
            "clinician": self.clinician_id, "name": self.name, "state": self.state, "teams": self.teams,
            "created_at": self.created_at, "revoked_at": self.revoked_at,
        }  # fmt: skip


class CareRegistry(Registry):
    """The registry, with clinicians."""

    def add_clinician(self, clinician_id: str, name: str, credential_hash: str, teams: Collection[str]) -> Change:
        """Add a clinician; one whose access was taken away may be added again, with the teams named now.

        Raises
        ------
        StorageError
            When the name is taken, by a device too, or a team cannot be.
        """
        _check_teams(teams)
        with self._change() as connection:
            check_name_free(connection, clinician_id)
            done = connection.execute(
                """
                INSERT INTO clinicians AS c (clinician_id, name, credential_hash) VALUES (%s, %s, %s)
                ON CONFLICT (clinician_id) DO UPDATE SET name = excluded.name, state = 'active', revoked_at = NULL,
                    credential_hash = excluded.credential_hash, updated_at = now()
                WHERE c.state = 'revoked' OR c.credential_hash = ''
                """,
                (clinician_id, name, credential_hash),
            )
            if not done.rowcount:
                raise StorageError(
                    f"clinician {clinician_id!r} exists already; `vitalgate clinician assign` changes their teams"
                )
            connection.execute(f"{_LEAVE} AND NOT team = ANY(%s)", (clinician_id, list(teams)))
            _put(connection, clinician_id, teams)
            return Change(outbox.tell_clinician(connection, clinician_id, self._schema))

    def assign_clinician(self, clinician_id: str, add: Collection[str], remove: Collection[str]) -> Change:
        """Give a clinician teams, and take teams away; nothing happens when it is so already.

        Raises
        ------
        StorageError
            For an unknown clinician, a team that cannot be, or one that is both.
        """
        _check_teams(add)
        both = sorted(set(add) & set(remove))
        if both:
            raise StorageError(f"team {both[0]!r} is to be given and taken away at once")
        with self._change() as connection:
            _active(connection, clinician_id)
            taken = connection.execute(f"{_LEAVE} AND team = ANY(%s)", (clinician_id, list(remove))).rowcount
            if not taken + _put(connection, clinician_id, add):
                return Change(None)
            connection.execute("UPDATE clinicians SET updated_at = now() WHERE clinician_id = %s", (clinician_id,))
            return Change(outbox.tell_clinician(connection, clinician_id, self._schema))

    def revoke_clinician(self, clinician_id: str) -> Change:
        """Take a clinician's access away; what they did stays."""
        with self._change() as connection:
            _active(connection, clinician_id)
            connection.execute(
                "UPDATE clinicians SET state = 'revoked', revoked_at = now(), updated_at = now()"
                " WHERE clinician_id = %s",
                (clinician_id,),
            )
            return Change(outbox.tell_clinician(connection, clinician_id, self._schema))

    def set_clinician_credentials(self, clinician_id: str, credential_hash: str) -> Change:
        """Give a clinician another password."""
        with self._change() as connection:
            _active(connection, clinician_id)
            connection.execute(
                "UPDATE clinicians SET credential_hash = %s, updated_at = now() WHERE clinician_id = %s",
                (credential_hash, clinician_id),
            )
            return Change(outbox.tell_clinician(connection, clinician_id, self._schema))

    def clinicians(self, clinician_id: str | None = None) -> list[Clinician]:
        """All clinicians, or the one."""
        with self._session.transaction() as connection:
            rows = connection.execute(
                """
                SELECT clinician_id, name, state,
                    (SELECT coalesce(array_agg(team ORDER BY team), '{}') FROM clinician_teams t
                     WHERE t.clinician_id = c.clinician_id),
                    credential_hash, created_at, updated_at, revoked_at
                FROM clinicians c WHERE %s::text IS NULL OR clinician_id = %s ORDER BY clinician_id
                """,
                (clinician_id, clinician_id),
            ).fetchall()
        return [Clinician(*row) for row in rows]


def _active(connection: Connection, clinician_id: str) -> None:
    row = connection.execute(
        "SELECT state FROM clinicians WHERE clinician_id = %s FOR UPDATE", (clinician_id,)
    ).fetchone()
    if row != ("active",):
        raise StorageError(f"no active clinician {clinician_id!r}; `vitalgate clinician list` shows those there are")


def _put(connection: Connection, clinician_id: str, teams: Collection[str]) -> int:
    return connection.execute(
        "INSERT INTO care_team (clinician_id, team, created_by)"
        " SELECT %s, unnest(%s::text[]), current_setting('vitalgate.who', true) ON CONFLICT DO NOTHING",
        (clinician_id, sorted(set(teams))),
    ).rowcount


def _check_teams(teams: Collection[str]) -> None:
    for team in teams:
        if not team or len(team) > TEAM_MOST or not team.isprintable() or team != team.strip():
            raise StorageError(f"{team!r} is no name of a team: use 1 to {TEAM_MOST} printable characters")
