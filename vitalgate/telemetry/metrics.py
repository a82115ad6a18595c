"""Every Prometheus metric, in one place; ``docs/metrics.md`` documents each name and a test compares the two."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

RECEIVED = Counter("vitalgate_received_total", "Messages taken from MQTT", ["leaf"])
ACKED = Counter("vitalgate_acked_total", "Messages acknowledged to the broker after Kafka's acknowledgement")
PENDING = Gauge("vitalgate_gateway_pending", "Messages taken from MQTT that Kafka has not acknowledged yet")
PENDING_BYTES = Gauge("vitalgate_gateway_pending_bytes", "Their bytes")
MQTT_CONNECTED = Gauge("vitalgate_mqtt_connected", "1 while connected to the broker")
BROKER_QUEUE = Gauge("vitalgate_broker_queue_bytes", "Bytes held in the broker's queues, from $SYS")
BROKER_QUEUE_RATIO = Gauge("vitalgate_broker_queue_ratio", "Share of the broker's queue bound in use; alarm at 0.5")
BROKER_DENIED = Counter(
    "vitalgate_broker_denied_total", "Publishes and connections that the broker refused, from its log"
)
ALERT_COMMANDS = Counter(
    "vitalgate_alert_commands_total", "What clinicians' screens sent: taken, refused, or to be confirmed", ["outcome"]
)
HEARTBEATS = Counter("vitalgate_heartbeats_total", "Heartbeats sent to care teams")
RECEIPTS = Counter("vitalgate_receipts_total", "Receipts sent to devices")

ITEMS = Counter("vitalgate_items_total", "Items that intake let through", ["kind"])
DEAD_LETTERED = Counter("vitalgate_dead_lettered_total", "Items refused", ["reason"])
REPEATS = Counter("vitalgate_repeats_total", "Messages that had been kept before")
SEQUENCE_GAPS = Gauge("vitalgate_sequence_gaps", "Devices with an open gap in their numbering")

STORED = Counter("vitalgate_stored_total", "Items stored", ["kind"])
DUPLICATES = Counter("vitalgate_duplicates_total", "Items that were repeats")
VERSIONS = Counter("vitalgate_versions_total", "Corrections stored as a further version")
BATCH_SECONDS = Histogram("vitalgate_database_batch_seconds", "Time of one recorder transaction", buckets=_LATENCY)
DATABASE_UP = Gauge("vitalgate_database_up", "1 while the last database operation succeeded")
DEVICE_TO_ROW = Histogram(
    "vitalgate_device_to_row_seconds", "From arrival at the gateway to the committed row", buckets=_LATENCY
)

WORKER_LAG = Gauge("vitalgate_worker_lag", "Records behind the end of the topic", ["worker", "topic", "partition"])
WORKER_BATCH = Histogram(
    "vitalgate_worker_batch_records",
    "Records in one batch",
    ["worker"],
    buckets=(1, 2, 5, 10, 50, 100, 500, 1000, 2000),
)
WORKER_SECONDS = Histogram("vitalgate_worker_batch_seconds", "Time of one batch", ["worker"], buckets=_LATENCY)
RETENTION_LEFT = Gauge(
    "vitalgate_kafka_retention_left_seconds",
    "Topic retention less the age of the oldest record a worker has not finished",
    ["worker", "topic"],
)
RETRIES = Counter("vitalgate_retries_total", "Retries of a transient fault", ["worker"])
POISON = Counter("vitalgate_poison_total", "Records that made a handler fail and were set aside", ["worker"])

BEAT_BLOCKS = Counter("vitalgate_beat_blocks_total", "Blocks of beats published")
FEATURES = Counter("vitalgate_features_total", "Features published", ["name"])
ALERTS = Counter("vitalgate_alerts_total", "Alert events", ["state", "priority"])
OPEN_ALERTS = Gauge("vitalgate_open_alerts", "Alerts open now", ["priority"])
DEVICE_TO_ALERT = Histogram(
    "vitalgate_device_to_alert_seconds", "From arrival at the gateway to the alert event", buckets=_LATENCY
)
HANDOVER = Counter("vitalgate_handover_total", "Steps of handing notifications over", ["destination", "state"])
HANDOVER_PENDING = Gauge("vitalgate_handover_pending", "Notifications that are waiting or tried again", ["destination"])
HANDOVER_UNDELIVERED = Gauge(
    "vitalgate_handover_undelivered", "High-priority notifications that are late or lost, and unanswered"
)
HANDOVER_SECONDS = Histogram(
    "vitalgate_handover_seconds", "From the decision to notify until a receiver had taken it", buckets=_LATENCY
)
AUDIT_EVENTS = Counter("vitalgate_audit_events_total", "Events chained")
AUDIT_BROKEN = Gauge("vitalgate_audit_broken", "Number of the first broken link of the audit trail; 0 while it holds")
AUDIT_VERIFIED = Gauge("vitalgate_audit_verified_links", "Newest link of the audit trail that was verified")
LEDGER_UNBALANCED = Gauge(
    "vitalgate_ledger_unbalanced", "1 when the ledger and the tables did not agree at the last reckoning"
)
LEDGER_LOST = Gauge("vitalgate_ledger_lost", "Items received that are in no table, at the last reckoning")
CHECKED_AT = Gauge("vitalgate_checked_timestamp_seconds", "When something was last looked after in full", ["what"])
DISK_FREE = Gauge("vitalgate_disk_free_ratio", "Share of a disk that is free", ["path"])
CERTIFICATE_ENDS = Gauge(
    "vitalgate_certificate_ends_timestamp_seconds", "When a configured certificate ends", ["setting"]
)
AUDIT_ANCHOR_FAILING = Gauge(
    "vitalgate_audit_anchor_failing", "1 while the file that keeps signed checkpoints outside cannot be written"
)

API_REQUESTS = Counter("vitalgate_api_requests_total", "Requests answered", ["method", "route", "status"])
API_SECONDS = Histogram("vitalgate_api_request_seconds", "Time of one request", ["route"], buckets=_LATENCY)
LIVE_SUBSCRIBERS = Gauge("vitalgate_live_subscribers", "Live queries open now", ["transport"])
LIVE_EVENTS = Counter("vitalgate_live_events_total", "Events delivered to live queries")
LIVE_SECONDS = Histogram(
    "vitalgate_live_delivery_seconds", "From the commit of a change to its delivery to a live query", buckets=_LATENCY
)
