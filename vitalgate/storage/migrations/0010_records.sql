-- Records around the devices: their tables, and the one wall around them. Whoever speaks to these tables as the
-- application's role meets row-level security for what may be seen, and a trigger for what may be done: a verb that
-- the role and relation permit, from a state that it starts from, with the fields that it takes. The same triggers
-- keep every version, and write the audit event and the change for live queries in the transaction of the change.

-- What the declarations of the records say (vitalgate.records); loaded anew by every `vitalgate migrate`.
CREATE TABLE {schema}_records.permissions (
    record      text NOT NULL,
    verb        text NOT NULL,
    role        text NOT NULL,
    relation    text NOT NULL,
    condition   text NOT NULL DEFAULT '',
    PRIMARY KEY (record, verb, role, relation)
);
CREATE TABLE {schema}_records.record_verbs (
    record      text NOT NULL,
    verb        text NOT NULL,
    from_states text[] NOT NULL,
    to_state    text,
    columns     text[] NOT NULL,
    stamps      jsonb NOT NULL,
    PRIMARY KEY (record, verb)
);

-- --- the acting user ------------------------------------------------------------------------------------------------

CREATE FUNCTION {schema}_records.setting(name text) RETURNS text STABLE LANGUAGE sql PARALLEL SAFE
    AS $$ SELECT coalesce(current_setting('vitalgate.' || name, true), '') $$;

-- Whether a program of ours speaks: the owner's own connection, not one that took on a lesser role.
CREATE FUNCTION {schema}_records.trusted() RETURNS boolean STABLE LANGUAGE sql
    AS $$ SELECT pg_has_role(CASE current_setting('role') WHEN 'none' THEN session_user::text
                             ELSE current_setting('role') END, n.nspowner, 'MEMBER')
          FROM pg_catalog.pg_namespace n WHERE n.nspname = '{schema}_records' $$;

-- The role in which the user acts, if the account is active and has it; else null, which may nothing.
CREATE FUNCTION {schema}_records.acting_role() RETURNS text STABLE LANGUAGE sql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
    SELECT r.role FROM users u JOIN user_roles r ON r.user_id = u.id
    WHERE u.id = setting('user') AND r.role = setting('role') AND u.status = 'active' $$;

CREATE FUNCTION {schema}_records.relation_to(patient text) RETURNS text STABLE LANGUAGE sql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
    SELECT coalesce((SELECT relation FROM relations
                     WHERE user_id = setting('user') AND role = acting_role() AND patient_id = patient), 'stranger') $$;

-- The patients of whose records the user may do this under this condition.
CREATE FUNCTION {schema}_records.seen(what text, doing text, under text) RETURNS text[] STABLE LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
DECLARE
    mine text;
    allowed text[];
    found text[] := '{}';
BEGIN
    SELECT array_agg(p.relation) INTO allowed FROM permissions p
    WHERE p.record = what AND p.verb = doing AND p.role = setting('role') AND p.condition = under;
    IF allowed IS NULL THEN
        RETURN found;
    END IF;
    mine := acting_role();
    IF mine IS NULL THEN
        RETURN found;
    END IF;
    SELECT coalesce(array_agg(r.patient_id), '{}') INTO found FROM relations r
    WHERE r.user_id = setting('user') AND r.role = mine AND r.relation = ANY (allowed);
    IF 'stranger' = ANY (allowed) THEN
        SELECT found || coalesce(array_agg(p.patient_id), '{}') INTO found FROM patients p
        WHERE NOT EXISTS (SELECT FROM relations r WHERE r.user_id = setting('user') AND r.role = mine
                          AND r.patient_id = p.patient_id);
    END IF;
    RETURN found;
END $$;

-- Whether the user stands on this side of a message to nobody by name.
CREATE FUNCTION {schema}_records.on_side(side text) RETURNS boolean STABLE LANGUAGE sql PARALLEL SAFE
    AS $$ SELECT (side = 'care' AND {schema}_records.setting('role') = 'clinician')
              OR (side = 'patient' AND {schema}_records.setting('role') = 'patient') $$;

-- Whether a condition holds of a row. Fields that a record does not have are null.
CREATE FUNCTION {schema}_records.holds(under text, doc jsonb) RETURNS boolean STABLE LANGUAGE sql
    AS $$ SELECT coalesce(CASE under
        WHEN '' THEN true
        WHEN 'published' THEN (doc->>'published')::boolean
        WHEN 'author' THEN doc->>'created_by' = {schema}_records.setting('user')
        WHEN 'recipient' THEN doc->>'from_user' <> {schema}_records.setting('user')
            AND (doc->>'to_user' = {schema}_records.setting('user')
                 OR (doc->>'to_user' IS NULL AND {schema}_records.on_side(doc->>'to_side')))
        WHEN 'party' THEN doc->>'from_user' = {schema}_records.setting('user')
            OR doc->>'to_user' = {schema}_records.setting('user')
            OR (doc->>'to_user' IS NULL AND {schema}_records.on_side(doc->>'to_side'))
    END, false) $$;

-- Whether the user may do this to a row of a patient.
CREATE FUNCTION {schema}_records.may(what text, doing text, patient text, doc jsonb) RETURNS boolean STABLE
    LANGUAGE sql SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
    SELECT coalesce((SELECT holds(p.condition, doc) FROM permissions p
                     WHERE p.record = what AND p.verb = doing AND p.role = acting_role()
                       AND p.relation = relation_to(patient)), false) $$;

CREATE FUNCTION {schema}_records.rule_of(what text, doing text) RETURNS {schema}_records.record_verbs STABLE
    LANGUAGE sql SECURITY DEFINER SET search_path = {schema}_records, pg_temp AS $$
    SELECT v FROM record_verbs v WHERE v.record = what AND v.verb = doing $$;

-- --- audit and live queries -----------------------------------------------------------------------------------------

-- On their way to the chain; the registrar takes them to audit.inbox. They stay, so that a patient finds them.
CREATE TABLE {schema}_records.audit_outbox (
    n            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     text NOT NULL DEFAULT gen_random_uuid()::text,
    patient_id   text,
    who          text NOT NULL,
    action       text NOT NULL,
    entity_type  text NOT NULL,
    entity_id    text NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    place        text NOT NULL,
    outcome      text NOT NULL,
    detail       jsonb NOT NULL,
    sent_at      timestamptz
);
CREATE INDEX audit_outbox_open ON {schema}_records.audit_outbox (n) WHERE sent_at IS NULL;
CREATE INDEX audit_outbox_patient ON {schema}_records.audit_outbox (patient_id, at);
CREATE INDEX audit_outbox_event ON {schema}_records.audit_outbox (event_id);
CREATE INDEX audit_events_event ON {data}.audit_events (event_id);

CREATE FUNCTION {schema}_records.audit_as(
    name text, doing text, kind text, entity text, patient text, result text, facts jsonb) RETURNS text
    LANGUAGE sql SECURITY DEFINER SET search_path = {schema}_records, pg_temp AS $$
    INSERT INTO audit_outbox (patient_id, who, action, entity_type, entity_id, place, outcome, detail)
    VALUES (patient, name, doing, kind, entity, setting('place'), result,
            jsonb_strip_nulls(facts || jsonb_build_object(
                'patient', patient, 'role', nullif(setting('role'), ''), 'session', nullif(setting('session'), ''))))
    RETURNING event_id $$;

-- In the name of the acting user, and of nobody else.
CREATE FUNCTION {schema}_records.audit(
    doing text, kind text, entity text, patient text, result text, facts jsonb) RETURNS text
    LANGUAGE sql SECURITY DEFINER SET search_path = {schema}_records, pg_temp AS $$
    SELECT audit_as(CASE WHEN setting('user') <> '' THEN 'user:' || setting('user')
                         WHEN trusted() AND setting('who') <> '' THEN setting('who')
                         ELSE 'database:' || session_user END,
                    doing, kind, entity, patient, result, facts) $$;

-- Committed changes get their position when somebody numbers them, under a lock: a transaction that commits late gets
-- a late position, and a position that was read is never followed by an earlier one.
CREATE TABLE {schema}_records.changes_new (
    n           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record      text NOT NULL,
    id          text NOT NULL,
    patient_id  text,
    verb        text NOT NULL,
    version     integer NOT NULL,
    status      text,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    detail      jsonb NOT NULL DEFAULT '{}',
    facts       jsonb NOT NULL DEFAULT '{}'
);
CREATE TABLE {schema}_records.changes (
    position    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record      text NOT NULL,
    id          text NOT NULL,
    patient_id  text,
    verb        text NOT NULL,
    version     integer NOT NULL,
    status      text,
    at          timestamptz NOT NULL,
    detail      jsonb NOT NULL,
    facts       jsonb NOT NULL
);
CREATE INDEX changes_at ON {schema}_records.changes (at);

CREATE FUNCTION {schema}_records.number_changes() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, pg_temp AS $$
DECLARE made bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('{schema}', 7));
    WITH taken AS (
        DELETE FROM changes_new WHERE n IN (SELECT n FROM changes_new ORDER BY n LIMIT 5000) RETURNING *)
    INSERT INTO changes (record, id, patient_id, verb, version, status, at, detail, facts)
    SELECT record, id, patient_id, verb, version, status, at, detail, facts FROM taken ORDER BY n;
    GET DIAGNOSTICS made = ROW_COUNT;
    RETURN made;
END $$;

-- Every version of every record, as its row was.
CREATE TABLE {schema}_records.record_versions (
    record      text NOT NULL,
    id          text NOT NULL,
    version     integer NOT NULL,
    patient_id  text,
    verb        text NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    by          text NOT NULL,
    doc         jsonb NOT NULL,
    PRIMARY KEY (record, id, version)
);
CREATE INDEX record_versions_patient ON {schema}_records.record_versions (patient_id);

-- --- the wall -------------------------------------------------------------------------------------------------------

-- Before: what may be done. Runs as whoever speaks, so that row_security_active tells the application from the owner.
CREATE FUNCTION {schema}_records.guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    doing text := {schema}_records.setting('verb');
    rule {schema}_records.record_verbs;
    actor text := coalesce(nullif({schema}_records.setting('user'), ''), nullif({schema}_records.setting('who'), ''),
                           session_user);
    was jsonb := '{}';
    now_is jsonb;
    stamped jsonb := '{}';
    stamp record;
    wrong text;
BEGIN
    rule := {schema}_records.rule_of(TG_ARGV[0], doing);
    IF rule.record IS NULL THEN
        RAISE EXCEPTION '% has no verb "%"', TG_ARGV[0], doing USING ERRCODE = 'VG409';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        was := to_jsonb(OLD);
        IF OLD.withdrawn_at IS NOT NULL AND doing <> 'expire' THEN
            RAISE EXCEPTION '% was withdrawn', TG_ARGV[0] USING ERRCODE = 'VG409';
        END IF;
        IF NOT OLD.status = ANY (rule.from_states) THEN
            RAISE EXCEPTION '% cannot % while it is %', TG_ARGV[0], doing, OLD.status USING ERRCODE = 'VG409';
        END IF;
        NEW.version := OLD.version + 1;
        NEW.status := coalesce(rule.to_state, OLD.status);
    ELSE
        IF rule.from_states <> '{}' THEN
            RAISE EXCEPTION '% is not made by %', TG_ARGV[0], doing USING ERRCODE = 'VG409';
        END IF;
        NEW.version := 1;
        NEW.status := rule.to_state;
        NEW.created_at := clock_timestamp();
        NEW.created_by := actor;
    END IF;
    NEW.changed_at := clock_timestamp();
    NEW.changed_by := actor;
    now_is := to_jsonb(NEW);
    -- Whatever the verb does not take is as it was; at creation it is empty.
    SELECT string_agg(k.key, ', ' ORDER BY k.key) INTO wrong FROM jsonb_each(now_is) AS k
    WHERE NOT k.key = ANY (rule.columns)
      AND k.key NOT IN ('id', 'version', 'status', 'created_at', 'created_by', 'changed_at', 'changed_by', 'published')
      AND CASE TG_OP WHEN 'UPDATE' THEN k.value IS DISTINCT FROM was->k.key
                     ELSE k.value NOT IN ('null', '""', '[]', '{}', 'false', '0') END;
    IF wrong IS NULL AND TG_OP = 'UPDATE' AND (NEW.id, NEW.created_at, NEW.created_by)
            IS DISTINCT FROM (OLD.id, OLD.created_at, OLD.created_by) THEN
        wrong := 'id, created_at, created_by';
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION '% of % cannot be set by %', wrong, TG_ARGV[0], doing USING ERRCODE = 'VG409';
    END IF;
    FOR stamp IN SELECT key, value FROM jsonb_each_text(rule.stamps) LOOP
        stamped := stamped || CASE
            WHEN stamp.value = 'user' THEN jsonb_build_object(stamp.key, actor)
            WHEN stamp.value = 'now' THEN jsonb_build_object(stamp.key, NEW.changed_at)
            WHEN stamp.value = 'next' THEN jsonb_build_object(stamp.key, coalesce((was->>stamp.key)::integer, 0) + 1)
            WHEN now_is->stamp.key IS DISTINCT FROM 'null' THEN '{}'
            WHEN stamp.value = 'today' THEN jsonb_build_object(stamp.key, NEW.changed_at::date)
            ELSE jsonb_build_object(stamp.key, NEW.changed_at)
        END;
    END LOOP;
    NEW := jsonb_populate_record(NEW, stamped);
    IF row_security_active(TG_RELID) THEN
        IF TG_OP = 'INSERT' THEN
            was := now_is;
        END IF;
        IF NOT {schema}_records.may(TG_ARGV[0], doing, NEW.patient_id, was) THEN
            RAISE EXCEPTION 'role % may not % this %', {schema}_records.setting('role'), doing, TG_ARGV[0]
                USING ERRCODE = 'insufficient_privilege';
        END IF;
    END IF;
    RETURN NEW;
END $$;

-- After: what is kept of it. Runs as the owner: no speaker can leave it out or write anything else.
CREATE FUNCTION {schema}_records.keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
DECLARE
    doc jsonb := to_jsonb(NEW);
    doing text := setting('verb');
    was jsonb := '{}';
    names text[];
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was := to_jsonb(OLD);
        IF was ? 'effective_to' THEN
            UPDATE record_versions SET doc = record_versions.doc || jsonb_build_object('effective_to', NEW.changed_at)
            WHERE record = TG_ARGV[0] AND id = NEW.id AND version = OLD.version;
        END IF;
    END IF;
    INSERT INTO record_versions (record, id, version, patient_id, verb, by, doc)
    VALUES (TG_ARGV[0], NEW.id, NEW.version, NEW.patient_id, doing, NEW.changed_by, doc);
    SELECT coalesce(array_agg(k.key ORDER BY k.key), '{}') INTO names FROM jsonb_each(doc) AS k
    WHERE k.value IS DISTINCT FROM was->k.key AND k.value <> 'null'
      AND k.key NOT IN ('id', 'patient_id', 'version', 'changed_at', 'changed_by', 'created_at', 'created_by')
      AND k.key NOT LIKE '%\_index';
    PERFORM audit(TG_ARGV[0] || '.' || doing, TG_ARGV[0], NEW.id, NEW.patient_id, 'success',
                  jsonb_build_object('version', NEW.version, 'status', NEW.status, 'fields', names));
    INSERT INTO changes_new (record, id, patient_id, verb, version, status, facts)
    VALUES (TG_ARGV[0], NEW.id, NEW.patient_id, doing, NEW.version, NEW.status,
            jsonb_strip_nulls(jsonb_build_object(
                'published', doc->'published', 'created_by', doc->'created_by', 'from_user', doc->'from_user',
                'to_user', doc->'to_user', 'to_side', doc->'to_side')));
    PERFORM pg_notify('records', '{schema}');
    RETURN NULL;
END $$;

-- --- tables ---------------------------------------------------------------------------------------------------------

CREATE TABLE {schema}_records.patient_profiles (
    id                          text PRIMARY KEY,
    patient_id                  text NOT NULL UNIQUE REFERENCES {data}.patients,
    medical_record_number       bytea NOT NULL,
    medical_record_number_index text NOT NULL UNIQUE,
    display_name                bytea NOT NULL,
    display_name_index          text NOT NULL,
    date_of_birth               bytea NOT NULL,
    date_of_birth_index         text NOT NULL,
    contact                     bytea,
    primary_clinic              text,
    time_zone                   text NOT NULL DEFAULT 'UTC',
    preferences                 jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT patient_profiles_same CHECK (id = patient_id)
);
CREATE INDEX patient_profiles_name ON {schema}_records.patient_profiles (display_name_index);
CREATE INDEX patient_profiles_born ON {schema}_records.patient_profiles (date_of_birth_index);

CREATE TABLE {schema}_records.monitoring_logs (
    id            text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    patient_id    text NOT NULL REFERENCES {data}.patients,
    data          jsonb NOT NULL,
    timestamp     timestamptz NOT NULL,
    device_status text,
    note          text,
    reviewed_by   text,
    reviewed_at   timestamptz,
    published_at  timestamptz,
    published_by  text
);

CREATE TABLE {schema}_records.ecg_reports (
    id            text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    patient_id    text NOT NULL REFERENCES {data}.patients,
    ordered_by    text REFERENCES {data}.clinicians,
    report_type   text NOT NULL,
    report_data   jsonb NOT NULL DEFAULT '[]',
    result_data   jsonb,
    conclusion    text,
    source        text NOT NULL DEFAULT 'hand',
    recorded_at   timestamptz,
    reported_at   timestamptz,
    published_at  timestamptz,
    published_by  text
);

CREATE TABLE {schema}_records.cardiac_rehab_logs (
    id              text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    patient_id      text NOT NULL REFERENCES {data}.patients,
    provider        text REFERENCES {data}.clinicians,
    exercise_type   text NOT NULL,
    duration        double precision,
    calories_burned double precision,
    date            timestamptz NOT NULL,
    session_details jsonb,
    effective_from  timestamptz,
    effective_to    timestamptz
);

CREATE TABLE {schema}_records.messages (
    id              text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    patient_id      text NOT NULL REFERENCES {data}.patients,
    conversation_id text NOT NULL DEFAULT '',
    from_user       text,
    to_user         text REFERENCES {schema}_records.users,
    to_side         text,
    body            text NOT NULL,
    attachments     jsonb NOT NULL DEFAULT '[]',
    sent_at         timestamptz,
    delivered_at    timestamptz,
    read_at         timestamptz,
    read_by         text,
    legal_hold      boolean NOT NULL DEFAULT false
);
CREATE INDEX messages_thread ON {schema}_records.messages (conversation_id, sent_at);
CREATE INDEX messages_unread ON {schema}_records.messages (patient_id) WHERE read_at IS NULL;

CREATE TABLE {schema}_records.appointments (
    id               text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    patient_id       text NOT NULL REFERENCES {data}.patients,
    provider         text NOT NULL REFERENCES {data}.clinicians,
    start_at         timestamptz NOT NULL,
    end_at           timestamptz NOT NULL,
    location         text,
    reason           text,
    cancelled_reason text,
    sequence         integer NOT NULL DEFAULT 0,
    CONSTRAINT appointments_last CHECK (start_at < end_at)
);

CREATE TABLE {schema}_records.lab_results (
    id              text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    patient_id      text NOT NULL REFERENCES {data}.patients,
    ordered_by      text REFERENCES {data}.clinicians,
    test_code       text NOT NULL,
    test_name       text NOT NULL,
    result_value    jsonb NOT NULL,
    units           text,
    reference_range jsonb,
    abnormal_flag   text,
    collected_at    timestamptz,
    attachments     jsonb NOT NULL DEFAULT '[]',
    published_at    timestamptz,
    published_by    text
);

CREATE TABLE {schema}_records.treatment_plans (
    id              text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    patient_id      text NOT NULL REFERENCES {data}.patients,
    kind            text NOT NULL,
    summary         text NOT NULL,
    details         jsonb,
    start_date      date,
    end_date        date,
    alert_overrides jsonb NOT NULL DEFAULT '{}'
);

-- What all have: state, versions, withdrawal, whether the patient may see it; indexes, policies and triggers.
DO $do$
DECLARE
    one text[];
    shown text;
BEGIN
    FOREACH one SLICE 1 IN ARRAY ARRAY[
        ['patient_profiles', 'patient_profile', 'true', 'patient_id'],
        ['monitoring_logs', 'monitoring_log', 'published_at IS NOT NULL', 'timestamp'],
        ['ecg_reports', 'ecg_report', 'published_at IS NOT NULL', 'recorded_at'],
        ['cardiac_rehab_logs', 'cardiac_rehab_log', 'true', 'date'],
        ['messages', 'message', 'true', 'sent_at'],
        ['appointments', 'appointment', 'true', 'start_at'],
        ['lab_results', 'lab_result', 'published_at IS NOT NULL', 'collected_at'],
        ['treatment_plans', 'treatment_plan', $$status <> 'draft'$$, 'created_at'],
        ['care_team', 'care_team', '', ''],
        ['break_glass', 'break_glass', '', '']
    ] LOOP
        IF one[3] <> '' THEN
            EXECUTE format(
                'ALTER TABLE {schema}_records.%I
                     ADD COLUMN status text NOT NULL DEFAULT '''',
                     ADD COLUMN version integer NOT NULL DEFAULT 1,
                     ADD COLUMN created_at timestamptz NOT NULL DEFAULT now(),
                     ADD COLUMN created_by text,
                     ADD COLUMN changed_at timestamptz NOT NULL DEFAULT now(),
                     ADD COLUMN changed_by text,
                     ADD COLUMN withdrawn_at timestamptz,
                     ADD COLUMN withdrawn_reason text', one[1]);
            EXECUTE format(
                'ALTER TABLE {schema}_records.%I ADD COLUMN published boolean NOT NULL GENERATED ALWAYS AS (%s) STORED',
                one[1], one[3]);
            EXECUTE format('CREATE INDEX ON {schema}_records.%I (patient_id, %I)', one[1], one[4]);
        END IF;
        shown := format(
            'patient_id = ANY ((SELECT {schema}_records.seen(%1$L, ''read'', ''''))::text[])
             OR (published AND patient_id = ANY ((SELECT {schema}_records.seen(%1$L, ''read'', ''published''))::text[]))',
            one[2]);
        IF one[1] = 'messages' THEN
            shown := shown || ' OR (patient_id = ANY ((SELECT {schema}_records.seen(''message'', ''read'', ''party''))::text[])
                AND (from_user = {schema}_records.setting(''user'') OR to_user = {schema}_records.setting(''user'')
                     OR (to_user IS NULL AND {schema}_records.on_side(to_side))))';
        END IF;
        EXECUTE format('ALTER TABLE {schema}_records.%I ENABLE ROW LEVEL SECURITY', one[1]);
        EXECUTE format('CREATE POLICY seen ON {schema}_records.%I FOR SELECT TO {schema}_app USING (%s)', one[1], shown);
        EXECUTE format('CREATE POLICY made ON {schema}_records.%I FOR INSERT TO {schema}_app
            WITH CHECK ({schema}_records.acting_role() IS NOT NULL)', one[1]);
        EXECUTE format('CREATE POLICY changed ON {schema}_records.%I FOR UPDATE TO {schema}_app USING (%s)
            WITH CHECK ({schema}_records.acting_role() IS NOT NULL)', one[1], shown);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON {schema}_records.%I TO {schema}_app', one[1]);
        IF one[1] <> 'care_team' THEN
            EXECUTE format('CREATE TRIGGER a_guard BEFORE INSERT OR UPDATE ON {schema}_records.%I
                FOR EACH ROW EXECUTE FUNCTION {schema}_records.guard(%L)', one[1], one[2]);
            EXECUTE format('CREATE TRIGGER z_keep AFTER INSERT OR UPDATE ON {schema}_records.%I
                FOR EACH ROW EXECUTE FUNCTION {schema}_records.keep(%L)', one[1], one[2]);
        END IF;
    END LOOP;
END $do$;

-- Teams are changed by the registry, which writes its own outbox: only what is said of one patient goes through here.
CREATE TRIGGER a_guard BEFORE INSERT OR UPDATE ON {schema}_records.care_team
    FOR EACH ROW WHEN (NEW.patient_id IS NOT NULL) EXECUTE FUNCTION {schema}_records.guard('care_team');
CREATE TRIGGER z_keep AFTER INSERT OR UPDATE ON {schema}_records.care_team
    FOR EACH ROW WHEN (NEW.patient_id IS NOT NULL) EXECUTE FUNCTION {schema}_records.keep('care_team');
CREATE POLICY teams ON {schema}_records.care_team AS RESTRICTIVE FOR ALL TO {schema}_app
    USING (patient_id IS NOT NULL) WITH CHECK (patient_id IS NOT NULL);

ALTER TABLE {schema}_records.appointments
    ADD CONSTRAINT appointments_provider_once EXCLUDE USING gist (
        provider WITH =, tstzrange(start_at, end_at) WITH &&) WHERE (status = 'booked'),
    ADD CONSTRAINT appointments_patient_once EXCLUDE USING gist (
        patient_id WITH =, tstzrange(start_at, end_at) WITH &&) WHERE (status = 'booked');
CREATE UNIQUE INDEX treatment_plans_one_active ON {schema}_records.treatment_plans (patient_id, kind)
    WHERE status = 'active';

-- --- what some do besides ------------------------------------------------------------------------------------------------

-- A message is its writer's own, and goes to somebody who has to do with the patient.
CREATE FUNCTION {schema}_records.reaches(someone text, patient text) RETURNS boolean STABLE LANGUAGE sql
    SECURITY DEFINER SET search_path = {schema}_records, pg_temp AS $$
    SELECT EXISTS (SELECT FROM relations WHERE user_id = someone AND patient_id = patient
                   AND relation IN ('own', 'assigned')) $$;
CREATE FUNCTION {schema}_records.address() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.to_side := CASE {schema}_records.setting('role') WHEN 'patient' THEN 'care' ELSE 'patient' END;
    IF NEW.to_user IS NOT NULL AND NOT {schema}_records.reaches(NEW.to_user, NEW.patient_id) THEN
        RAISE EXCEPTION 'the recipient is neither the patient nor on the care team' USING ERRCODE = 'VG422';
    END IF;
    IF NEW.conversation_id = '' THEN
        NEW.conversation_id := NEW.id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER b_address BEFORE INSERT ON {schema}_records.messages
    FOR EACH ROW EXECUTE FUNCTION {schema}_records.address();
-- A thread is about one patient.
CREATE FUNCTION {schema}_records.thread_is(thread text, patient text) RETURNS boolean STABLE LANGUAGE sql
    SECURITY DEFINER SET search_path = {schema}_records, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM messages WHERE conversation_id = thread AND patient_id <> patient) $$;
ALTER TABLE {schema}_records.messages ADD CONSTRAINT messages_one_patient
    CHECK ({schema}_records.thread_is(conversation_id, patient_id));

-- The registry's outbox, for what records say of a patient (see vitalgate.storage.outbox, which says the same).
CREATE FUNCTION {schema}_records.tell_patient(patient text) RETURNS void LANGUAGE plpgsql
    SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('{schema}', 2));
    INSERT INTO registry_outbox (topic, key, value)
    SELECT 'registry.patients', p.patient_id, jsonb_build_object(
        'patient', p.patient_id, 'team', p.team, 'overrides', p.overrides,
        'zones', (SELECT jsonb_agg(jsonb_build_object('from', nullif(z.since, '-infinity'), 'zone', z.zone)
                                   ORDER BY z.since)
                  FROM patient_zones z WHERE z.patient_id = p.patient_id))
    FROM patients p WHERE p.patient_id = patient;
    PERFORM pg_notify('registry', '{schema}');
END $$;
REVOKE EXECUTE ON FUNCTION {schema}_records.tell_patient(text) FROM PUBLIC;

-- A profile registers a patient that is not registered yet; its time zone is the registry's.
CREATE FUNCTION {schema}_records.enrol() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO patients (patient_id, team)
        VALUES (NEW.patient_id, coalesce(nullif(setting('team'), ''), 'care')) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            INSERT INTO patient_zones VALUES (NEW.patient_id, '-infinity', NEW.time_zone);
            PERFORM tell_patient(NEW.patient_id);
            RETURN NEW;
        END IF;
    END IF;
    IF NEW.time_zone IS DISTINCT FROM (SELECT zone FROM patient_zones WHERE patient_id = NEW.patient_id
                                       AND since <= now() ORDER BY since DESC LIMIT 1) THEN
        INSERT INTO patient_zones VALUES (NEW.patient_id, now(), NEW.time_zone)
        ON CONFLICT (patient_id, since) DO UPDATE SET zone = excluded.zone;
        PERFORM tell_patient(NEW.patient_id);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER b_enrol BEFORE INSERT OR UPDATE OF time_zone ON {schema}_records.patient_profiles
    FOR EACH ROW EXECUTE FUNCTION {schema}_records.enrol();

-- An active plan's alert limits are the patient's, marked as the plan's, and go when it is not active any more.
CREATE FUNCTION {schema}_records.apply_limits() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
DECLARE
    mark text := 'plan:' || NEW.id;
    wanted jsonb := CASE WHEN NEW.status = 'active' THEN NEW.alert_overrides ELSE '{}' END;
    was jsonb;
    made jsonb := '{}';
    rule text;
    entries jsonb;
BEGIN
    SELECT overrides INTO was FROM patients WHERE patient_id = NEW.patient_id FOR UPDATE;
    FOR rule IN SELECT jsonb_object_keys(was) UNION SELECT jsonb_object_keys(wanted) LOOP
        entries := was->rule;
        IF left(rule, 1) <> '_' THEN
            entries := CASE jsonb_typeof(entries) WHEN 'array' THEN entries WHEN 'object' THEN jsonb_build_array(entries)
                       ELSE '[]' END;
            SELECT coalesce(jsonb_agg(e ORDER BY n), '[]') INTO entries
            FROM jsonb_array_elements(entries) WITH ORDINALITY AS x (e, n) WHERE e->>'author' IS DISTINCT FROM mark;
            IF wanted ? rule THEN
                SELECT entries || coalesce(jsonb_agg(e || jsonb_build_object('author', mark) ORDER BY n), '[]') INTO entries
                FROM jsonb_array_elements(CASE jsonb_typeof(wanted->rule) WHEN 'array' THEN wanted->rule
                                          ELSE jsonb_build_array(wanted->rule) END) WITH ORDINALITY AS x (e, n);
            END IF;
            IF jsonb_array_length(entries) = 1 AND jsonb_typeof(was->rule) = 'object' THEN
                entries := entries->0;
            END IF;
            CONTINUE WHEN entries = '[]';
        END IF;
        made := made || jsonb_build_object(rule, entries);
    END LOOP;
    IF made <> was THEN
        UPDATE patients SET overrides = made, updated_at = now() WHERE patient_id = NEW.patient_id;
        PERFORM tell_patient(NEW.patient_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER z_limits AFTER UPDATE ON {schema}_records.treatment_plans
    FOR EACH ROW WHEN (OLD.status = 'active' OR NEW.status = 'active')
    EXECUTE FUNCTION {schema}_records.apply_limits();

-- Earlier versions: what could be seen of the record as it then was.
ALTER TABLE {schema}_records.record_versions ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON {schema}_records.record_versions FOR SELECT TO {schema}_app
    USING ({schema}_records.may(record, 'read', patient_id, doc));
GRANT SELECT ON {schema}_records.record_versions TO {schema}_app;

CREATE FUNCTION {schema}_records.user_of(patient text) RETURNS text STABLE LANGUAGE sql SECURITY DEFINER
    SET search_path = {schema}_records, pg_temp AS $$
    SELECT id FROM users WHERE patient_id = patient
        AND (trusted() OR relation_to(patient) IN ('own', 'assigned') OR acting_role() = 'administrator') $$;

-- --- accounts -------------------------------------------------------------------------------------------------------

CREATE FUNCTION {schema}_records.sees_user(what text, owner text) RETURNS boolean STABLE LANGUAGE sql SECURITY DEFINER
    SET search_path = {schema}_records, pg_temp AS $$
    SELECT EXISTS (SELECT FROM permissions p WHERE p.record = what AND p.verb = 'read' AND p.role = acting_role()
                   AND p.relation = CASE WHEN owner = setting('user') THEN 'own' ELSE 'stranger' END) $$;

ALTER TABLE {schema}_records.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}_records.user_roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}_records.sessions ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON {schema}_records.users FOR SELECT TO {schema}_app USING ({schema}_records.sees_user('user', id));
CREATE POLICY seen ON {schema}_records.user_roles FOR SELECT TO {schema}_app
    USING ({schema}_records.sees_user('user', user_id));
CREATE POLICY seen ON {schema}_records.sessions FOR SELECT TO {schema}_app
    USING ({schema}_records.sees_user('session', user_id));
CREATE POLICY accounts ON {schema}_records.users TO {schema}_auth USING (true) WITH CHECK (true);
CREATE POLICY accounts ON {schema}_records.user_roles TO {schema}_auth USING (true) WITH CHECK (true);
CREATE POLICY accounts ON {schema}_records.sessions TO {schema}_auth USING (true) WITH CHECK (true);
GRANT SELECT (id, email, email_index, display_name, patient_id, clinician_id, status, email_verified_at, locked_until,
    created_at, version, totp_confirmed_at) ON {schema}_records.users TO {schema}_app;
GRANT SELECT ON {schema}_records.user_roles, {schema}_records.sessions TO {schema}_app;
GRANT SELECT, INSERT, UPDATE ON {schema}_records.users, {schema}_records.user_roles, {schema}_records.user_identities,
    {schema}_records.sessions, {schema}_records.session_tokens, {schema}_records.user_tokens TO {schema}_auth;
GRANT DELETE ON {schema}_records.session_tokens TO {schema}_auth;

REVOKE EXECUTE ON FUNCTION {schema}_records.audit_as(text, text, text, text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {schema}_records.audit_as(text, text, text, text, text, text, jsonb) TO {schema}_auth;
REVOKE EXECUTE ON FUNCTION {schema}_records.number_changes() FROM PUBLIC;

-- Patients read by what name somebody goes who looked at their record.
CREATE FUNCTION {schema}_records.name_clinician(clinician text, said text) RETURNS void LANGUAGE sql SECURITY DEFINER
    SET search_path = {data}, pg_temp AS $$
    UPDATE clinicians SET name = said, updated_at = now() WHERE clinician_id = clinician AND name = '' $$;
REVOKE EXECUTE ON FUNCTION {schema}_records.name_clinician(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {schema}_records.name_clinician(text, text) TO {schema}_auth;
