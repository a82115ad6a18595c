-- What the HTTP interface keeps besides the records: requests that were answered, files, notifications.

-- --- requests with an idempotency key --------------------------------------------------------------------------------

CREATE TABLE {schema}_records.api_requests (
    user_id      text NOT NULL REFERENCES {schema}_records.users,
    key          text NOT NULL,
    fingerprint  bytea NOT NULL,
    status       integer,
    body         bytea,
    etag         text,
    location     text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX api_requests_age ON {schema}_records.api_requests (created_at);
ALTER TABLE {schema}_records.api_requests ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}_records.api_requests TO {schema}_app
    USING (user_id = {schema}_records.setting('user')) WITH CHECK (user_id = {schema}_records.setting('user'));
GRANT SELECT, INSERT, UPDATE ON {schema}_records.api_requests TO {schema}_app;

-- --- files -----------------------------------------------------------------------------------------------------------

-- The bytes lie elsewhere, encrypted by a key of their own, which is here, wrapped by the key ring.
CREATE TABLE {schema}_records.files (
    id           text PRIMARY KEY,
    patient_id   text NOT NULL REFERENCES {data}.patients,
    name         bytea NOT NULL,
    media_type   text NOT NULL,
    size         bigint NOT NULL CHECK (size >= 0),
    sha256       bytea NOT NULL CHECK (length(sha256) = 32),
    sealed_key   bytea NOT NULL,
    created_by   text NOT NULL REFERENCES {schema}_records.users,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX files_patient ON {schema}_records.files (patient_id);
CREATE INDEX messages_files ON {schema}_records.messages USING gin (attachments jsonb_path_ops);
CREATE INDEX ecg_reports_files ON {schema}_records.ecg_reports USING gin (report_data jsonb_path_ops);
CREATE INDEX lab_results_files ON {schema}_records.lab_results USING gin (attachments jsonb_path_ops);

CREATE FUNCTION {schema}_records.may_add_file(patient text) RETURNS boolean STABLE LANGUAGE sql AS $$
    SELECT {schema}_records.acting_role() IN ('patient', 'clinician')
       AND {schema}_records.relation_to(patient) IN ('own', 'assigned') $$;

-- Who sees a record that names a file sees the file: the policies of those records hold inside of this one. Before any
-- does, whoever added it sees it, as long as they may look at the patient.
ALTER TABLE {schema}_records.files ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON {schema}_records.files FOR SELECT TO {schema}_app USING (
    (created_by = {schema}_records.setting('user')
        AND {schema}_records.relation_to(patient_id) IN ('own', 'assigned', 'break_glass'))
    OR EXISTS (SELECT FROM {schema}_records.messages m WHERE m.patient_id = files.patient_id
               AND m.attachments @> jsonb_build_array(jsonb_build_object('file', files.id)))
    OR EXISTS (SELECT FROM {schema}_records.ecg_reports r WHERE r.patient_id = files.patient_id
               AND r.report_data @> jsonb_build_array(jsonb_build_object('file', files.id)))
    OR EXISTS (SELECT FROM {schema}_records.lab_results l WHERE l.patient_id = files.patient_id
               AND l.attachments @> jsonb_build_array(jsonb_build_object('file', files.id))));
CREATE POLICY added ON {schema}_records.files FOR INSERT TO {schema}_app
    WITH CHECK (created_by = {schema}_records.setting('user') AND {schema}_records.may_add_file(patient_id));
GRANT SELECT, INSERT ON {schema}_records.files TO {schema}_app;

-- --- notifications ---------------------------------------------------------------------------------------------------

CREATE TABLE {schema}_records.notification_settings (
    user_id        text PRIMARY KEY REFERENCES {schema}_records.users,
    email          boolean NOT NULL DEFAULT false,
    webhook_url    text,
    webhook_secret bytea,
    muted          text[] NOT NULL DEFAULT '{}',
    quiet_from     time,
    quiet_to       time,
    zone           text NOT NULL DEFAULT 'UTC',
    changed_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT notification_settings_quiet CHECK ((quiet_from IS NULL) = (quiet_to IS NULL))
);

-- What a user is told: that something is there, and where; never what it says.
CREATE TABLE {schema}_records.notifications (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id     text NOT NULL REFERENCES {schema}_records.users,
    position    bigint NOT NULL,
    kind        text NOT NULL,
    record      text NOT NULL,
    record_id   text NOT NULL,
    patient_id  text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    read_at     timestamptz,
    UNIQUE (user_id, position)
);
CREATE INDEX notifications_user ON {schema}_records.notifications (user_id, id);

CREATE TABLE {schema}_records.notification_posts (
    notification_id bigint NOT NULL REFERENCES {schema}_records.notifications ON DELETE CASCADE,
    channel         text NOT NULL CHECK (channel IN ('email', 'webhook')),
    due_at          timestamptz NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    sent_at         timestamptz,
    failed_at       timestamptz,
    error           text,
    PRIMARY KEY (notification_id, channel)
);
CREATE INDEX notification_posts_due ON {schema}_records.notification_posts (due_at)
    WHERE sent_at IS NULL AND failed_at IS NULL;

-- Up to which change everybody has been told.
CREATE TABLE {schema}_records.notified (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    position  bigint NOT NULL
);

ALTER TABLE {schema}_records.notification_settings ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}_records.notifications ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}_records.notification_settings TO {schema}_app
    USING (user_id = {schema}_records.setting('user')) WITH CHECK (user_id = {schema}_records.setting('user'));
CREATE POLICY own ON {schema}_records.notifications TO {schema}_app
    USING (user_id = {schema}_records.setting('user')) WITH CHECK (user_id = {schema}_records.setting('user'));
GRANT SELECT, INSERT, UPDATE ON {schema}_records.notification_settings TO {schema}_app;
GRANT SELECT, UPDATE (read_at) ON {schema}_records.notifications TO {schema}_app;
