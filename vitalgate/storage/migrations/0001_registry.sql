-- Who and what: patients, devices, assignments, and the outbox through which changes reach the registry topics.

CREATE EXTENSION IF NOT EXISTS btree_gist SCHEMA public;

CREATE TABLE {data}.patients (
    patient_id  text PRIMARY KEY CHECK (patient_id <> ''),
    team        text NOT NULL,
    overrides   jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE {data}.patient_zones (
    patient_id  text NOT NULL REFERENCES {data}.patients,
    since       timestamptz NOT NULL,
    zone        text NOT NULL,
    PRIMARY KEY (patient_id, since)
);

CREATE TABLE {data}.devices (
    device_id       text PRIMARY KEY CHECK (device_id <> ''),
    kind            text NOT NULL,
    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'revoked')),
    serial          text NOT NULL DEFAULT '',
    firmware        text NOT NULL DEFAULT '',
    credential_hash text NOT NULL DEFAULT '',
    attributes      jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    revoked_at      timestamptz
);

CREATE TABLE {data}.assignments (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id   text NOT NULL REFERENCES {data}.devices,
    patient_id  text NOT NULL REFERENCES {data}.patients,
    during      tstzrange NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT assignments_bounded_below CHECK (NOT isempty(during) AND NOT lower_inf(during)),
    CONSTRAINT assignments_closed_open CHECK (lower_inc(during) AND NOT upper_inc(during)),
    CONSTRAINT assignments_one_patient EXCLUDE USING gist (device_id WITH =, during WITH &&)
);
CREATE INDEX assignments_patient ON {data}.assignments (patient_id);

CREATE TABLE {data}.registry_outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic       text NOT NULL,
    key         text NOT NULL,
    value       jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    applied_at  timestamptz
);
CREATE INDEX registry_outbox_open ON {data}.registry_outbox (id) WHERE applied_at IS NULL;
