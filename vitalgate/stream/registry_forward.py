"""Brings a registry that was put back from a backup forward to what the registry topics say happened since.

Devices, patients and assignments are on the topics whole. Of clinicians the topics have all but the hash of the
password: those who were added since are told, for somebody to add them again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.storage.connect import Connection, connect
from vitalgate.storage.errors import transient
from vitalgate.storage.registry import Registry
from vitalgate.stream import lookback

#: Fields of a device's record that have a column, or are no property of the device.
_COLUMNS = frozenset(
    {"device", "kind", "state", "serial", "firmware", "credential_hash", "updated_at", "revoked_at", "settings",
     "settings_revision", "change"}
)  # fmt: skip
_LAST = "SELECT coalesce(max(last_value), 0) FROM pg_sequences WHERE schemaname = %s AND sequencename = %s"
_AHEAD = "SELECT setval(pg_get_serial_sequence('registry_outbox', 'id'), greatest(%s, 1))"


@dataclass
class Brought:
    """What was done."""

    devices: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    assignments: list[str] = field(default_factory=list)
    """Devices whose assignments were."""
    clinicians_missing: list[str] = field(default_factory=list)
    """Added since the backup; their passwords are nowhere."""


def bring_forward(settings: Settings) -> Brought:
    """Take over what is newer on the topics, number on from there, and have everything sent again.

    Raises
    ------
    TransientError, TransientDatabaseError
        When Kafka or the database does not answer.
    """
    found = {topic: _load(settings, topic) for topic in (
        topics.REGISTRY_PATIENTS, topics.REGISTRY_DEVICES, topics.REGISTRY_ASSIGNMENTS, topics.REGISTRY_CLINICIANS
    )}  # fmt: skip
    brought = Brought()
    with transient(), connect(settings.database, "backup") as connection:
        known = _last(connection, settings)
        newer = {
            topic: [body for body in bodies if int(body.get("change", 0)) > known] for topic, bodies in found.items()
        }
        for body in newer[topics.REGISTRY_PATIENTS]:
            _patient(connection, body)
            brought.patients.append(body["patient"])
        for body in newer[topics.REGISTRY_DEVICES]:
            _device(connection, body)
            brought.devices.append(body["device"])
        for body in newer[topics.REGISTRY_ASSIGNMENTS]:
            _assignments(connection, body)
            brought.assignments.append(body["device"])
        for body in newer[topics.REGISTRY_CLINICIANS]:
            if not _clinician(connection, body):
                brought.clinicians_missing.append(body["clinician"])
        highest = max((int(body.get("change", 0)) for bodies in found.values() for body in bodies), default=0)
        connection.execute(_AHEAD, (max(highest, known),))
        connection.commit()
    with Registry(settings.database, who="restore") as registry:
        registry.everything()
    return brought


def _load(settings: Settings, topic: topics.Topic) -> list[dict[str, Any]]:
    records = asyncio.run(lookback.load_compacted(settings.kafka, topic, 0)).values()
    bodies = []
    for record in records:
        try:
            body = orjson.loads(record.value or b"null")
        except ValueError:
            continue  # a stranger's
        if isinstance(body, dict):
            bodies.append(body)
    return bodies


def _last(connection: Connection, settings: Settings) -> int:
    row = connection.execute(_LAST, (f"{settings.database.db_schema}_data", "registry_outbox_id_seq")).fetchone()
    return 0 if row is None else int(row[0])


def _patient(connection: Connection, body: dict[str, Any]) -> None:
    key = body["patient"]
    connection.execute(
        "INSERT INTO patients (patient_id, team, overrides) VALUES (%s, %s, %s) ON CONFLICT (patient_id)"
        " DO UPDATE SET team = excluded.team, overrides = excluded.overrides, updated_at = now()",
        (key, body.get("team") or "", _json(body.get("overrides") or {})),
    )
    connection.execute("DELETE FROM patient_zones WHERE patient_id = %s", (key,))
    for zone in body.get("zones", []):
        connection.execute(
            "INSERT INTO patient_zones (patient_id, since, zone)"
            " VALUES (%s, coalesce(%s::timestamptz, '-infinity'), %s)",
            (key, zone.get("from"), zone["zone"]),
        )


def _device(connection: Connection, body: dict[str, Any]) -> None:
    rest = {name: value for name, value in body.items() if name not in _COLUMNS}
    connection.execute(
        "INSERT INTO devices (device_id, kind, state, serial, firmware, credential_hash, attributes, revoked_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (device_id) DO UPDATE SET kind = excluded.kind,"
        " state = excluded.state, serial = excluded.serial, firmware = excluded.firmware,"
        " credential_hash = excluded.credential_hash, attributes = excluded.attributes,"
        " revoked_at = excluded.revoked_at, updated_at = now()",
        (
            body["device"], body["kind"], body["state"], body.get("serial") or "", body.get("firmware") or "",
            body.get("credential_hash") or "", _json(rest), body.get("revoked_at"),
        ),
    )  # fmt: skip
    if "settings_revision" in body:
        connection.execute(
            "INSERT INTO device_settings (device_id, revision, settings) VALUES (%s, %s, %s) ON CONFLICT (device_id)"
            " DO UPDATE SET revision = excluded.revision, settings = excluded.settings, updated_at = now()",
            (body["device"], body["settings_revision"], _json(body["settings"])),
        )


def _assignments(connection: Connection, body: dict[str, Any]) -> None:
    connection.execute("DELETE FROM assignments WHERE device_id = %s", (body["device"],))
    for row in body.get("assignments", []):
        connection.execute(
            "INSERT INTO assignments (id, device_id, patient_id, during) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, %s, %s, tstzrange(%s::timestamptz, %s::timestamptz))",
            (row["id"], body["device"], row["patient"], row["from"], row.get("to")),
        )
    connection.execute(
        "SELECT setval(pg_get_serial_sequence('assignments', 'id'), greatest(max(id), 1)) FROM assignments"
    )


def _clinician(connection: Connection, body: dict[str, Any]) -> bool:
    key = body["clinician"]
    there = connection.execute(
        "UPDATE clinicians SET name = %s, state = %s, revoked_at = %s, updated_at = now() WHERE clinician_id = %s",
        (body.get("name") or "", body.get("state") or "active", body.get("revoked_at"), key),
    ).rowcount
    if not there:
        return False
    connection.execute("DELETE FROM clinician_teams WHERE clinician_id = %s", (key,))
    for team in body.get("teams", []):
        connection.execute("INSERT INTO clinician_teams (clinician_id, team) VALUES (%s, %s)", (key, team))
    return True


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
