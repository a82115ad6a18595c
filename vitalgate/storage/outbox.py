"""Rows of the registry's outbox: the whole state of what changed, written in the transaction of the change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from vitalgate.config.topics import REGISTRY_ASSIGNMENTS, REGISTRY_CLINICIANS, REGISTRY_DEVICES, REGISTRY_PATIENTS
from vitalgate.storage.connect import Connection
from vitalgate.storage.errors import StorageError

CHANNEL = "registry"
"""NOTIFY channel; the payload is the schema, since one database may hold several deployments."""


def tell_device(connection: Connection, device_id: str, schema: str) -> int:
    """Put a device as it now is into the outbox; returns the outbox id."""
    row = connection.execute(
        "SELECT kind, state, serial, firmware, credential_hash, attributes, revoked_at, d.updated_at, revision,"
        " settings FROM devices d LEFT JOIN device_settings USING (device_id) WHERE device_id = %s",
        (device_id,),
    ).fetchone()
    assert row is not None
    kind, state, serial, firmware, credential, attributes, revoked_at, updated_at, revision, settings = row
    value = {
        **attributes, "device": device_id, "kind": kind, "state": state, "serial": serial, "firmware": firmware,
        "credential_hash": credential, "updated_at": updated_at,
    }  # fmt: skip
    if revoked_at is not None:
        value["revoked_at"] = revoked_at
    if revision is not None:
        value |= {"settings": settings, "settings_revision": revision}
    return _tell(connection, schema, REGISTRY_DEVICES.name, device_id, value)


def tell_assignments(connection: Connection, device_id: str, schema: str) -> int:
    """Put all assignments of a device into the outbox; returns the outbox id."""
    rows = connection.execute(
        "SELECT id, patient_id, lower(during), upper(during) FROM assignments WHERE device_id = %s ORDER BY during",
        (device_id,),
    ).fetchall()
    value = {
        "device": device_id,
        "assignments": [{"id": n, "patient": patient, "from": low, "to": high} for n, patient, low, high in rows],
    }
    return _tell(connection, schema, REGISTRY_ASSIGNMENTS.name, device_id, value)


def tell_patient(connection: Connection, patient_id: str, schema: str) -> int:
    """Put a patient as they now are into the outbox; returns the outbox id. Raises StorageError for an unknown one."""
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
    return _tell(connection, schema, REGISTRY_PATIENTS.name, patient_id, value)


def tell_clinician(connection: Connection, clinician_id: str, schema: str) -> int:
    """Put a clinician as they now are into the outbox (without the password's hash); returns the outbox id."""
    row = connection.execute(
        "SELECT name, state, credential_hash, revoked_at, updated_at,"
        " (SELECT coalesce(array_agg(team ORDER BY team), '{}')"
        " FROM clinician_teams t WHERE t.clinician_id = c.clinician_id) FROM clinicians c WHERE clinician_id = %s",
        (clinician_id,),
    ).fetchone()
    assert row is not None
    name, state, credential, revoked_at, updated_at, teams = row
    value = {
        "clinician": clinician_id, "name": name, "state": state, "teams": teams,
        "credential_id": hashlib.sha256(credential.encode()).hexdigest()[:12] if credential else "",
        "updated_at": updated_at,
    }  # fmt: skip
    if revoked_at is not None:
        value["revoked_at"] = revoked_at
    return _tell(connection, schema, REGISTRY_CLINICIANS.name, clinician_id, value)


def _tell(connection: Connection, schema: str, topic: str, key: str, value: Mapping[str, Any]) -> int:
    row = connection.execute(
        "INSERT INTO registry_outbox (topic, key, value) VALUES (%s, %s, %s) RETURNING id",
        (topic, key, orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()),
    ).fetchone()
    assert row is not None
    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, schema))
    return int(row[0])
