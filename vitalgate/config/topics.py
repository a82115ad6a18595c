"""Kafka topic names and shapes, and MQTT topic names: the one place where they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitalgate.config.settings import KafkaSettings

Visibility = Literal["public", "internal"]


@dataclass(frozen=True)
class Topic:
    """One Kafka topic: base name, what keys it, how it is kept.

    ``partitions`` None means the deployment's partition count. Topics with that count are co-partitioned: the same
    key is in the same partition number of each (murmur2 partitioner everywhere).
    """

    name: str
    key: str
    what: str
    visibility: Visibility = "public"
    compacted: bool = False
    partitions: int | None = None
    forever: bool = False
    """Nothing expires."""

    def config(self, settings: KafkaSettings) -> dict[str, str]:
        """Kafka's topic configuration."""
        base = {"min.insync.replicas": str(settings.min_insync)}
        if self.compacted:
            return {**base, "cleanup.policy": "compact", "max.compaction.lag.ms": "3600000", "segment.ms": "3600000"}
        kept_ms = -1 if self.forever else settings.retention_hours * 3_600_000
        return {**base, "cleanup.policy": "delete", "retention.ms": str(kept_ms)}


RAW = Topic("device.raw", "device", "What the gateway took from MQTT: the bytes as they came.", "internal")
SEQUENCES = Topic(
    "device.sequences",
    "device",
    "What has been kept of each device's numbering; intake's memory and the source of receipts.",
    "internal",
    compacted=True,
)
VALIDATED = Topic(
    "device.validated",
    "device",
    "Validated batches, one record a batch, same partition number as the raw topic.",
    "internal",
)
INPUTS = Topic(
    "patient.inputs", "patient", "Readings and waveform blocks of the patient who had the device.", "internal"
)
READINGS = Topic("device.readings", "device", "Stored readings, with their version.")
WAVEFORMS = Topic("device.waveforms", "device", "Stored waveform blocks.")
DEADLETTER = Topic("device.deadletter", "device", "What could not be accepted, with the reason and the original bytes.")
BEATS = Topic("patient.beats", "patient", "Beats by recording, channel, algorithm and block; replaced whole.")
FEATURES = Topic("patient.features", "patient", "Heart rate, HRV and rhythm events; replaced by window.")
ALERTS = Topic("patient.alerts", "patient", "Alert events: raised, acknowledged, cleared, closed, …")
ALERT_STATE = Topic("patient.alerts.state", "patient", "State of each alert that is not closed.", compacted=True)
ALERT_MEMORY = Topic(
    "alerting.memory", "patient", "The alert engine's memory of each patient.", "internal", compacted=True
)
ALERT_COMMANDS = Topic(
    "alerting.commands", "patient", "What people do with alerts: acknowledge, silence, comment.", "internal"
)
ALERT_REPLIES = Topic("alerting.replies", "patient", "The answer to each of these commands.", "internal")
ALERT_DELIVERIES = Topic(
    "alert.deliveries", "patient", "What became of each notification that was handed over: delivered, late, failed, …"
)
HANDOVER_MEMORY = Topic(
    "handover.memory", "patient", "What is due, gathered and tried again for each patient.", "internal", compacted=True
)
TICKS = Topic("patient.ticks", "partition", "Time, as records: one to every partition.", "internal")
SETASIDE = Topic(
    "worker.setaside",
    "none",
    "Records that made a worker fail, with their bytes and the error.",
    "internal",
    partitions=1,
)
AUDIT_INBOX = Topic("audit.inbox", "none", "Audit events on their way to the chain.", "internal", partitions=1)
AUDIT = Topic("audit.events", "none", "The hash-chained audit trail.", partitions=1, forever=True)
REGISTRY_DEVICES = Topic(
    "registry.devices", "device", "Devices: kind, state, credential hash.", compacted=True, partitions=1
)
REGISTRY_ASSIGNMENTS = Topic(
    "registry.assignments",
    "device",
    "All assignments of a device, with their time ranges.",
    compacted=True,
    partitions=1,
)
REGISTRY_PATIENTS = Topic(
    "registry.patients", "patient", "Patients: time zones, team, rule overrides.", compacted=True, partitions=1
)
REGISTRY_CLINICIANS = Topic(
    "registry.clinicians", "clinician", "Clinicians: their teams, and whether they have access.", compacted=True,
    partitions=1,
)  # fmt: skip
REGISTRY_ROSTERS = Topic(
    "registry.rosters", "team", "Rosters of care teams: who is told, and who next.", compacted=True, partitions=1
)
REGISTRY_COHORTS = Topic(
    "registry.cohorts", "cohort", "Alert limits of groups of patients.", compacted=True, partitions=1
)
LOG_BASES = Topic(
    "log.bases", "topic/partition", "Where the numbering of a log goes on that began anew in another Kafka.",
    "internal", compacted=True, partitions=1,
)  # fmt: skip

ALL: tuple[Topic, ...] = (
    RAW, SEQUENCES, VALIDATED, INPUTS, READINGS, WAVEFORMS, DEADLETTER, BEATS, FEATURES, ALERTS, ALERT_STATE,
    ALERT_MEMORY, ALERT_COMMANDS, ALERT_REPLIES, ALERT_DELIVERIES, HANDOVER_MEMORY, TICKS, AUDIT_INBOX, AUDIT,
    REGISTRY_DEVICES, REGISTRY_ASSIGNMENTS, REGISTRY_PATIENTS, REGISTRY_CLINICIANS, REGISTRY_ROSTERS, REGISTRY_COHORTS,
    SETASIDE, LOG_BASES,
)  # fmt: skip


def full(topic: Topic, settings: KafkaSettings) -> str:
    """The topic's name in this deployment, with its prefix."""
    return settings.prefix + topic.name


# --- MQTT -----------------------------------------------------------------------------------------------------------

MQTT_DEVICES = "v1/devices"
MQTT_ALERTS = "v1/alerts"
#: What a device may publish to, below `v1/devices/{device_id}/`.
MQTT_KINDS = ("readings", "waveforms", "status")


def device_topic(device: str, leaf: str) -> str:
    """`v1/devices/{device}/{leaf}`; leaf is readings, waveforms, status, receipts or down."""
    return f"{MQTT_DEVICES}/{device}/{leaf}"


def parse_device_topic(topic: str) -> tuple[str, str] | None:
    """(device, leaf) of a topic a device publishes to, or None when it is not one."""
    parts = topic.split("/")
    if len(parts) == 4 and parts[0] == "v1" and parts[1] == "devices" and parts[2] and parts[3] in MQTT_KINDS:
        return parts[2], parts[3]
    return None


def alert_topic(team: str, patient: str, alert: str) -> str:
    """`v1/alerts/{team}/{patient}/{alert}`, retained while the alert is open."""
    return f"{MQTT_ALERTS}/{team}/{patient}/{alert}"
