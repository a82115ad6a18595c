-- What the application's role may read of the tables over time: through views that show a user the patients that they
-- may see, and through whose barrier no condition of a query looks first. On TimescaleDB and plain PostgreSQL alike.

-- Readings that were typed in by a person: on their way to device.raw, and afterwards who entered them.
CREATE TABLE {schema}_records.manual_entries (
    n           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    patient_id  text NOT NULL REFERENCES {data}.patients,
    device_id   text NOT NULL REFERENCES {data}.devices,
    epoch       text NOT NULL,
    seq         bigint NOT NULL,
    entered_by  text NOT NULL,
    entered_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    payload     bytea NOT NULL,
    sent_at     timestamptz,
    UNIQUE (device_id, epoch, seq)
);
CREATE INDEX manual_entries_open ON {schema}_records.manual_entries (n) WHERE sent_at IS NULL;

CREATE FUNCTION {schema}_records.readable(what text) RETURNS text[] STABLE LANGUAGE sql
    AS $$ SELECT {schema}_records.seen(what, 'read', '') $$;

CREATE VIEW {schema}_records.device_data WITH (security_barrier) AS
SELECT concat_ws('/', r.device_id, r.metric, r.site, to_char(r.time, 'YYYYMMDD"T"HH24MISS.US"Z"'), r.idx, r.version) AS id,
       a.patient_id, r.device_id, d.kind AS device_type, r.metric, r.site, r.idx AS index, r.time, r.received_at,
       r.version, r.current, r.retracted, m.entered_by,
       jsonb_strip_nulls(jsonb_build_object(
           'value', r.value_num, 'code', r.value_code, 'comparator', r.comparator, 'unit', r.unit,
           'valueSent', CASE WHEN r.unit_sent IS NULL THEN r.value_num ELSE r.value_sent END,
           'unitSent', coalesce(r.unit_sent, r.unit), 'timeSent', coalesce(r.time_sent, r.time), 'absent', r.absent,
           'context', r.context, 'flags', to_jsonb(r.flags), 'unusual', nullif(r.unusual, false), 'group', r.group_id))
           AS data_payload, r.value_num AS value, r.unit, r.raw_partition, r.raw_offset
FROM {data}.assignments a
JOIN {data}.readings r ON r.device_id = a.device_id AND a.during @> r.time AND r.time >= lower(a.during)
     AND r.time < coalesce(upper(a.during), 'infinity')
JOIN {data}.devices d ON d.device_id = a.device_id
LEFT JOIN {schema}_records.manual_entries m ON m.device_id = r.device_id AND m.epoch = r.epoch AND m.seq = r.seq
WHERE a.patient_id = ANY ((SELECT {schema}_records.readable('device_data'))::text[]);

CREATE VIEW {schema}_records.waveforms WITH (security_barrier) AS
SELECT w.* FROM {schema}.waveforms w
WHERE w.patient_id = ANY ((SELECT {schema}_records.readable('device_data'))::text[]);

CREATE VIEW {schema}_records.beats WITH (security_barrier) AS
SELECT b.* FROM {schema}.beats b
WHERE b.patient_id = ANY ((SELECT {schema}_records.readable('device_data'))::text[]);

CREATE VIEW {schema}_records.features WITH (security_barrier) AS
SELECT f.* FROM {schema}.features f
WHERE f.patient_id = ANY ((SELECT {schema}_records.readable('device_data'))::text[]);

CREATE VIEW {schema}_records.device_status WITH (security_barrier) AS
SELECT s.* FROM {schema}.device_status s
WHERE s.patient_id = ANY ((SELECT {schema}_records.readable('device_data'))::text[]);

CREATE VIEW {schema}_records.readings_by_minute WITH (security_barrier) AS
SELECT g.* FROM {schema}.readings_by_minute g
WHERE g.patient_id = ANY ((SELECT {schema}_records.readable('device_data'))::text[]);

CREATE VIEW {schema}_records.readings_by_hour WITH (security_barrier) AS
SELECT g.* FROM {schema}.readings_by_hour g
WHERE g.patient_id = ANY ((SELECT {schema}_records.readable('device_data'))::text[]);

CREATE VIEW {schema}_records.readings_by_day WITH (security_barrier) AS
SELECT g.* FROM {schema}.readings_by_day g
WHERE g.patient_id = ANY ((SELECT {schema}_records.readable('device_data'))::text[]);

CREATE VIEW {schema}_records.patient_alerts WITH (security_barrier) AS
SELECT a.* FROM {schema}.alerts a
WHERE a.patient_id = ANY ((SELECT {schema}_records.readable('alert'))::text[]);

-- A device manager sees devices that nobody has, too.
CREATE VIEW {schema}_records.patient_devices WITH (security_barrier) AS
SELECT d.* FROM {schema}.devices d
WHERE d.patient_id = ANY ((SELECT {schema}_records.readable('device'))::text[])
   OR (d.patient_id IS NULL AND (SELECT {schema}_records.may('device', 'read', '', '{}')));

CREATE VIEW {schema}_records.user_accounts WITH (security_invoker, security_barrier) AS
SELECT u.id, u.email, u.email_index, u.display_name,
       (SELECT coalesce(array_agg(r.role ORDER BY r.role), '{}') FROM {schema}_records.user_roles r
        WHERE r.user_id = u.id) AS roles,
       u.patient_id, u.clinician_id, u.status, u.email_verified_at, u.totp_confirmed_at IS NOT NULL AS second_factor,
       u.locked_until, u.created_at, u.version
FROM {schema}_records.users u;

-- The trail of a patient: what the records wrote, with its link in the chain; and what else the chain says of them.
CREATE VIEW {schema}_records.audit_log WITH (security_barrier) AS
SELECT o.event_id AS id, o.patient_id, o.who AS actor, c.name AS actor_name, o.action, o.entity_type, o.entity_id,
       o.action || ' ' || o.entity_id AS summary, o.detail AS payload, o.outcome, o.at AS created_at, e.n, e.hash
FROM {schema}_records.audit_outbox o
LEFT JOIN {data}.audit_events e ON e.event_id = o.event_id AND NOT e.checkpoint
LEFT JOIN {schema}_records.users u ON o.who = 'user:' || u.id
LEFT JOIN {data}.clinicians c ON c.clinician_id = u.clinician_id
WHERE o.patient_id = ANY ((SELECT {schema}_records.readable('audit_log'))::text[])
   OR (o.patient_id IS NULL AND (SELECT {schema}_records.may('audit_log', 'read', '', '{}')))
UNION ALL
SELECT e.event_id, CASE e.entity_type WHEN 'patient' THEN e.entity_id END, e.who, NULL, e.action, e.entity_type,
       e.entity_id, e.action || ' ' || e.entity_id,
       (convert_from(e.record, 'UTF8')::jsonb->'detail'), e.outcome, e.time, e.n, e.hash
FROM {data}.audit_events e
WHERE NOT e.checkpoint
  AND ((e.entity_type = 'patient' AND e.entity_id = ANY ((SELECT {schema}_records.readable('audit_log'))::text[]))
       OR (e.entity_type <> 'patient' AND (SELECT {schema}_records.may('audit_log', 'read', '', '{}'))))
  AND NOT EXISTS (SELECT FROM {schema}_records.audit_outbox o WHERE o.event_id = e.event_id);

GRANT SELECT ON {schema}_records.device_data, {schema}_records.waveforms, {schema}_records.beats,
    {schema}_records.features, {schema}_records.device_status, {schema}_records.readings_by_minute,
    {schema}_records.readings_by_hour, {schema}_records.readings_by_day, {schema}_records.patient_alerts,
    {schema}_records.patient_devices, {schema}_records.user_accounts, {schema}_records.audit_log TO {schema}_app;

-- --- what goes through functions ------------------------------------------------------------------------------------

-- Entering readings: the patient's own device for what people type is made at first use. Its messages are numbered in
-- the order of entry, so that a later value for the same measurement is the next version.
CREATE FUNCTION {schema}_records.enter_by_hand(patient text, typed jsonb, OUT device text, OUT number bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    IF NOT trusted() AND NOT may('device_data', 'create', patient, '{}') THEN
        RAISE EXCEPTION 'role % may not create this device_data', setting('role')
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    device := 'manual-' || substr(md5(patient), 1, 16);
    PERFORM pg_advisory_xact_lock(hashtextextended('{schema}', 2));
    INSERT INTO devices AS d (device_id, kind, attributes) VALUES (device, 'manual', '{"typed": true}')
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        INSERT INTO assignments (device_id, patient_id, during)
        VALUES (device, patient, tstzrange('2000-01-01 00:00+00', NULL));
        INSERT INTO registry_outbox (topic, key, value)
        VALUES ('registry.devices', device, jsonb_build_object('device', device, 'kind', 'manual', 'state', 'active',
                'serial', '', 'firmware', '', 'credential_hash', '', 'typed', true, 'updated_at', now()));
        INSERT INTO registry_outbox (topic, key, value)
        SELECT 'registry.assignments', device, jsonb_build_object('device', device, 'assignments',
            jsonb_agg(jsonb_build_object('id', a.id, 'patient', a.patient_id, 'from', lower(a.during), 'to', NULL)))
        FROM assignments a WHERE a.device_id = device;
    END IF;
    SELECT coalesce(max(m.seq), 0) + 1 INTO number FROM manual_entries m WHERE m.device_id = device;
    INSERT INTO manual_entries (patient_id, device_id, epoch, seq, entered_by, payload)
    VALUES (patient, device, 'hand', number, coalesce(nullif(setting('user'), ''), setting('who')),
            convert_to(jsonb_build_object('epoch', 'hand', 'seq', number, 'readings', typed)::text, 'UTF8'));
    PERFORM audit('device_data.create', 'device_data', device || '/hand/' || number, patient, 'success',
                  jsonb_build_object('device', device, 'readings', jsonb_array_length(typed)));
    PERFORM pg_notify('registry', '{schema}');
END $$;

-- A medical record number leads to the patient's id, and to nothing else: for who may open the record with a reason.
CREATE FUNCTION {schema}_records.find_patient(marks text[]) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
DECLARE found text;
BEGIN
    IF NOT trusted() AND coalesce(acting_role(), '') NOT IN ('clinician', 'administrator') THEN
        RAISE EXCEPTION 'role % may not find patients', setting('role') USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT patient_id INTO found FROM patient_profiles WHERE medical_record_number_index = ANY (marks);
    PERFORM audit('patient_profile.find', 'patient_profile', coalesce(found, ''), found,
                  CASE WHEN found IS NULL THEN 'failed' ELSE 'success' END, '{}');
    RETURN found;
END $$;

-- The people around a patient whom the user may write to: names are sealed, so that they are opened by the caller.
CREATE FUNCTION {schema}_records.people(patient text)
    RETURNS TABLE (user_id text, clinician_id text, display_name bytea, name text, role text, relation text)
    STABLE LANGUAGE sql SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
    SELECT u.id, u.clinician_id, u.display_name, c.name,
           coalesce((SELECT m.role FROM care_team m WHERE m.clinician_id = u.clinician_id AND m.patient_id = patient
                     AND m.status = 'active' LIMIT 1), CASE r.relation WHEN 'own' THEN 'patient' ELSE 'member' END),
           r.relation
    FROM relations r JOIN users u ON u.id = r.user_id LEFT JOIN clinicians c ON c.clinician_id = u.clinician_id
    WHERE r.patient_id = patient AND r.relation IN ('own', 'assigned') AND may('care_team', 'read', patient, '{}')
    ORDER BY r.relation DESC, c.name, u.id $$;

-- What an administrator does to an account.
CREATE FUNCTION {schema}_records.administer(target text, doing text, facts jsonb) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
DECLARE
    account users;
    given text := facts->>'role';
BEGIN
    IF NOT trusted() AND NOT EXISTS (
            SELECT FROM permissions p WHERE p.record = 'user' AND p.verb = doing AND p.role = acting_role()
            AND p.relation = CASE WHEN target = setting('user') THEN 'own' ELSE 'stranger' END) THEN
        RAISE EXCEPTION 'role % may not % this user', setting('role'), doing USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO account FROM users WHERE id = target FOR UPDATE;
    IF account.id IS NULL THEN
        RAISE EXCEPTION 'no such user' USING ERRCODE = 'VG404';
    END IF;
    CASE doing
    WHEN 'approve' THEN
        IF account.status NOT IN ('pending', 'invited') THEN
            RAISE EXCEPTION 'the account is %', account.status USING ERRCODE = 'VG409';
        END IF;
        IF given = 'clinician' THEN
            INSERT INTO clinicians (clinician_id, name) VALUES (facts->>'clinician', coalesce(facts->>'name', ''))
            ON CONFLICT DO NOTHING;
        END IF;
        UPDATE users SET status = 'active', patient_id = coalesce(facts->>'patient', patient_id),
            clinician_id = coalesce(facts->>'clinician', clinician_id), changed_at = now(), version = version + 1
        WHERE id = target;
        INSERT INTO user_roles (user_id, role) VALUES (target, given) ON CONFLICT DO NOTHING;
    WHEN 'grant' THEN
        INSERT INTO user_roles (user_id, role) VALUES (target, given) ON CONFLICT DO NOTHING;
        UPDATE users SET changed_at = now(), version = version + 1 WHERE id = target;
    WHEN 'disable' THEN
        UPDATE users SET status = 'disabled', changed_at = now(), version = version + 1 WHERE id = target;
        UPDATE sessions SET ended_at = now(), ended_because = 'disabled' WHERE user_id = target AND ended_at IS NULL;
    WHEN 'enable' THEN
        IF account.status <> 'disabled' THEN
            RAISE EXCEPTION 'the account is %', account.status USING ERRCODE = 'VG409';
        END IF;
        UPDATE users SET status = 'active', failures = 0, locked_until = NULL, changed_at = now(),
            version = version + 1 WHERE id = target;
    ELSE
        RAISE EXCEPTION 'user has no verb "%"', doing USING ERRCODE = 'VG409';
    END CASE;
    PERFORM audit('user.' || doing, 'user', target, NULL, 'success', facts - 'name');
END $$;

-- An invitation, made by an administrator; the caller keeps the token, the table its hash.
CREATE FUNCTION {schema}_records.invite(mark bytea, facts jsonb, lasting interval) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    IF NOT trusted() AND NOT EXISTS (
            SELECT FROM permissions p WHERE p.record = 'user' AND p.verb = 'create' AND p.role = acting_role()
            AND p.relation = 'stranger') THEN
        RAISE EXCEPTION 'role % may not create this user', setting('role') USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF facts->>'role' = 'clinician' THEN
        INSERT INTO clinicians (clinician_id) VALUES (facts->>'clinician') ON CONFLICT DO NOTHING;
    END IF;
    INSERT INTO user_tokens (hash, purpose, detail, expires_at) VALUES (mark, 'invite', facts, now() + lasting);
    PERFORM audit('user.invite', 'user', '', facts->>'patient', 'success', facts - 'email_index');
END $$;

-- Legal hold on a thread: an administrator's, who does not see what it says.
CREATE FUNCTION {schema}_records.hold_thread(thread text, held boolean) RETURNS integer LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = {schema}_records, pg_temp AS $$
DECLARE count integer;
BEGIN
    IF NOT trusted() AND NOT EXISTS (
            SELECT FROM permissions p JOIN messages m ON m.conversation_id = thread
            WHERE p.record = 'message' AND p.verb = 'hold' AND p.role = acting_role()
              AND p.relation = relation_to(m.patient_id)) THEN
        RAISE EXCEPTION 'role % may not hold this message', setting('role') USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM set_config('vitalgate.verb', 'hold', true);
    UPDATE messages SET legal_hold = held
    WHERE conversation_id = thread AND legal_hold <> held AND withdrawn_at IS NULL;
    GET DIAGNOSTICS count = ROW_COUNT;
    RETURN count;
END $$;
