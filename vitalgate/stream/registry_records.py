"""Registry changes as Kafka records: the registry topics, and the audit events that they are. Pure."""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from vitalgate.config import topics
from vitalgate.gateway.confirmed import Record
from vitalgate.storage.registry import OutboxRow
from vitalgate.stream.audit_inbox import audit_body
from vitalgate.stream.headers import content_id

#: Namespace of the ids of audit events made from registry changes.
EVENTS = uuid.UUID("6b8f0f6e-6a1f-5a55-9f0e-2f6f6d1f2a10")
_TOPICS = {
    topic.name: topic
    for topic in (
        topics.REGISTRY_DEVICES,
        topics.REGISTRY_ASSIGNMENTS,
        topics.REGISTRY_PATIENTS,
        topics.REGISTRY_CLINICIANS,
    )
}


def registry_record(row: OutboxRow) -> Record:
    """A change on its topic. Raises KeyError for a topic that is no registry topic."""
    identity = content_id(row.topic, row.key, str(row.id))
    return Record(_TOPICS[row.topic], row.key, row.value, identity, trace=identity)


def audit_record(row: OutboxRow, before: dict[str, Any] | None) -> Record | None:
    """The audit event of a change, or None when nothing changed (everything was sent again).

    Its id is made from the change's number, so that a repeat is recognised.
    """
    now = {key: value for key, value in orjson.loads(row.value).items() if key not in ("change", "updated_at")}
    was = {key: value for key, value in (before or {}).items() if key not in ("change", "updated_at")}
    action, detail = _action(row, now, was)
    if not action:
        return None
    event_id = str(uuid.uuid5(EVENTS, f"{row.topic}:{row.id}"))
    kinds = {topics.REGISTRY_PATIENTS.name: "patient", topics.REGISTRY_CLINICIANS.name: "clinician"}
    entity = (kinds.get(row.topic, "device"), row.key)
    detail = {"change": row.id, **detail}
    value = audit_body(event_id, row.who, action, entity, row.created_at, "registrar", detail)
    return Record(topics.AUDIT_INBOX, None, value, content_id("audit", event_id), trace=event_id.replace("-", ""))


def _action(row: OutboxRow, now: dict[str, Any], was: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if row.topic == topics.REGISTRY_CLINICIANS.name:
        return _clinician(now, was)
    if now == was:
        return "", {}
    if row.topic == topics.REGISTRY_ASSIGNMENTS.name:
        if now.get("assignments", []) == was.get("assignments", []):
            return "", {}
        return "device.assigned", {"assignments": now["assignments"], "before": was.get("assignments", [])}
    changed = sorted(key for key in now.keys() | was.keys() if now.get(key) != was.get(key))
    if row.topic == topics.REGISTRY_PATIENTS.name:
        return ("patient.changed" if was else "patient.added"), {"changed": changed}
    if now["state"] == "revoked":
        return "device.revoked", {"kind": now["kind"]}
    if not was or was.get("state") == "revoked":
        return "device.added", {"kind": now["kind"]}
    if set(changed) <= {"settings", "settings_revision"}:
        return "device.configured", _settings_change(now, was)
    return "device.changed", {"changed": changed}


def _settings_change(now: dict[str, Any], was: dict[str, Any]) -> dict[str, Any]:
    after, before = now.get("settings", {}), was.get("settings", {})
    return {
        "revision": now.get("settings_revision"),
        "set": {key: value for key, value in after.items() if key not in before or before[key] != value},
        "unset": sorted(before.keys() - after.keys()),
    }


def _clinician(now: dict[str, Any], was: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if now["state"] == "revoked":
        return ("", {}) if was.get("state") == "revoked" else ("clinician.revoked", {"teams": now["teams"]})
    if was.get("state") != "active":
        return "clinician.added", {"teams": now["teams"]}
    if now["teams"] != was["teams"]:
        return "clinician.assigned", {"teams": now["teams"], "before": was["teams"]}
    if now != was:
        return "clinician.changed", {"changed": sorted(key for key in now if now[key] != was.get(key))}
    return "", {}
