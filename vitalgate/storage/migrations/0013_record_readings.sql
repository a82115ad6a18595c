-- Stretches of readings for records: waveforms with what tells their times, the assignments that cut them, changes
-- for live queries; and a trusted program sees through the views what it sees in the tables.

CREATE OR REPLACE FUNCTION {schema}_records.readable(what text) RETURNS text[] STABLE LANGUAGE plpgsql AS $$
BEGIN
    IF {schema}_records.setting('user') = '' AND {schema}_records.trusted() THEN
        RETURN (SELECT array_agg(patient_id) FROM {data}.patients);
    END IF;
    RETURN {schema}_records.seen(what, 'read', '');
END $$;

CREATE VIEW {schema}_records.patient_assignments WITH (security_barrier) AS
SELECT a.id, a.device_id, a.patient_id, lower(a.during) AS from_time, upper(a.during) AS to_time
FROM {data}.assignments a
WHERE a.patient_id = ANY ((SELECT {schema}_records.readable('device_data'))::text[]);

CREATE VIEW {schema}_records.recordings WITH (security_barrier) AS
SELECT r.device_id, r.channel, r.recording, r.first_sample, r.stop_sample, r.first_time, r.last_time, r.longest,
       r.rate_num, r.rate_den
FROM {data}.recordings r
WHERE r.device_id IN (SELECT a.device_id FROM {schema}_records.patient_assignments a);

-- A row is seen when a part of it is a visible patient's; readers take that part only (records_readings.waveform).
DROP VIEW {schema}_records.waveforms;
CREATE VIEW {schema}_records.waveforms WITH (security_barrier) AS
SELECT w.device_id, w.channel, w.recording, w.time, w.first_sample, w.count, w.version, w.current, w.rate_num,
       w.rate_den, w.gain, w.baseline, w.unit, w.codec, w.samples, w.missing, w.items, w.flags, w.received_at
FROM {data}.waveforms w
WHERE EXISTS (
    SELECT FROM {data}.assignments a
    WHERE a.device_id = w.device_id AND a.patient_id = ANY ((SELECT {schema}_records.readable('device_data'))::text[])
      AND (upper_inf(a.during) OR w.time < upper(a.during))
      AND w.time + make_interval(secs => w.count * w.rate_den / w.rate_num::double precision) > lower(a.during));

GRANT SELECT ON {schema}_records.patient_assignments, {schema}_records.recordings, {schema}_records.waveforms
    TO {schema}_app;

-- What the registry said of teams before they were lines of the care team is still taken.
CREATE FUNCTION {schema}_records.team_line() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO care_team (clinician_id, team, from_time, created_by)
        VALUES (NEW.clinician_id, NEW.team, coalesce(NEW.since, now()), nullif(setting('who'), ''))
        ON CONFLICT DO NOTHING;
        RETURN NEW;
    END IF;
    UPDATE care_team SET status = 'ended', to_time = clock_timestamp(), changed_at = now(), version = version + 1
    WHERE clinician_id = OLD.clinician_id AND team = OLD.team AND status = 'active';
    RETURN OLD;
END $$;
CREATE TRIGGER clinician_teams_line INSTEAD OF INSERT OR DELETE ON {data}.clinician_teams
    FOR EACH ROW EXECUTE FUNCTION {schema}_records.team_line();

-- One change a patient and batch of readings; the recorder calls it in its transaction.
CREATE FUNCTION {schema}_records.tell_readings(devices text[], lows timestamptz[], highs timestamptz[],
    counts integer[], part integer, first_raw bigint, last_raw bigint) RETURNS void LANGUAGE plpgsql
    SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    INSERT INTO changes_new (record, id, patient_id, verb, version, detail)
    SELECT 'device_data', '', a.patient_id, 'store', 1, jsonb_build_object(
        'devices', jsonb_agg(DISTINCT d.device), 'from', min(d.low), 'to', max(d.high), 'readings', sum(d.count),
        'partition', part, 'first_offset', first_raw, 'last_offset', last_raw)
    FROM unnest(devices, lows, highs, counts) AS d (device, low, high, count)
    JOIN assignments a ON a.device_id = d.device AND a.during && tstzrange(d.low, d.high, '[]')
    GROUP BY a.patient_id;
    IF FOUND THEN
        PERFORM pg_notify('records', '{schema}');
    END IF;
END $$;
REVOKE EXECUTE ON FUNCTION {schema}_records.tell_readings(text[], timestamptz[], timestamptz[], integer[], integer,
    bigint, bigint) FROM PUBLIC;

-- An alert's step, as the archive takes it in.
CREATE FUNCTION {schema}_records.tell_alert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    INSERT INTO changes_new (record, id, patient_id, verb, version, status, detail)
    VALUES ('alert', NEW.alert_id, NEW.patient_id, NEW.state, 1, NEW.state,
            jsonb_build_object('rule', NEW.rule, 'priority', NEW.priority, 'onset', NEW.onset));
    PERFORM pg_notify('records', '{schema}');
    RETURN NULL;
END $$;
CREATE TRIGGER alert_events_told AFTER INSERT ON {data}.alert_events
    FOR EACH ROW EXECUTE FUNCTION {schema}_records.tell_alert();

-- The newest current value of each metric and site of a patient: by the index, however long the history is.
CREATE FUNCTION {schema}_records.latest_readings(patient text) RETURNS SETOF {schema}_records.device_data STABLE
    LANGUAGE sql ROWS 20 SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
    WITH RECURSIVE mine AS (
        SELECT a.device_id, lower(a.during) AS low, coalesce(upper(a.during), 'infinity') AS high FROM assignments a
        WHERE a.patient_id = patient AND patient = ANY (readable('device_data'))),
    metrics AS (
        SELECT m.device_id, (SELECT min(r.metric) FROM readings r WHERE r.device_id = m.device_id) AS metric
        FROM (SELECT DISTINCT device_id FROM mine) AS m
        UNION ALL
        SELECT k.device_id, (SELECT min(r.metric) FROM readings r WHERE r.device_id = k.device_id AND r.metric > k.metric)
        FROM metrics k WHERE k.metric IS NOT NULL),
    newest AS (
        SELECT DISTINCT ON (r.metric, r.site, r.idx) r.*
        FROM mine m JOIN metrics k ON k.device_id = m.device_id AND k.metric IS NOT NULL
        CROSS JOIN LATERAL (
            SELECT * FROM readings r WHERE r.device_id = m.device_id AND r.metric = k.metric AND r.time >= m.low
                AND r.time < m.high AND r.current AND NOT r.retracted
            ORDER BY r.time DESC LIMIT 20) AS r
        ORDER BY r.metric, r.site, r.idx, r.time DESC)
    SELECT concat_ws('/', r.device_id, r.metric, r.site, to_char(r.time, 'YYYYMMDD"T"HH24MISS.US"Z"'), r.idx, r.version),
           patient, r.device_id, d.kind, r.metric, r.site, r.idx, r.time, r.received_at, r.version, r.current,
           r.retracted, e.entered_by,
           jsonb_strip_nulls(jsonb_build_object(
               'value', r.value_num, 'code', r.value_code, 'comparator', r.comparator, 'unit', r.unit,
               'valueSent', CASE WHEN r.unit_sent IS NULL THEN r.value_num ELSE r.value_sent END,
               'unitSent', coalesce(r.unit_sent, r.unit), 'timeSent', coalesce(r.time_sent, r.time), 'absent', r.absent,
               'context', r.context, 'flags', to_jsonb(r.flags), 'unusual', nullif(r.unusual, false),
               'group', r.group_id)),
           r.value_num, r.unit, r.raw_partition, r.raw_offset
    FROM newest r JOIN devices d ON d.device_id = r.device_id
    LEFT JOIN manual_entries e ON e.device_id = r.device_id AND e.epoch = r.epoch AND e.seq = r.seq $$;
