"""Patients, devices and assignments, and the outbox through which every change reaches the registry topics.

A change and its outbox rows are one transaction; the registrar is woken by NOTIFY. Transactions take one lock, so that
outbox ids rise in the order of the changes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
import psycopg

from vitalgate.config.settings import DatabaseSettings
from vitalgate.config.topics import REGISTRY_ASSIGNMENTS, REGISTRY_DEVICES, REGISTRY_PATIENTS
from vitalgate.storage.connect import Connection
from vitalgate.storage.errors import StorageError
from vitalgate.storage.session import Session

CHANNEL = "registry"
"""NOTIFY channel; the payload is the schema, since one database may hold several deployments."""


@dataclass(frozen=True)
class Patient:
    """A patient: an opaque id, a care team, a time zone with its history."""

    patient_id: str
    team: str
    zones: list[tuple[datetime | None, str]]
    """(from, IANA zone), oldest first; None is since ever."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)
    """Assigned now."""

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "patient_id": self.patient_id,
            "team": self.team,
            "zone": self.zones[-1][1],
            "zones": [{"from": since, "zone": zone} for since, zone in self.zones],
            "overrides": dict(self.overrides),
            "devices": self.devices,
        }


@dataclass(frozen=True)
class Device:
    """A device as the registry knows it."""

    device_id: str
    kind: str
    state: str
    serial: str
    firmware: str
    credential_hash: str
    attributes: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    revoked_at: datetime | None
    patient: str | None = None
    """Assigned to now."""


@dataclass(frozen=True)
class Assignment:
    """Who had a device, from (inclusive) to (exclusive; None is until further notice)."""

    id: int
    device_id: str
    patient_id: str
    start: datetime
    stop: datetime | None

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "id": self.id,
            "device_id": self.device_id,
            "patient_id": self.patient_id,
            "from": self.start,
            "to": self.stop,
        }


@dataclass(frozen=True)
class NewDevice:
    """What `add_devices` needs to know of each."""

    device_id: str
    kind: str
    credential_hash: str
    patient: str | None = None
    serial: str = ""
    firmware: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OutboxRow:
    """One change on its way to a registry topic."""

    id: int
    topic: str
    """Base name, without the deployment's prefix."""
    key: str
    value: bytes
    """JSON."""
    created_at: datetime


@dataclass(frozen=True)
class Change:
    """What a registry call did: the newest outbox id (None when nothing changed)."""

    outbox: int | None
    moved: list[tuple[str, datetime, datetime | None, str | None, str | None]] = field(default_factory=list)
    """(device, from, to, patient before, patient after) of every stretch whose patient changed."""


class Registry:
    """One connection; for one thread at a time."""

    def __init__(self, database: DatabaseSettings) -> None:
        self._schema = database.db_schema
        self._session = Session(database, "registry")

    def __enter__(self) -> Registry:
        self._session.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._session.close()

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        try:
            with self._session.transaction() as connection:
                connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 2))", (self._schema,))
                yield connection
        except psycopg.errors.ForeignKeyViolation as error:
            raise StorageError(f"{error.diag.message_detail or error}") from error

    # --- patients ---------------------------------------------------------------------------------------------------

    def add_patient(self, patient_id: str, zone: str, team: str, overrides: Mapping[str, Any] | None = None) -> Change:
        """Add a patient. Raises StorageError when the id is taken or the zone is unknown."""
        check_zone(zone)
        with self._change() as connection:
            done = connection.execute(
                "INSERT INTO patients (patient_id, team, overrides) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (patient_id, team, orjson.dumps(overrides or {}).decode()),
            )
            if not done.rowcount:
                raise StorageError(f"patient {patient_id!r} exists already; `vitalgate patient show` tells more")
            connection.execute("INSERT INTO patient_zones VALUES (%s, '-infinity', %s)", (patient_id, zone))
            return Change(self._tell_patient(connection, patient_id))

    def move_patient(self, patient_id: str, zone: str, since: datetime) -> Change:
        """From this moment on the patient's day is that of another zone."""
        check_zone(zone)
        with self._change() as connection:
            connection.execute(
                "INSERT INTO patient_zones VALUES (%s, %s, %s)"
                " ON CONFLICT (patient_id, since) DO UPDATE SET zone = excluded.zone",
                (patient_id, since, zone),
            )
            return Change(self._tell_patient(connection, patient_id))

    def set_patient(
        self, patient_id: str, *, team: str | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Change:
        """Give a patient another team or other rule overrides."""
        with self._change() as connection:
            done = connection.execute(
                "UPDATE patients SET team = coalesce(%s, team), overrides = coalesce(%s, overrides), updated_at = now()"
                " WHERE patient_id = %s",
                (team, None if overrides is None else orjson.dumps(overrides).decode(), patient_id),
            )
            if not done.rowcount:
                raise StorageError(f"no patient {patient_id!r}; `vitalgate patient list` shows those there are")
            return Change(self._tell_patient(connection, patient_id))

    def patients(self, patient_id: str | None = None) -> list[Patient]:
        """All patients, or the one."""
        with self._session.transaction() as connection:
            rows = connection.execute(
                """
                SELECT p.patient_id, p.team, p.overrides,
                    (SELECT array_agg(nullif(since, '-infinity') ORDER BY since) FROM patient_zones z
                     WHERE z.patient_id = p.patient_id),
                    (SELECT array_agg(zone ORDER BY since) FROM patient_zones z WHERE z.patient_id = p.patient_id),
                    (SELECT coalesce(array_agg(device_id ORDER BY device_id), '{}') FROM assignments a
                     WHERE a.patient_id = p.patient_id AND a.during @> now())
                FROM patients p WHERE %s::text IS NULL OR p.patient_id = %s ORDER BY p.patient_id
                """,
                (patient_id, patient_id),
            ).fetchall()
        return [
            Patient(identity, team, list(zip(since, zones, strict=True)), overrides, devices)
            for identity, team, overrides, since, zones, devices in rows
        ]

    # --- devices ----------------------------------------------------------------------------------------------------

    def add_device(self, device: NewDevice) -> Change:
        """Add one device, see `add_devices`."""
        return self.add_devices([device])

    def add_devices(self, devices: Sequence[NewDevice]) -> Change:
        """Add devices, all or none, each assigned from now on when it names a patient.

        A revoked device may be added again, with new credentials.

        Raises
        ------
        StorageError
            When an id is taken by an active device, or a patient is unknown.
        """
        outbox: int | None = None
        moved = []
        with self._change() as connection:
            for device in devices:
                done = connection.execute(
                    """
                    INSERT INTO devices AS d (device_id, kind, credential_hash, serial, firmware, attributes)
                    VALUES (%s, %s, %s, %s, %s, %s)
                    ON CONFLICT (device_id) DO UPDATE SET kind = excluded.kind, state = 'active', revoked_at = NULL,
                        credential_hash = excluded.credential_hash, serial = excluded.serial,
                        firmware = excluded.firmware, attributes = excluded.attributes, updated_at = now()
                    WHERE d.state = 'revoked'
                    """,
                    (
                        device.device_id, device.kind, device.credential_hash, device.serial, device.firmware,
                        orjson.dumps(dict(device.attributes)).decode(),
                    ),
                )  # fmt: skip
                if not done.rowcount:
                    raise StorageError(f"device {device.device_id!r} exists already; revoke it first to add it anew")
                outbox = self._tell_device(connection, device.device_id)
                if device.patient is not None:
                    moved += self._assign(connection, device.device_id, device.patient, datetime.now(UTC), None)
                    outbox = self._tell_assignments(connection, device.device_id)
        return Change(outbox, moved)

    def revoke(self, device_id: str) -> Change:
        """Take a device's access away. Its history stays."""
        with self._change() as connection:
            done = connection.execute(
                "UPDATE devices SET state = 'revoked', revoked_at = now(), updated_at = now()"
                " WHERE device_id = %s AND state = 'active'",
                (device_id,),
            )
            if not done.rowcount:
                raise StorageError(f"no active device {device_id!r}; `vitalgate device list` shows those there are")
            return Change(self._tell_device(connection, device_id))

    def set_credentials(self, device_id: str, credential_hash: str) -> Change:
        """Give a device another password."""
        with self._change() as connection:
            done = connection.execute(
                "UPDATE devices SET credential_hash = %s, updated_at = now() WHERE device_id = %s AND state = 'active'",
                (credential_hash, device_id),
            )
            if not done.rowcount:
                raise StorageError(f"no active device {device_id!r}; `vitalgate device list` shows those there are")
            return Change(self._tell_device(connection, device_id))

    def devices(self, device_id: str | None = None) -> list[Device]:
        """All devices, or the one."""
        with self._session.transaction() as connection:
            rows = connection.execute(
                """
                SELECT d.device_id, kind, state, serial, firmware, credential_hash, attributes, d.created_at,
                updated_at,
                       revoked_at, a.patient_id
                FROM devices d LEFT JOIN assignments a ON a.device_id = d.device_id AND a.during @> now()
                WHERE %s::text IS NULL OR d.device_id = %s ORDER BY d.device_id
                """,
                (device_id, device_id),
            ).fetchall()
        return [Device(*row) for row in rows]

    # --- assignments ------------------------------------------------------------------------------------------------

    def assign(self, device_id: str, patient_id: str | None, start: datetime, stop: datetime | None = None) -> Change:
        """Say who has (or had) a device in [start, stop): whatever was said of that stretch before is replaced.

        Parameters
        ----------
        patient_id
            None: nobody had it.
        stop
            None: until further notice.

        Returns
        -------
        Change
            `moved` lists every stretch whose patient is now another, for the claim or the move of its data.
        """
        with self._change() as connection:
            if connection.execute("SELECT FROM devices WHERE device_id = %s FOR UPDATE", (device_id,)).rowcount == 0:
                raise StorageError(f"no device {device_id!r}; add it with `vitalgate device add`")
            moved = self._assign(connection, device_id, patient_id, start, stop)
            return Change(self._tell_assignments(connection, device_id), moved)

    def assignments(self, device_id: str | None = None, patient_id: str | None = None) -> list[Assignment]:
        """Assignments in order of time, of one device or patient if given."""
        with self._session.transaction() as connection:
            rows = connection.execute(
                """
                SELECT id, device_id, patient_id, lower(during), upper(during) FROM assignments
                WHERE (%s::text IS NULL OR device_id = %s) AND (%s::text IS NULL OR patient_id = %s)
                ORDER BY device_id, during
                """,
                (device_id, device_id, patient_id, patient_id),
            ).fetchall()
        return [Assignment(*row) for row in rows]

    def _assign(
        self, connection: Connection, device_id: str, patient_id: str | None, start: datetime, stop: datetime | None
    ) -> list[tuple[str, datetime, datetime | None, str | None, str | None]]:
        if stop is not None and stop <= start:
            raise StorageError(f"the assignment ends at {stop.isoformat()}, not after its start {start.isoformat()}")
        before = connection.execute(
            "DELETE FROM assignments WHERE device_id = %s AND during && tstzrange(%s, %s)"
            " RETURNING patient_id, lower(during), upper(during)",
            (device_id, start, stop),
        ).fetchall()
        pieces: list[tuple[str, datetime, datetime | None]] = []
        for patient, low, high in before:
            if low < start:
                pieces.append((patient, low, start))
            if stop is not None and (high is None or stop < high):
                pieces.append((patient, stop, high))
        if patient_id is not None:
            pieces.append((patient_id, start, stop))
        for patient, low, high in pieces:
            connection.execute(
                "INSERT INTO assignments (device_id, patient_id, during) VALUES (%s, %s, tstzrange(%s, %s))",
                (device_id, patient, low, high),
            )
        return moved_stretches(device_id, patient_id, start, stop, sorted(before, key=lambda row: row[1]))

    # --- outbox -----------------------------------------------------------------------------------------------------

    def outbox(self, limit: int = 1000) -> list[OutboxRow]:
        """Changes that have not been applied yet, oldest first."""
        with self._session.transaction() as connection:
            rows = connection.execute(
                "SELECT id, topic, key, value, created_at FROM registry_outbox WHERE applied_at IS NULL"
                " ORDER BY id LIMIT %s",
                (limit,),
            ).fetchall()
        return [OutboxRow(n, topic, key, orjson.dumps({**value, "change": n}), at) for n, topic, key, value, at in rows]

    def previous(self, rows: Sequence[OutboxRow]) -> dict[int, dict[str, Any]]:
        """What the change before each of these said of the same device or patient, by the row's id.

        Rows without a change before them are left out.
        """
        with self._session.transaction() as connection:
            found = connection.execute(
                """
                SELECT DISTINCT ON (asked.id) asked.id, o.value
                FROM registry_outbox o
                JOIN unnest(%s::bigint[], %s::text[], %s::text[]) AS asked (id, topic, key)
                    ON o.topic = asked.topic AND o.key = asked.key AND o.id < asked.id
                ORDER BY asked.id, o.id DESC
                """,
                ([row.id for row in rows], [row.topic for row in rows], [row.key for row in rows]),
            ).fetchall()
        return dict(found)

    def mark_applied(self, ids: Iterable[int]) -> None:
        """The registrar has sent these changes to their topics and the broker."""
        with self._session.transaction() as connection:
            connection.execute("UPDATE registry_outbox SET applied_at = now() WHERE id = ANY(%s)", (list(ids),))
            connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL + "_applied", self._schema))

    def wait_applied(self, change: int | None, timeout_s: float) -> bool:
        """Whether a change reaches the topics and the broker within this time."""
        deadline = time.monotonic() + timeout_s
        while change is not None:
            with self._session.transaction() as connection:
                row = connection.execute("SELECT applied_at FROM registry_outbox WHERE id = %s", (change,)).fetchone()
            if row is None or row[0] is not None:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def everything(self) -> list[OutboxRow]:
        """The state of all devices, assignments and patients, as outbox rows: for a registrar that starts anew."""
        with self._change() as connection:
            for (device,) in connection.execute("SELECT device_id FROM devices ORDER BY device_id").fetchall():
                self._tell_device(connection, device)
                self._tell_assignments(connection, device)
            for (patient,) in connection.execute("SELECT patient_id FROM patients ORDER BY patient_id").fetchall():
                self._tell_patient(connection, patient)
        return self.outbox(limit=1_000_000)

    def _tell_device(self, connection: Connection, device_id: str) -> int:
        row = connection.execute(
            "SELECT kind, state, serial, firmware, credential_hash, attributes, revoked_at, updated_at FROM devices"
            " WHERE device_id = %s",
            (device_id,),
        ).fetchone()
        assert row is not None
        kind, state, serial, firmware, credential, attributes, revoked_at, updated_at = row
        value = {
            **attributes, "device": device_id, "kind": kind, "state": state, "serial": serial, "firmware": firmware,
            "credential_hash": credential, "updated_at": updated_at,
        }  # fmt: skip
        if revoked_at is not None:
            value["revoked_at"] = revoked_at
        return self._tell(connection, REGISTRY_DEVICES.name, device_id, value)

    def _tell_assignments(self, connection: Connection, device_id: str) -> int:
        rows = connection.execute(
            "SELECT id, patient_id, lower(during), upper(during) FROM assignments WHERE device_id = %s ORDER BY during",
            (device_id,),
        ).fetchall()
        value = {
            "device": device_id,
            "assignments": [{"id": n, "patient": patient, "from": low, "to": high} for n, patient, low, high in rows],
        }
        return self._tell(connection, REGISTRY_ASSIGNMENTS.name, device_id, value)

    def _tell_patient(self, connection: Connection, patient_id: str) -> int:
        row = connection.execute("SELECT team, overrides FROM patients WHERE patient_id = %s", (patient_id,)).fetchone()
        if row is None:
            raise StorageError(f"no patient {patient_id!r}; `vitalgate patient list` shows those there are")
        zones = connection.execute(
            "SELECT nullif(since, '-infinity'), zone FROM patient_zones WHERE patient_id = %s ORDER BY since",
            (patient_id,),
        ).fetchall()
        value = {
            "patient": patient_id,
            "zones": [{"from": since, "zone": zone} for since, zone in zones],
            "team": row[0],
            "overrides": row[1],
        }
        return self._tell(connection, REGISTRY_PATIENTS.name, patient_id, value)

    def _tell(self, connection: Connection, topic: str, key: str, value: Mapping[str, Any]) -> int:
        row = connection.execute(
            "INSERT INTO registry_outbox (topic, key, value) VALUES (%s, %s, %s) RETURNING id",
            (topic, key, orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()),
        ).fetchone()
        assert row is not None
        connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self._schema))
        return int(row[0])


def check_zone(zone: str) -> None:
    """Raises StorageError for anything but an IANA time zone."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise StorageError(f"{zone!r} is not an IANA time zone such as Europe/Berlin") from error


def moved_stretches(
    device: str,
    patient: str | None,
    start: datetime,
    stop: datetime | None,
    before: Sequence[tuple[str, datetime, datetime | None]],
) -> list[tuple[str, datetime, datetime | None, str | None, str | None]]:
    """The stretches of [start, stop) whose patient changes, given who had the device before, in order of time."""
    stretches: list[tuple[str, datetime, datetime | None, str | None, str | None]] = []
    at: datetime | None = start
    for earlier, low, high in before:
        assert at is not None
        if low > at:
            stretches.append((device, at, low, None, patient))
        begin = max(low, start)
        end = stop if high is None else high if stop is None else min(high, stop)
        stretches.append((device, begin, end, earlier, patient))
        at = end
        if at is None:
            break
    if at is not None and (stop is None or at < stop):
        stretches.append((device, at, stop, None, patient))
    return [stretch for stretch in stretches if stretch[3] != stretch[4]]
