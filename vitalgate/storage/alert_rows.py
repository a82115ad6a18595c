"""Rows of alert events and of their deliveries, made from the records of their topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitalgate.storage.times import parse_time

ALERTS_INSERT = """
    INSERT INTO alert_events (onset, event_id, alert_id, patient_id, team, rule, rule_version, title, priority, state,
        detected_at, cleared_at, received_at, value, unit, limit_value, metric, hindsight, text, evidence, happened,
        number, kind, who, comment, reason, notify, recipients, escalation_level, acknowledged_by, acknowledged_at,
        silenced_until, suppressed_by, occurrences, comments, closed)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
        %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""
DELIVERIES_INSERT = """
    INSERT INTO alert_deliveries (created_at, delivery_id, number, time, patient_id, team, destination, kind,
        clinician_id, priority, state, due, attempts, alarms, alert_ids, event_id, error)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""


def alert(r: Mapping[str, Any]) -> tuple[Any, ...]:
    """The row of a record of patient.alerts; empty texts are null."""
    value, limit = r.get("value"), r.get("limit")
    return (
        parse_time(r["onset"]), r["event_id"], r["alert_id"], r["patient"], r["team"], r["rule"],
        str(r["rule_version"]),
        r["title"], r["priority"], r["state"], parse_time(r.get("detected_at")), parse_time(r.get("cleared_at")),
        parse_time(r.get("received_at")), float(value) if isinstance(value, (int, float)) else None, r.get("unit"),
        None if limit is None else str(limit), r.get("metric"), bool(r.get("hindsight", False)), r.get("text"),
        [str(item) for item in r.get("evidence") or []],
        r.get("happened"), r.get("number"), r.get("kind"), r.get("who") or None, r.get("comment") or None,
        r.get("reason") or None, r.get("notify"), [str(who) for who in r.get("recipients") or []],
        r.get("escalation_level"), r.get("acknowledged_by") or None, parse_time(r.get("acknowledged_at")),
        parse_time(r.get("silenced_until")), r.get("suppressed_by") or None, r.get("count"), r.get("comments"),
        r.get("closed"),
    )  # fmt: skip


def delivery(r: Mapping[str, Any]) -> tuple[Any, ...]:
    """The row of a record of alert.deliveries."""
    return (
        parse_time(r["created_at"]), r["delivery_id"], int(r["number"]), parse_time(r["at"]), r["patient"], r["team"],
        r["destination"], r["kind"], r["clinician"], r["priority"], r["state"], parse_time(r.get("due")),
        int(r["attempts"]), int(r["count"]), [str(one) for one in r["alert_ids"]], r["event_id"], r["error"],
    )  # fmt: skip
