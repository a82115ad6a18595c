-- What people and programs may rely on. Columns are added at the end of a view, never moved or removed.

CREATE VIEW {schema}.readings AS
SELECT r.device_id, a.patient_id, r.metric, r.time, r.version, r.value_num AS value, r.unit, r.received_at,
       r.value_code AS code, r.comparator, r.absent, r.site, r.idx AS index, r.current, r.retracted, r.unusual,
       CASE WHEN r.unit_sent IS NULL THEN r.value_num ELSE r.value_sent END AS value_sent,
       coalesce(r.unit_sent, r.unit) AS unit_sent, coalesce(r.time_sent, r.time) AS time_sent,
       r.offset_min AS utc_offset_min, r.skew_s, r.group_id, r.context, r.flags, r.epoch, r.seq, r.item, r.trace,
       replace(r.message_id::text, '-', '') AS message_id, a.id AS assignment_id
FROM {data}.readings r
LEFT JOIN {data}.assignments a
       ON a.device_id = r.device_id AND a.during @> r.time AND r.time >= lower(a.during)
      AND r.time < coalesce(upper(a.during), 'infinity');

CREATE VIEW {schema}.readings_current AS
SELECT r.device_id, a.patient_id, r.metric, r.time, r.version, r.value_num AS value, r.unit, r.received_at,
       r.value_code AS code, r.comparator, r.absent, r.site, r.idx AS index, r.unusual,
       CASE WHEN r.unit_sent IS NULL THEN r.value_num ELSE r.value_sent END AS value_sent,
       coalesce(r.unit_sent, r.unit) AS unit_sent, coalesce(r.time_sent, r.time) AS time_sent,
       r.offset_min AS utc_offset_min, r.skew_s, r.group_id, r.context, r.flags, r.epoch, r.seq, r.item, r.trace,
       replace(r.message_id::text, '-', '') AS message_id, a.id AS assignment_id
FROM {data}.readings r
LEFT JOIN {data}.assignments a
       ON a.device_id = r.device_id AND a.during @> r.time AND r.time >= lower(a.during)
      AND r.time < coalesce(upper(a.during), 'infinity')
WHERE r.current AND NOT r.retracted;

CREATE VIEW {schema}.waveforms AS
SELECT w.device_id, a.patient_id, w.channel, w.recording, w.time,
       w.time + make_interval(secs => w.count * w.rate_den / w.rate_num::double precision) AS end_time,
       w.first_sample, w.count, w.version, w.current, w.rate_num, w.rate_den, w.gain, w.baseline, w.unit, w.codec,
       w.samples, w.missing, w.flags, w.n_items, w.received_at, w.epoch, w.seq, w.item, w.trace, w.message_id,
       a.id AS assignment_id
FROM {data}.waveforms w
LEFT JOIN {data}.assignments a
       ON a.device_id = w.device_id AND a.during @> w.time AND w.time >= lower(a.during)
      AND w.time < coalesce(upper(a.during), 'infinity');

CREATE VIEW {schema}.recordings AS
SELECT r.device_id, r.channel, r.recording, r.first_sample, r.stop_sample, r.first_time, r.last_time,
       r.rate_num / r.rate_den::double precision AS rate_nominal,
       CASE WHEN r.blocks * r.sum_xx > r.sum_x * r.sum_x AND r.blocks * r.sum_xy > r.sum_x * r.sum_y
            THEN (r.blocks * r.sum_xx - r.sum_x * r.sum_x) / (r.blocks * r.sum_xy - r.sum_x * r.sum_y) END AS rate_fitted,
       r.blocks
FROM {data}.recordings r;

-- Results are their patient's by whose samples they were made from. After a corrected assignment they follow when
-- the analysis has worked out both patients' blocks; a block of which nothing is left is not shown.
CREATE VIEW {schema}.beats AS
SELECT b.patient_id, b.device_id, b.channel, b.time, b.kind, b.recording, b.sample, b.rr_ms, b.algorithm, b.block,
       a.id AS assignment_id
FROM {data}.beats b
LEFT JOIN {data}.assignments a
       ON a.device_id = b.device_id AND a.patient_id = b.patient_id AND a.during @> b.time
      AND b.time >= lower(a.during)
      AND b.time < coalesce(upper(a.during), 'infinity');

CREATE VIEW {schema}.beat_blocks AS
SELECT b.patient_id, b.device_id, b.channel, b.time, b.recording, b.algorithm, b.algorithm_version, b.block, b.revision,
       b.first_sample, b.stop_sample, b.rate, b.inputs, b.quality, b.beats, a.id AS assignment_id
FROM {data}.beat_blocks b
LEFT JOIN {data}.assignments a
       ON a.device_id = b.device_id AND a.patient_id = b.patient_id AND a.during @> b.time
      AND b.time >= lower(a.during)
      AND b.time < coalesce(upper(a.during), 'infinity')
WHERE (b.inputs->>'present') IS DISTINCT FROM '0';

CREATE VIEW {schema}.features AS
SELECT f.patient_id, f.device_id, f.channel, f.name, f.time, f.end_time, f.value, f.unit, f.recording, f.first_sample,
       f.stop_sample, f.algorithm, f.algorithm_version, f.revision, f.detail, a.id AS assignment_id
FROM {data}.features f
LEFT JOIN {data}.assignments a
       ON a.device_id = f.device_id AND a.patient_id = f.patient_id AND a.during @> f.time
      AND f.time >= lower(a.during)
      AND f.time < coalesce(upper(a.during), 'infinity')
WHERE NOT f.withdrawn;

CREATE VIEW {schema}.alert_events AS
SELECT e.event_id, e.alert_id, e.patient_id, e.team, e.rule, e.rule_version, e.title, e.priority, e.state, e.onset,
       e.detected_at, e.cleared_at, e.received_at, e.value, e.unit, e.limit_value, e.metric, e.hindsight, e.text,
       e.evidence, e.n
FROM {data}.alert_events e;

CREATE VIEW {schema}.alerts AS
SELECT DISTINCT ON (e.alert_id)
       e.alert_id, e.patient_id, e.rule, e.priority, e.state, e.onset, e.cleared_at,
       min(e.detected_at) FILTER (WHERE e.state = 'raised') OVER (PARTITION BY e.alert_id) AS detected_at,
       e.team, e.title, e.value, e.unit, e.limit_value, e.metric, e.hindsight, e.text, e.rule_version, e.evidence
FROM {data}.alert_events e
ORDER BY e.alert_id, e.n DESC;

CREATE VIEW {schema}.dead_letters AS
SELECT d.id, d.dead_id, d.device_id, d.reason, d.detail, d.item, d.mqtt_topic, d.received_at, d.payload_hash,
       p.bytes AS payload, d.epoch, d.seq, d.seen, d.last_seen_at, d.replays, d.replayed_at, d.resolved_at, d.resolved_by,
       d.raw_partition, d.raw_offset, d.trace
FROM {data}.dead_letters d LEFT JOIN {data}.payloads p ON p.hash = d.payload_hash;

CREATE VIEW {schema}.audit_events AS
SELECT e.n, e.time, e.who, e.action, e.entity_type, e.entity_id, e.place, e.outcome, e.event_id, e.checkpoint,
       e.inbox_offset, e.previous_hash, e.hash, e.record
FROM {data}.audit_events e;

CREATE VIEW {schema}.device_status AS
SELECT s.device_id, a.patient_id, s.time, s.state, s.battery, s.firmware, s.serial, s.detail, s.received_at,
       s.epoch, s.seq, s.trace
FROM {data}.device_status s
LEFT JOIN {data}.assignments a
       ON a.device_id = s.device_id AND a.during @> s.time AND s.time >= lower(a.during)
      AND s.time < coalesce(upper(a.during), 'infinity');

CREATE VIEW {schema}.devices AS
SELECT d.device_id, d.kind, d.state, d.serial, d.firmware, a.patient_id, d.attributes, d.created_at, d.updated_at,
       d.revoked_at
FROM {data}.devices d LEFT JOIN {data}.assignments a ON a.device_id = d.device_id AND a.during @> now();

CREATE VIEW {schema}.assignments AS
SELECT a.id AS assignment_id, a.device_id, a.patient_id, lower(a.during) AS from_time, upper(a.during) AS to_time,
       a.created_at
FROM {data}.assignments a;

CREATE VIEW {schema}.patients AS
SELECT p.patient_id, p.team, z.zone AS time_zone, p.overrides, p.created_at, p.updated_at
FROM {data}.patients p
LEFT JOIN LATERAL (SELECT zone FROM {data}.patient_zones z WHERE z.patient_id = p.patient_id AND z.since <= now()
                   ORDER BY z.since DESC LIMIT 1) AS z ON true;
