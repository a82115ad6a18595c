-- Who looks after patients: users of the broker that see and answer the alerts of their teams.

CREATE TABLE {data}.clinicians (
    clinician_id    text PRIMARY KEY CHECK (clinician_id <> ''),
    name            text NOT NULL DEFAULT '',
    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'revoked')),
    credential_hash text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    revoked_at      timestamptz
);

CREATE TABLE {data}.clinician_teams (
    clinician_id    text NOT NULL REFERENCES {data}.clinicians,
    team            text NOT NULL CHECK (team <> ''),
    since           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (clinician_id, team)
);
