-- What the operator wishes a device to do, as it is retained on the device's `down` topic; and who made a change.

CREATE TABLE {data}.device_settings (
    device_id   text PRIMARY KEY REFERENCES {data}.devices,
    revision    integer NOT NULL CHECK (revision > 0),
    settings    jsonb NOT NULL CHECK (jsonb_typeof(settings) = 'object'),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE {data}.registry_outbox ADD COLUMN who text NOT NULL DEFAULT 'registry';
-- Whoever changes the registry sets it for the transaction; by hand in SQL it is the database's user.
ALTER TABLE {data}.registry_outbox
    ALTER COLUMN who SET DEFAULT coalesce(nullif(current_setting('vitalgate.who', true), ''), 'database:' || session_user);
