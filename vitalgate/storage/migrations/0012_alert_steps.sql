-- What every step in the life of an alert says, as on patient.alerts; and what became of each notification.

ALTER TABLE {data}.alert_events ADD COLUMN happened text;
ALTER TABLE {data}.alert_events ADD COLUMN number integer;
ALTER TABLE {data}.alert_events ADD COLUMN kind text;
ALTER TABLE {data}.alert_events ADD COLUMN who text;
ALTER TABLE {data}.alert_events ADD COLUMN comment text;
ALTER TABLE {data}.alert_events ADD COLUMN reason text;
ALTER TABLE {data}.alert_events ADD COLUMN notify boolean;
ALTER TABLE {data}.alert_events ADD COLUMN recipients text[];
ALTER TABLE {data}.alert_events ADD COLUMN escalation_level integer;
ALTER TABLE {data}.alert_events ADD COLUMN acknowledged_by text;
ALTER TABLE {data}.alert_events ADD COLUMN acknowledged_at timestamptz;
ALTER TABLE {data}.alert_events ADD COLUMN silenced_until timestamptz;
ALTER TABLE {data}.alert_events ADD COLUMN suppressed_by text;
ALTER TABLE {data}.alert_events ADD COLUMN occurrences integer;
ALTER TABLE {data}.alert_events ADD COLUMN comments integer;
ALTER TABLE {data}.alert_events ADD COLUMN closed boolean;

-- Steps from before they were told apart say how the alert stood.
CREATE OR REPLACE VIEW {schema}.alert_events AS
SELECT e.event_id, e.alert_id, e.patient_id, e.team, e.rule, e.rule_version, e.title, e.priority, e.state, e.onset,
       e.detected_at, e.cleared_at, e.received_at, e.value, e.unit, e.limit_value, e.metric, e.hindsight, e.text,
       e.evidence, e.n, coalesce(e.happened, e.state) AS happened, e.number, e.kind, e.who, e.comment, e.reason,
       e.notify, e.recipients, e.escalation_level, e.acknowledged_by, e.acknowledged_at, e.silenced_until,
       e.suppressed_by, e.occurrences, e.comments, e.closed
FROM {data}.alert_events e;

-- One row an alert, by its own last step and not by what the archiver stored last: steps may come again in any order.
CREATE OR REPLACE VIEW {schema}.alerts AS
SELECT DISTINCT ON (e.alert_id)
       e.alert_id, e.patient_id, e.rule, e.priority, e.state, e.onset, e.cleared_at,
       min(e.detected_at) FILTER (WHERE coalesce(e.happened, e.state) = 'raised') OVER (PARTITION BY e.alert_id)
           AS detected_at,
       e.team, e.title, e.value, e.unit, e.limit_value, e.metric, e.hindsight, e.text, e.rule_version, e.evidence,
       e.kind, e.number, e.escalation_level, e.acknowledged_by, e.acknowledged_at, e.silenced_until, e.suppressed_by,
       e.occurrences, e.comments, e.closed
FROM {data}.alert_events e
ORDER BY e.alert_id, e.number DESC NULLS LAST, e.n DESC;

CREATE TABLE {data}.alert_deliveries (
    created_at   timestamptz NOT NULL,
    delivery_id  text NOT NULL,
    number       integer NOT NULL,
    time         timestamptz NOT NULL,
    patient_id   text NOT NULL,
    team         text NOT NULL,
    destination  text NOT NULL,
    kind         text NOT NULL,
    clinician_id text NOT NULL,
    priority     text NOT NULL,
    state        text NOT NULL,
    due          timestamptz,
    attempts     integer NOT NULL,
    alarms       integer NOT NULL,
    alert_ids    text[] NOT NULL,
    event_id     text NOT NULL,
    error        text NOT NULL,
    CONSTRAINT alert_deliveries_key PRIMARY KEY (delivery_id, number, created_at)
) {timed};
CREATE INDEX alert_deliveries_patient ON {data}.alert_deliveries (patient_id, created_at);
--@timed alert_deliveries created_at segmentby=destination orderby=created_at,delivery_id,number

CREATE VIEW {schema}.alert_delivery_steps AS
SELECT d.delivery_id, d.number, d.time, d.created_at, d.patient_id, d.team, d.destination, d.kind, d.clinician_id,
       d.priority, d.state, d.due, d.attempts, d.alarms, d.alert_ids, d.event_id, d.error
FROM {data}.alert_deliveries d;

CREATE VIEW {schema}.alert_deliveries AS
SELECT DISTINCT ON (d.delivery_id)
       d.delivery_id, d.patient_id, d.team, d.destination, d.kind, d.clinician_id, d.priority, d.state, d.created_at,
       d.time,
       min(d.time) FILTER (WHERE d.state = 'delivered') OVER (PARTITION BY d.delivery_id) AS delivered_at,
       bool_or(d.state = 'late') OVER (PARTITION BY d.delivery_id) AS late,
       d.due, d.attempts, d.alarms, d.alert_ids, d.event_id, d.error
FROM {data}.alert_deliveries d
ORDER BY d.delivery_id, d.number DESC;
