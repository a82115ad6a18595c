"""Patients, devices and assignments, and the outbox through which every change reaches the registry topics.

A change and its outbox rows are one transaction; the registrar is woken by NOTIFY. Transactions take one lock, so that
outbox ids rise in the order of the changes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import orjson
import psycopg

from vitalgate.config.settings import DatabaseSettings
from vitalgate.devices.kind_settings import Value
from vitalgate.storage import outbox, registry_settings
from vitalgate.storage.connect import Connection
from vitalgate.storage.errors import StorageError
from vitalgate.storage.outbox import CHANNEL
from vitalgate.storage.registry_assignments import assign
from vitalgate.storage.registry_names import check_names_free
from vitalgate.storage.registry_records import (
    Assignment,
    Change,
    Device,
    NewDevice,
    OutboxRow,
    Patient,
    Stretch,
    check_zone,
)
from vitalgate.storage.registry_settings import DeviceSettings
from vitalgate.storage.registry_user import user
from vitalgate.storage.session import Session

__all__ = ["CHANNEL", "Assignment", "Change", "Device", "NewDevice", "OutboxRow", "Patient", "Registry"]


class Registry:
    """One connection; for one thread at a time.

    Parameters
    ----------
    who
        In whose name changes are made, for the audit; whoever runs this process when left out.
    """

    def __init__(self, database: DatabaseSettings, *, who: str | None = None) -> None:
        self._schema = database.db_schema
        self._who = who or user()
        self._session = Session(database, "registry")

    def __enter__(self) -> Self:
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
                connection.execute("SELECT set_config('vitalgate.who', %s, true)", (self._who,))
                yield connection
        except psycopg.errors.ForeignKeyViolation as error:
            raise StorageError(_not_known(error)) from error

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
            return Change(outbox.tell_patient(connection, patient_id, self._schema))

    def move_patient(self, patient_id: str, zone: str, since: datetime) -> Change:
        """From this moment on the patient's day is that of another zone."""
        check_zone(zone)
        with self._change() as connection:
            connection.execute(
                "INSERT INTO patient_zones VALUES (%s, %s, %s)"
                " ON CONFLICT (patient_id, since) DO UPDATE SET zone = excluded.zone",
                (patient_id, since, zone),
            )
            return Change(outbox.tell_patient(connection, patient_id, self._schema))

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
            return Change(outbox.tell_patient(connection, patient_id, self._schema))

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
        """Add devices, all or none, each assigned from now on (or from its `since`) when it names a patient.

        A revoked device may be added again, with new credentials.

        Raises
        ------
        StorageError
            When an id is taken by an active device, or a patient is unknown.
        """
        newest: int | None = None
        moved: list[Stretch] = []
        with self._change() as connection:
            check_names_free(connection, [device.device_id for device in devices])
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
                registry_settings.clear(connection, device.device_id)
                newest = outbox.tell_device(connection, device.device_id, self._schema)
                if device.patient is not None:
                    start = device.since or datetime.now(UTC)
                    moved += assign(connection, device.device_id, device.patient, start, None)
                    newest = outbox.tell_assignments(connection, device.device_id, self._schema)
        return Change(newest, moved)

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
            return Change(outbox.tell_device(connection, device_id, self._schema))

    def set_credentials(self, device_id: str, credential_hash: str) -> Change:
        """Give a device another password."""
        with self._change() as connection:
            done = connection.execute(
                "UPDATE devices SET credential_hash = %s, updated_at = now() WHERE device_id = %s AND state = 'active'",
                (credential_hash, device_id),
            )
            if not done.rowcount:
                raise StorageError(f"no active device {device_id!r}; `vitalgate device list` shows those there are")
            return Change(outbox.tell_device(connection, device_id, self._schema))

    def configure(
        self, device_id: str, wanted: Mapping[str, Value], unset: Collection[str] = (), *, undeclared: bool = False
    ) -> Change:
        """Set and unset settings of an active device; nothing happens when they are so already.

        Names and values must be those that its kind declares, or with ``undeclared`` any.
        """
        with self._change() as connection:
            row = connection.execute("SELECT state, kind FROM devices WHERE device_id = %s", (device_id,)).fetchone()
            if row is None or row[0] != "active":
                raise StorageError(f"no active device {device_id!r}; `vitalgate device list` shows those there are")
            found = registry_settings.read(connection, device_id)
            before = found[0].settings if found else {}
            after = registry_settings.changed(before, wanted, unset)
            if not undeclared:
                registry_settings.declared(row[1], wanted)
            if orjson.dumps(after, option=orjson.OPT_SORT_KEYS) == orjson.dumps(before, option=orjson.OPT_SORT_KEYS):
                return Change(None)
            registry_settings.write(connection, device_id, after)
            return Change(outbox.tell_device(connection, device_id, self._schema))

    def settings(self, device_id: str | None = None) -> list[DeviceSettings]:
        """Of all devices that have had settings, or of the one."""
        with self._session.transaction() as connection:
            return registry_settings.read(connection, device_id)

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
            moved = assign(connection, device_id, patient_id, start, stop)
            return Change(outbox.tell_assignments(connection, device_id, self._schema), moved)

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

    # --- outbox -----------------------------------------------------------------------------------------------------

    def outbox(self, limit: int = 1000) -> list[OutboxRow]:
        """Changes that have not been applied yet, oldest first."""
        with self._session.transaction() as connection:
            rows = connection.execute(
                "SELECT id, topic, key, value, created_at, who FROM registry_outbox WHERE applied_at IS NULL"
                " ORDER BY id LIMIT %s",
                (limit,),
            ).fetchall()
        return [
            OutboxRow(n, topic, key, orjson.dumps({**value, "change": n}), *rest)
            for n, topic, key, value, *rest in rows
        ]

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
                outbox.tell_device(connection, device, self._schema)
                outbox.tell_assignments(connection, device, self._schema)
            for (patient,) in connection.execute("SELECT patient_id FROM patients ORDER BY patient_id").fetchall():
                outbox.tell_patient(connection, patient, self._schema)
            for (name,) in connection.execute("SELECT clinician_id FROM clinicians ORDER BY clinician_id").fetchall():
                outbox.tell_clinician(connection, name, self._schema)
        return self.outbox(limit=1_000_000)


def _not_known(error: psycopg.errors.ForeignKeyViolation) -> str:
    """What a reference to something that is not there means to a person."""
    detail = error.diag.message_detail or str(error)
    found = re.match(r"Key \((patient|device)_id\)=\((.*)\) is not present", detail)
    if found is None:
        return detail
    what, name = found.groups()
    return f"no {what} {name!r}; add it first with `vitalgate {what} add`"
