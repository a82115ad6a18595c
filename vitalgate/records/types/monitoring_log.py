"""Somebody looks at data: what they saw, what they think of it, and whether the patient is told."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime

from vitalgate.records.fields import field
from vitalgate.records.record_type import Envelope, RecordType, Transition


class MonitoringLog(Envelope):
    """The review of data of a device."""

    data: dict[str, Any] = field(
        "What it is about: {device, metric, from, to} or {id} of one DeviceData.", required=True
    )
    timestamp: AwareDatetime = field("The time that it is about.", required=True)
    device_status: str | None = field(
        "Status of the device at that time, such as worn, off, low battery.", max_length=100
    )
    note: str | None = field("What the reviewer says.", max_length=4000)
    reviewed_by: str | None = field("User who looked last.", source="server")
    reviewed_at: AwareDatetime | None = field("When.", source="server")
    published_at: AwareDatetime | None = field("When the patient was told; null: not yet.", source="server")
    published_by: str | None = field("User who told the patient.", source="server")
    status: str = field("new, reviewed, needs_action or closed.", "new", source="server")


_REVIEWED = {"reviewed_at": "now", "reviewed_by": "user"}
_OPEN = ("new", "reviewed", "needs_action")

MONITORING_LOG = RecordType(
    name="monitoring_log",
    title="MonitoringLog",
    path="monitoring-logs",
    meaning="The review of device data: what was seen, by whom, and whether the patient is told.",
    model=MonitoringLog,
    relation="monitoring_logs",
    table="monitoring_logs",
    states=("new", "reviewed", "needs_action", "closed"),
    sorts=("timestamp", "created_at", "changed_at"),
    filters=("patient", "status", "timestamp", "reviewed_by", "published_at"),
    transitions={
        one.verb: one
        for one in (
            Transition("create", "Open a review.", to="new", fields=("patient", "data", "timestamp", "device_status",
                       "note"), required=("patient", "data", "timestamp")),
            Transition("change", "Write down more.", _OPEN, fields=("note", "device_status")),
            Transition("review", "Seen, nothing to do.", ("new", "needs_action"), "reviewed", ("note",),
                       stamps=_REVIEWED),
            Transition("flag", "Seen, something has to be done.", ("new", "reviewed"), "needs_action", ("note",),
                       required=("note",), stamps=_REVIEWED),
            Transition("close", "Done.", ("reviewed", "needs_action"), "closed", ("note",), stamps=_REVIEWED),
            Transition("reopen", "Not done after all.", ("closed",), "needs_action", ("note",), stamps=_REVIEWED),
            Transition("publish", "Show it to the patient.", ("reviewed", "needs_action", "closed"),
                       stamps={"published_at": "now", "published_by": "user"}),
            Transition("withdraw", "It was made in error.", ("new", "reviewed", "needs_action", "closed"),
                       fields=("withdrawn_reason",), required=("withdrawn_reason",), stamps={"withdrawn_at": "now"}),
        )
    },
)  # fmt: skip
