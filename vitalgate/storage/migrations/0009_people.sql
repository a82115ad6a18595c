-- People: users with their roles and sessions, and who looks after whom. In a schema of their own, which the
-- application's role may enter; tables over time stay in one that it may not.

CREATE SCHEMA {schema}_records;

-- Two roles without log-in, which a connection takes on for a transaction: _app sees records, always as some user;
-- _auth sees accounts and sessions, and no record.
DO $do$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['{schema}_app', '{schema}_auth'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', wanted);
            EXCEPTION WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'role % is missing and % may not create it: have a superuser run CREATE ROLE % NOLOGIN; GRANT % TO %',
                    wanted, current_user, wanted, wanted, current_user;
            END;
        END IF;
        IF NOT pg_has_role(current_user, wanted, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
        END IF;
    END LOOP;
END $do$;
GRANT USAGE ON SCHEMA {schema}_records TO {schema}_app, {schema}_auth;

-- --- users and sessions ---------------------------------------------------------------------------------------------

-- A clinician may have a user account without being a user of the broker.
ALTER TABLE {data}.clinicians ALTER COLUMN credential_hash SET DEFAULT '';

CREATE TABLE {schema}_records.users (
    id                text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    email             bytea NOT NULL,
    email_index       text NOT NULL UNIQUE,
    display_name      bytea NOT NULL,
    password_hash     text NOT NULL DEFAULT '',
    totp_secret       bytea,
    totp_confirmed_at timestamptz,
    totp_last_step    bigint,
    patient_id        text UNIQUE REFERENCES {data}.patients,
    clinician_id      text UNIQUE REFERENCES {data}.clinicians,
    asked_role        text,
    status            text NOT NULL DEFAULT 'pending' CHECK (status IN ('invited', 'pending', 'active', 'disabled')),
    email_verified_at timestamptz,
    failures          integer NOT NULL DEFAULT 0,
    locked_until      timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    changed_at        timestamptz NOT NULL DEFAULT now(),
    version           integer NOT NULL DEFAULT 1
);

CREATE TABLE {schema}_records.user_roles (
    user_id     text NOT NULL REFERENCES {schema}_records.users,
    role        text NOT NULL CHECK (role IN ('patient', 'clinician', 'administrator', 'device_manager')),
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, role)
);

CREATE TABLE {schema}_records.user_identities (
    issuer      text NOT NULL,
    subject     text NOT NULL,
    user_id     text NOT NULL REFERENCES {schema}_records.users,
    linked_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);

CREATE TABLE {schema}_records.sessions (
    id            text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    user_id       text NOT NULL REFERENCES {schema}_records.users,
    application   text NOT NULL DEFAULT '',
    place         text NOT NULL DEFAULT '',
    second_factor boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    ended_because text
);
CREATE INDEX sessions_user ON {schema}_records.sessions (user_id, created_at);

-- Only hashes of tokens are kept. A refresh token that was used stays until its session ends: shown again, it tells
-- of a theft.
CREATE TABLE {schema}_records.session_tokens (
    hash        bytea PRIMARY KEY,
    session_id  text NOT NULL REFERENCES {schema}_records.sessions ON DELETE CASCADE,
    kind        text NOT NULL CHECK (kind IN ('access', 'refresh')),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz
);
CREATE INDEX session_tokens_session ON {schema}_records.session_tokens (session_id);

CREATE TABLE {schema}_records.user_tokens (
    hash        bytea PRIMARY KEY,
    user_id     text REFERENCES {schema}_records.users,
    purpose     text NOT NULL CHECK (purpose IN ('verify', 'reset', 'invite')),
    detail      jsonb NOT NULL DEFAULT '{}',
    made_at     timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz
);

-- --- care team ------------------------------------------------------------------------------------------------------

-- One table for both: a clinician named for a patient, and a clinician in a team whose patients' alerts come to it.
CREATE TABLE {schema}_records.care_team (
    id           text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    clinician_id text NOT NULL REFERENCES {data}.clinicians,
    patient_id   text REFERENCES {data}.patients,
    team         text CHECK (team <> ''),
    role         text NOT NULL DEFAULT 'member',
    from_time    timestamptz NOT NULL DEFAULT now(),
    to_time      timestamptz,
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'ended')),
    version      integer NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text,
    changed_at   timestamptz NOT NULL DEFAULT now(),
    changed_by   text,
    withdrawn_at timestamptz,
    withdrawn_reason text,
    published    boolean NOT NULL GENERATED ALWAYS AS (true) STORED,
    CONSTRAINT care_team_one_side CHECK ((patient_id IS NULL) <> (team IS NULL)),
    CONSTRAINT care_team_ended CHECK ((status = 'ended') = (to_time IS NOT NULL))
);
CREATE UNIQUE INDEX care_team_patient ON {schema}_records.care_team (patient_id, clinician_id)
    WHERE status = 'active' AND patient_id IS NOT NULL;
CREATE UNIQUE INDEX care_team_team ON {schema}_records.care_team (team, clinician_id)
    WHERE status = 'active' AND team IS NOT NULL;
CREATE INDEX care_team_clinician ON {schema}_records.care_team (clinician_id);
CREATE INDEX care_team_of_patient ON {schema}_records.care_team (patient_id);
CREATE INDEX care_team_of_team ON {schema}_records.care_team (team);

INSERT INTO {schema}_records.care_team (clinician_id, team, from_time, created_by)
SELECT clinician_id, team, since, 'registry' FROM {data}.clinician_teams;
DROP TABLE {data}.clinician_teams;
CREATE VIEW {data}.clinician_teams AS
SELECT clinician_id, team, from_time AS since FROM {schema}_records.care_team
WHERE team IS NOT NULL AND status = 'active';

-- Which team a patient's alerts go to, with its history.
CREATE TABLE {schema}_records.patient_teams (
    patient_id  text NOT NULL REFERENCES {data}.patients,
    team        text NOT NULL,
    from_time   timestamptz NOT NULL,
    to_time     timestamptz,
    PRIMARY KEY (patient_id, from_time, team)
);
CREATE INDEX patient_teams_team ON {schema}_records.patient_teams (team);
CREATE UNIQUE INDEX patient_teams_now ON {schema}_records.patient_teams (patient_id) WHERE to_time IS NULL;
INSERT INTO {schema}_records.patient_teams SELECT patient_id, team, created_at FROM {data}.patients;

CREATE FUNCTION {schema}_records.note_team() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.team = NEW.team THEN
        RETURN NULL;
    END IF;
    UPDATE patient_teams SET to_time = clock_timestamp() WHERE patient_id = NEW.patient_id AND to_time IS NULL;
    INSERT INTO patient_teams VALUES (NEW.patient_id, NEW.team, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER patients_team AFTER INSERT OR UPDATE OF team ON {data}.patients
    FOR EACH ROW EXECUTE FUNCTION {schema}_records.note_team();

-- Who has opened a record without being on the care team, why, and until when.
CREATE TABLE {schema}_records.break_glass (
    id           text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    patient_id   text NOT NULL REFERENCES {data}.patients,
    user_id      text NOT NULL REFERENCES {schema}_records.users,
    reason       text NOT NULL CHECK (length(reason) BETWEEN 5 AND 500),
    until        timestamptz NOT NULL,
    ended_at     timestamptz,
    status       text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'ended')),
    version      integer NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text,
    changed_at   timestamptz NOT NULL DEFAULT now(),
    changed_by   text,
    withdrawn_at timestamptz,
    withdrawn_reason text,
    published    boolean NOT NULL GENERATED ALWAYS AS (true) STORED,
    CONSTRAINT break_glass_short CHECK (until <= created_at + interval '24 hours')
);
CREATE INDEX break_glass_patient ON {schema}_records.break_glass (patient_id);
CREATE INDEX break_glass_user ON {schema}_records.break_glass (user_id);

-- --- who is what to whom --------------------------------------------------------------------------------------------

-- Every relation but stranger, one a user, role and patient: the one place where it is decided.
CREATE VIEW {schema}_records.relations AS
SELECT DISTINCT ON (user_id, role, patient_id) user_id, role, patient_id, relation
FROM (
    SELECT u.id AS user_id, 'patient' AS role, u.patient_id, 'own' AS relation, 0 AS rank
    FROM {schema}_records.users u WHERE u.patient_id IS NOT NULL AND u.status = 'active'
    UNION ALL
    SELECT u.id, 'clinician', m.patient_id,
           CASE WHEN m.status = 'active' AND c.state = 'active' THEN 'assigned' ELSE 'formerly' END,
           CASE WHEN m.status = 'active' AND c.state = 'active' THEN 1 ELSE 3 END
    FROM {schema}_records.care_team m
    JOIN {schema}_records.users u ON u.clinician_id = m.clinician_id AND u.status = 'active'
    JOIN {data}.clinicians c ON c.clinician_id = m.clinician_id
    WHERE m.patient_id IS NOT NULL
    UNION ALL
    SELECT u.id, 'clinician', p.patient_id,
           CASE WHEN m.status = 'active' AND p.to_time IS NULL AND c.state = 'active' THEN 'assigned'
                ELSE 'formerly' END,
           CASE WHEN m.status = 'active' AND p.to_time IS NULL AND c.state = 'active' THEN 1 ELSE 3 END
    FROM {schema}_records.care_team m
    JOIN {schema}_records.patient_teams p ON p.team = m.team
         AND (p.to_time IS NULL OR p.to_time > m.from_time) AND (m.to_time IS NULL OR m.to_time > p.from_time)
    JOIN {schema}_records.users u ON u.clinician_id = m.clinician_id AND u.status = 'active'
    JOIN {data}.clinicians c ON c.clinician_id = m.clinician_id
    WHERE m.team IS NOT NULL
    UNION ALL
    SELECT b.user_id, 'clinician', b.patient_id, 'break_glass', 2
    FROM {schema}_records.break_glass b
    JOIN {schema}_records.users u ON u.id = b.user_id AND u.status = 'active'
    JOIN {data}.clinicians c ON c.clinician_id = u.clinician_id AND c.state = 'active'
    WHERE b.status = 'open' AND b.until > statement_timestamp()
) AS known
ORDER BY user_id, role, patient_id, rank;
